"""A data set's name or one's own files in; interactions and their items' features out: what `upwell train fusion` and `prefix` learn from.

Features take minutes, so they are kept: those of the stamps in the cache, under a name that changes with their makers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.datasets import Dataset
    from upwell.settings import Settings
    from upwell.training.fusion_features import Features

READ_BY = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer")


def material(
    dataset: str,
    interactions: Path | None,
    items: Path | None,
    kept: Path | None,
    settings: Settings,
    tick: Callable[[str, int, int], None],
) -> tuple[Dataset, Features]:
    """The interactions, and the features of their items."""
    from upwell.evaluation.datasets import DatasetError
    from upwell.evaluation.own_data import own_data
    from upwell.evaluation.stamps import stamps
    from upwell.local import assets, debian
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import fusion_features

    if items is not None and interactions is None:
        exits.fail(exits.CONFIG, "--items needs --interactions: what happened to those items?")
    if interactions is None and dataset != "stamps":
        exits.fail(exits.CONFIG, f"no data set with media is called {dataset}: stamps is, or give --interactions")
    cache, media = default_cache(), settings.media
    models = models_dir(cache)

    def say(line: str) -> None:
        tick(line, 0, 0)

    try:
        if interactions is not None:
            data = own_data(interactions, items)
        else:
            folder = debian.fetch_package(cache, say)
            data = stamps(folder)
            # Their media are files of this machine; nothing else of it is read.
            media = media.model_copy(update={"roots": [*media.roots, str(folder)]})
        if kept is not None and kept.is_file():
            return data, _fitting(fusion_features.load(kept), data)
        assets.fetch_weights(cache, say)
        assets.prepare_models(cache, models, say)
    except DatasetError as error:
        exits.fail(exits.CONFIG, str(error))
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))
    if kept is None and interactions is None:
        kept = cache / "features" / f"stamps-{_made_by(models, folder.name)}.safetensors"
        if kept.is_file():
            return data, fusion_features.load(kept)
    found = fusion_features.encode(data.items, models, media, tick)
    if kept is not None:
        fusion_features.save(found, kept)
    return data, found


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr, at a terminal, with what is done at the moment."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tick(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total or None)

        yield tick


def _fitting(features: Features, data: Dataset) -> Features:
    from upwell.training.fusion_features import FeaturesError

    if missing := {item.item_id for item in data.items} - set(features.items):
        raise FeaturesError(f"the kept features lack {len(missing):,} items, {min(missing)} for one: remove the file")
    return features


def _made_by(models: Path, catalogue: str) -> str:
    """Of what the features are a function: encoders, their weights, and the catalogue."""
    from upwell import resources

    digest = hashlib.sha256(catalogue.encode())
    for name in READ_BY:
        about = json.loads((models / name / "upwell.json").read_text())
        digest.update(str(about.get("weights_sha256")).encode())
        for file in sorted((resources.folder("triton_models") / name / "1").glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
