"""The stamps, one's own files, or what a running deployment has recorded, in; interactions and their items' features out:
what `upwell train fusion` and `prefix` learn from.

Features take minutes, so they are kept: those of the stamps in the cache, under a name that changes with their makers. A
deployment's are read where its workers stored them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.datasets import Dataset
    from upwell.evaluation.recorded import Stretch
    from upwell.settings import Settings
    from upwell.training.fusion_features import Features

DATASETS = ("stamps", "recorded")
READ_BY = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer")

Tick = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""


@dataclass(frozen=True, slots=True)
class Source:
    """What was asked for on the command line."""

    dataset: str
    interactions: Path | None = None
    items: Path | None = None
    features: Path | None = None
    since: str | None = None
    until: str | None = None
    last: int | None = None

    def stretch(self) -> Stretch:
        """Of the recorded interactions. Raises: ValueError: a time that is none."""
        from upwell.evaluation.own_data import milliseconds
        from upwell.evaluation.recorded import LAST, Stretch

        since, until = (None if text is None else milliseconds(text) for text in (self.since, self.until))
        return Stretch(since, until, self.last or LAST)


def material(source: Source, settings: Settings, tick: Tick) -> tuple[Dataset, Features]:
    """The interactions, and the features of their items; ends the command where they cannot be had.

    Raises:
        FeaturesError: the features cannot be used.
        ValueError: a time on the command line is none.
    """
    from upwell.evaluation.datasets import DatasetError
    from upwell.local.errors import StackError

    if source.items is not None and source.interactions is None:
        exits.fail(exits.CONFIG, "--items needs --interactions: what happened to those items?")
    if source.interactions is None and source.dataset not in DATASETS:
        exits.fail(
            exits.CONFIG,
            f"no data set with media is called {source.dataset}: {' or '.join(DATASETS)}, or give --interactions",
        )
    recorded = source.dataset == "recorded" and source.interactions is None
    if not recorded and (source.since or source.until or source.last):
        exits.fail(exits.CONFIG, "--from, --until and --last are about a deployment's interactions: --dataset recorded")
    if recorded and source.features is not None:
        exits.fail(exits.CONFIG, "--features: those of a deployment are read from its database, every time")
    try:
        return _recorded(source, settings, tick) if recorded else _files(source, settings, tick)
    except DatasetError as error:
        exits.fail(exits.CONFIG, str(error))
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))


def _recorded(source: Source, settings: Settings, tick: Tick) -> tuple[Dataset, Features]:
    import psycopg

    from upwell.bus.errors import Inconsistent, Unavailable
    from upwell.evaluation.datasets import Dataset
    from upwell.evaluation.recorded import recorded
    from upwell.inference.errors import InferenceRejected, InferenceUnavailable
    from upwell.training.fusion_recorded import stored_features

    stretch = source.stretch()
    try:
        # The features first: where there are none, nobody waits for the log.
        found = stored_features(settings, tick)
        log = recorded(settings, stretch, tick)
    except (Inconsistent, InferenceRejected) as error:
        exits.fail(exits.CONFIG, str(error))
    except (Unavailable, InferenceUnavailable, psycopg.OperationalError) as error:
        exits.fail(exits.INFRASTRUCTURE, str(error).strip())
    return Dataset(f"recorded interactions of {log.topic}", [], log.events, notes=[log.told()]), found


def _files(source: Source, settings: Settings, tick: Tick) -> tuple[Dataset, Features]:
    from upwell.evaluation.own_data import own_data
    from upwell.evaluation.stamps import stamps
    from upwell.local import assets, debian
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import fusion_features

    cache, media, kept = default_cache(), settings.media, source.features
    models = models_dir(cache)

    def say(line: str) -> None:
        tick(line, 0, 0)

    if source.interactions is not None:
        data = own_data(source.interactions, source.items)
    else:
        folder = debian.fetch_package(cache, say)
        data = stamps(folder)
        # Their media are files of this machine; nothing else of it is read.
        media = media.model_copy(update={"roots": [*media.roots, str(folder)]})
    if kept is not None and kept.is_file():
        return data, _fitting(fusion_features.load(kept), data)
    assets.fetch_weights(cache, say)
    assets.prepare_models(cache, models, say)
    if kept is None and source.interactions is None:
        kept = cache / "features" / f"stamps-{_made_by(models, folder.name)}.safetensors"
        if kept.is_file():
            return data, fusion_features.load(kept)
    found = fusion_features.encode(data.items, models, media, tick)
    if kept is not None:
        fusion_features.save(found, kept)
    return data, found


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


@contextmanager
def bar() -> Iterator[Tick]:
    """A bar on stderr, at a terminal, with what is done at the moment."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tick(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total or None)

        yield tick
