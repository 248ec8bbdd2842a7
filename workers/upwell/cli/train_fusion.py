"""`upwell train fusion`: how much of an item's vector its text, picture, sound and speech are, learned from interactions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli import exits
from upwell.cli.train_material import Source, bar, material

MODEL = "item_features"


def register(app: typer.Typer) -> None:
    """Add the command to `upwell train`."""
    app.command()(fusion)


def fusion(
    strategy: Annotated[
        str,
        typer.Option(
            help="mean, centred, weighted, concat, gated, late, contrastive; several, comma-separated; or all."
        ),
    ] = "all",
    dataset: Annotated[
        str,
        typer.Option(
            help="stamps: items with pictures and sounds, users that are made up. recorded: the interactions of the "
            "deployment of these settings, and the vectors that its workers stored."
        ),
    ] = "stamps",
    interactions: Annotated[Path | None, typer.Option(help="CSV file of your own interactions instead.")] = None,
    items: Annotated[Path | None, typer.Option(help="CSV file of the items in them.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Read the items' features from this file; made and kept there where it is missing."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="With recorded: interactions that came since; a time in ISO 8601, or s since 1970."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="With recorded: ... and before.")] = None,
    last: Annotated[
        int | None, typer.Option(help="With recorded: at most so many, the last ones. [default: 200,000]", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that gets the model's folder. [default: the cache's]")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder of table, plot and JSON. [default: report in --out]")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Triton's model repository, to put the model into, ready to be loaded.")
    ] = None,
    dimension: Annotated[
        int | None, typer.Option(help="Of the fused vectors. [default: the text encoder's, for late twice that]", min=1)
    ] = None,
    epochs: Annotated[int, typer.Option(help="At most; training ends sooner where it gains nothing.", min=1)] = 40,
    seed: Annotated[int, typer.Option(help="Decides projections, batches, and which items are kept cold.")] = 7,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: the report as one JSON object.")] = False,
) -> None:
    """Train how modalities become one vector, and compare with the mean on held-out interactions. Minutes on a CPU.

    Learns from the earlier 70% of the interactions, stops by the next 10%, and reports on the last 20%: how well a user's
    profile ranks the next item among all that are new to this user, with every modality, with each one missing, and for
    items that nobody met before. Writes the model that is best on the 10% as a folder of its version; Ctrl-C writes none.

    \b
    Examples:
        upwell train fusion
        upwell train fusion --strategy gated,concat --seed 3 --json
        upwell train fusion --interactions ratings.csv --items films.csv --strategy weighted --out models
        upwell train fusion --dataset recorded --config upwell.toml --from 2026-10-01 --repository /srv/triton
    """
    from upwell.cli.settings import load
    from upwell.evaluation import fusion as measures
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import fusion_runs
    from upwell.training.fusion import FusionError
    from upwell.training.fusion_features import FeaturesError
    from upwell.training.fusion_fit import Recipe

    settings = load(config, sets)
    parent = out or models_dir(default_cache()) / MODEL
    with bar() as tick:
        try:
            names = fusion_runs.known_strategies(strategy)
            source = Source(dataset, interactions, items, features, since, until, last)
            data, found = material(source, settings, tick)
            log = measures.log_of(data.interactions, found.items, settings)
            split = measures.split(log, len(found.items), seed=seed)
            outcome = fusion_runs.compare(
                found, split, names, settings, Recipe(epochs=epochs, seed=seed, threads=threads), data=data.name,
                dimension=dimension, say=lambda name, done, all_, _: tick(name, done, all_),
            )  # fmt: skip
        except (FusionError, FeaturesError, ValueError) as error:
            exits.fail(exits.CONFIG, str(error))
        except KeyboardInterrupt:
            print("stopped; nothing was written", file=sys.stderr)
            raise typer.Exit(130) from None
    best = outcome.models[outcome.best]
    trained = {"data": data.name, "seed": seed, **outcome.report["strategies"][outcome.best]}
    folder = fusion_runs.keep(best, parent, {"encoders": found.versions, "trained": trained})
    shown = outcome.report | {"version": folder.name, "model": str(folder)}
    text = measures.table(shown)
    _write(report or parent / "report", shown, text)
    next_steps = _serve(folder, repository)
    for note in (
        *data.notes,
        *found.notes[:5],
        text,
        f"{outcome.best} is best on the validation stretch: {folder}",
        *next_steps,
    ):
        print(note, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(shown))


def _serve(folder: Path, repository: Path | None) -> list[str]:
    """Into a repository, where one is given; what to do then, in words."""
    from upwell.training.fusion_serve import install

    if repository is None:
        return []
    try:
        name = install(folder, repository)
    except FileNotFoundError as error:
        exits.fail(exits.CONFIG, str(error))
    return [f"in {repository} as {name}: load it (`upwell up --model {name}`), then `upwell models prepare {name}`"]


def _write(folder: Path, report: dict[str, Any], text: str) -> None:
    from upwell.evaluation import fusion as measures

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fusion.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "fusion.txt").write_text(text + "\n")
    try:
        measures.plot(report, folder / "fusion.png")
    except ImportError:
        print("no plot: matplotlib is not installed (the extra `evaluation` brings it)", file=sys.stderr)
