"""Features and a log of interactions in; every asked strategy trained, its figures, and the model that is kept out.

All strategies meet the same questions; the best one is chosen by the validation stretch, never by the test.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.fusion import DAY_MS, Exam, Split
from upwell.settings import Settings
from upwell.training import fusion_fit
from upwell.training.fusion import MODALITIES, STRATEGIES, Fusion, create
from upwell.training.fusion_features import Features
from upwell.training.fusion_fit import Course, Recipe

BASELINES: Final = ("mean", "centred")
"""Where nothing is learned: what all others are measured against."""
LATE_WIDTH: Final = 2
"""Late fusion keeps its modalities side by side: its vectors are so many times as wide."""
POPULAR_DAYS: Final = 7
"""Half-life of the popularity that strategies stand beside."""

Say = Callable[[str, int, int, float], None]
"""Strategy, epoch, epochs at most, NDCG@10 on the validation stretch."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison came to."""

    report: dict[str, Any]
    models: dict[str, Fusion]
    best: str
    """Of the asked strategies the one that ranks best in the validation stretch."""


def compare(
    features: Features,
    split: Split,
    strategies: Sequence[str],
    settings: Settings,
    recipe: Recipe,
    *,
    data: str,
    dimension: int | None = None,
    say: Say = lambda *_: None,
) -> Outcome:
    """Train strategies and examine them beside the mean and popularity.

    Args:
        strategies: names of `STRATEGIES`.
        settings: how events weigh, how profiles and popularity fade.
        data: its name, for the report.
        dimension: of the fused vectors; None: the text encoder's, and twice as many for `late`.

    Raises:
        FusionError: a name or a dimension that does not fit.
        ValueError: there is nothing to learn from.
    """
    half_life = settings.profiles.half_life_days * DAY_MS
    items = len(features.items)
    valid = Exam(split.log, split.fit, split.test, items, half_life)
    test = Exam(split.log, split.test, len(split.log), items, half_life)
    if not len(valid) or not len(test):
        raise ValueError("no user comes back in the later part of the interactions: nothing can be tested with them")
    learned = split.log.part(slice(0, split.fit))
    cold = test.asks(split.cold)
    found: dict[str, Any] = {}
    models: dict[str, Fusion] = {}
    courses: dict[str, Course] = {}
    base: dict[str, NDArray[np.int64]] = {}
    for name in dict.fromkeys([*BASELINES, *strategies]):
        width = dimension or features.inputs["text"].shape[1]
        model = create(
            name, features.layout, width * (LATE_WIDTH if name == "late" and not dimension else 1), recipe.seed
        )

        def tick(epoch: int, epochs: int, _loss: float, quality: float, name: str = name) -> None:
            say(name, epoch, epochs, quality)

        say(name, 0, recipe.epochs, 0.0)
        course = fusion_fit.train(model, features, learned, valid, recipe, tick)
        ranks = test.ranks(fusion_fit.vectors(model, features))
        if name in BASELINES:
            base[name] = ranks
        models[name], courses[name] = model, course
        found[name] = {
            "dimension": model.dimension,
            "all": test.figures(ranks).as_dict(),
            "cold": test.figures(ranks, cold).as_dict(),
            "missing": {
                modality: test.figures(test.ranks(fusion_fit.vectors(model, features, modality))).as_dict()
                for modality in MODALITIES
                if features.present[:, MODALITIES.index(modality)].any()
            },
            **{f"against_{other}": test.difference(ranks, theirs).as_dict() for other, theirs in base.items()},
            "weights": _weights(model, features),
            "training": course.as_dict(),
        }
    popular = test.popularity_ranks(POPULAR_DAYS * DAY_MS)
    best = max(strategies, key=lambda name: courses[name].valid[courses[name].best])
    report = {
        "data": data,
        "items": items,
        "with": features.counts(),
        "users": int(split.log.users.max(initial=-1)) + 1,
        "events": {"fit": split.fit, "valid": split.test - split.fit, "test": len(split.log) - split.test},
        "questions": len(test),
        "cold_items": int(split.cold.sum()),
        "encoders": features.versions,
        "recipe": asdict(recipe),
        "strategies": found,
        "popularity": {"all": test.figures(popular).as_dict(), "cold": test.figures(popular, cold).as_dict()},
        "best_on_validation": best,
    }
    return Outcome(report, models, best)


def keep(model: Fusion, parent: Path, about: Mapping[str, Any]) -> Path:
    """Write a model as `parent/VERSION`, whole or not at all; one that is there already is left alone."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".draft-") as scratch:
        draft = Path(scratch) / "model"
        target = parent / model.save(draft, **about)
        if not target.exists():
            draft.rename(target)
    return target


def _weights(model: Fusion, features: Features) -> dict[str, float]:
    """Mean weight of each modality over the items that have all of those that any item has, else over all items."""
    inputs, present = fusion_fit.tensors(features)
    model.eval()
    shares = model(inputs, present)[1].numpy()
    used = features.present.any(0)
    full = features.present[:, used].all(1)
    rows = shares[full] if full.any() else shares
    return {name: round(float(value), 3) for name, value in zip(MODALITIES, rows.mean(0), strict=True)}


def known_strategies(text: str) -> list[str]:
    """The names in `text`, comma-separated, or all of them.

    Raises:
        ValueError: one is not known.
    """
    if text.strip() == "all":
        return list(STRATEGIES)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown or not names:
        wrong = ", ".join(unknown) or repr(text)
        raise ValueError(f"no fusion strategy is called {wrong}: choose from {', '.join(STRATEGIES)}, or all")
    return names
