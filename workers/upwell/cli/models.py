"""`upwell models`: which model made the items' vectors, the switch to another one while rankings go on, and what Triton
reads.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upwell.settings import Settings
    from upwell.store.models import ModelStore, Progress

models_app = typer.Typer(
    help="Model versions of item vectors: prepare another one, switch to it; write what Triton reads.",
    no_args_is_help=True,
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")]
ModelVersion = Annotated[str, typer.Argument(help="The version, as `upwell models list` shows it.")]
LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def models_list(
    config: Config = None,
    sets: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the versions, and how far the next one is prepared.

    \b
    Examples:
        upwell models list
        upwell models list --json
    """
    with _store(config, sets) as (_, store):
        found = store.progress()
        if as_json:
            print(
                json.dumps(
                    {"versions": [asdict(one.version) | {"lacking": one.lacking, "items": one.items} for one in found]}
                )
            )
            return
        if not found:
            held = ", ".join(store.of_items()) or "no items yet"
            print(f"{held}: no other version has been prepared; `upwell models prepare` does")
        for one in found:
            print(
                f"{one.version.state.value:10} {one.version.model_version}  served as {one.version.served_as}{_left(one)}"
            )


@models_app.command()
def prepare(
    served_as: Annotated[str, typer.Argument(help="Name on Triton of the model that is to follow.")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Let the items workers embed every item with another model, in the background; nobody uses it yet.

    The model must be loaded on Triton, and of the same kind as the one that is live: a text encoder, or with
    `items.modalities` beyond text a fusion such as `upwell train fusion` writes.

    \b
    Examples:
        upwell models prepare text_encoder_int8
        upwell models prepare item_features_gated
    """
    from upwell.inference.errors import InferenceError
    from upwell.items.worker import connect

    with _store(config, sets) as (settings, store):
        encoder = connect(settings, served_as)
        try:
            version = encoder.model_version
        except InferenceError as error:
            exits.fail(
                exits.INFRASTRUCTURE, f"{served_as} does not answer: {error}. Is it loaded on {settings.triton.url}?"
            )
        finally:
            encoder.close()
        held = store.of_items()
        if len(held) != 1:
            what = (
                "there are no items yet" if not held else f"items are under {len(held)} versions: a switch is under way"
            )
            exits.fail(exits.CONFIG, f"{what}; `upwell models list` tells more")
        own = settings.triton.text_encoder if settings.items.modalities == ["text"] else settings.triton.item_features
        if version == held[0]:
            exits.fail(exits.CONFIG, f"{served_as} serves {version}, which is live already")
        if not store.begin((held[0], own), (version, served_as)):
            exits.fail(exits.CONFIG, "another version is being prepared; `upwell models drop` gives it up")
        print(f"{version} is being prepared by the items workers; `upwell models switch {version}` when you are ready")


@models_app.command()
def switch(
    model_version: ModelVersion,
    config: Config = None,
    sets: Set = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until all is prepared, and until it is live.")
    ] = 600,
) -> None:
    """Go over to a prepared version: items, profiles and rankings together, at a recorded offset.

    Waits until every item is prepared, lets the items workers publish them under the version, and waits until it is
    live. Ctrl-C ends the waiting, not the switch.

    \b
    Examples:
        upwell models switch fusion-gated@0123456789ab
        upwell models switch fusion-gated@0123456789ab --wait 3600
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from upwell.store.models import State

    deadline = time.monotonic() + wait
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    with _store(config, sets) as (_, store):
        with bar:
            task = bar.add_task("preparing")
            while True:
                one = _one(store, model_version)
                bar.update(
                    task, description=one.version.state.value, total=one.items, completed=one.items - one.lacking
                )
                if one.version.state is State.LIVE:
                    break
                if one.version.state is State.RETIRED:
                    exits.fail(exits.CONFIG, f"{model_version} was live before; prepare it again to go back to it")
                if one.version.state is State.PREPARING and store.switch(model_version):
                    continue
                if time.monotonic() > deadline:
                    exits.fail(
                        exits.INFRASTRUCTURE,
                        f"{model_version} is {one.version.state.value} after {wait:g} s{_left(one)}. Do the items workers "
                        "run? Their log says what they wait for; run this again to go on waiting",
                    )
                time.sleep(LOOK_S)
        print(f"{model_version} is live")


@models_app.command()
def drop(model_version: ModelVersion, config: Config = None, sets: Set = None) -> None:
    """Give a preparation up, and what was prepared. What is live stays."""
    with _store(config, sets) as (_, store):
        if not store.drop(model_version):
            exits.fail(exits.CONFIG, f"{model_version} is not being prepared: see `upwell models list`")
        print(f"{model_version} is dropped")


@models_app.command()
def vectors(
    out: Annotated[Path, typer.Argument(help="safetensors file to write.")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Write the items' vectors to a file, which `upwell train vae` and `gan` take as conditions of their pictures.

    One float32 row an item that is not deleted, as rankings use it; a generator that was trained on them paints from any
    such vector.

    \b
    Examples:
        upwell models vectors fused.safetensors
        upwell train vae --conditions fused.safetensors
    """
    import numpy as np

    from upwell.cli.settings import load
    from upwell.store import database
    from upwell.store.published import PublishedStore
    from upwell.training import conditions

    with exits.mapped("models"), database.pool(load(config, sets).postgres) as connections:
        found = PublishedStore(connections).catalogue_vectors()
    versions = sorted({version for version, _ in found.values()})
    if len(versions) != 1:
        what = (
            f"items are under {' and '.join(versions)}: a switch is under way" if versions else "there are no items yet"
        )
        exits.fail(exits.CONFIG, f"{what}; `upwell models list` tells more")
    conditions.write(out, list(found), np.stack([vector for _, vector in found.values()]), versions[0])
    print(f"{len(found):,} vectors of {versions[0]}: {out}")


@models_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A folder that is made, or is empty.")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Write Triton's model repository: the packaged models, and those of the settings `[models]`.

    For a model server that `upwell up` does not run. Folders of models are named as they are on this machine.

    \b
    Examples:
        upwell models export ./repository
        upwell models export ./repository --set models.text_generator.device=cuda
    """
    from upwell.cli.settings import load
    from upwell.inference.repository import install
    from upwell.local.own_models import Served, resolve
    from upwell.local.paths import triton_models
    from upwell.settings import ConfigError

    try:
        own = resolve(load(config, sets).models, print)
    except ConfigError as error:
        exits.fail(exits.CONFIG, str(error))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        exits.fail(exits.CONFIG, f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    packaged = {found.parent.name: Served(found.parent.name, {}) for found in triton_models().glob("*/config.pbtxt")}
    for name, one in sorted((packaged | own).items()):
        install(folder, name, one.like, one.parameters)
        print(f"{name}{' of your own, like ' + one.like if name in own else ''}")


@contextmanager
def _store(config: Path | None, sets: list[str] | None) -> Iterator[tuple[Settings, ModelStore]]:
    """The settings and the database, once, with errors turned into one line and an exit code."""
    from upwell.cli.settings import load
    from upwell.store import database
    from upwell.store.models import ModelStore

    settings = load(config, sets)
    with exits.mapped("models"), database.pool(settings.postgres) as connections:
        yield settings, ModelStore(connections)


def _one(store: ModelStore, model_version: str) -> Progress:
    found = next((one for one in store.progress() if one.version.model_version == model_version), None)
    if found is None:
        exits.fail(exits.CONFIG, f"no version is called {model_version}: see `upwell models list`")
    return found


def _left(one: Progress) -> str:
    return f", {one.items - one.lacking:,} of {one.items:,} items prepared" if one.version.state == "preparing" else ""
