"""The stamps in; a trained picture generator, its report and its grids out. What `upwell train vae` and `gan` run.

Seeded, held-out items left alone until the end; interrupted, it leaves a checkpoint to go on from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from upwell.training import conditions as conditioning
from upwell.training import fitting, gan, judging, painter, vae
from upwell.training.fitting import Limits, Trainee
from upwell.training.painter import Painter, Shape
from upwell.training.pictures import Lessons, Pictures

Kind = Literal["vae", "gan"]
EXAMINED_SEED: Final = 90_001
"""Of the noise that samples are judged on; training draws its own."""
SHOWN: Final = 10
"""Items in a grid."""
EXAMINED: Final = 240
"""Most conditions of each kind that samples are judged on."""
SPREADS: Final = (1.0, 0.5)
"""Of z, at which samples are judged."""
JUDGE: Final = (
    "image encoder (EfficientNet-Lite0) of 64-pixel pictures, painted against real ones; a fused vector holds its view of the"
    " item's picture as one part of several. by_pixels: darkness of 16 x 16 cells, no encoder"
)


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from."""

    pictures: Pictures
    conditions: NDArray[np.float32]
    """[n, d], row by row."""
    without_pictures: NDArray[np.float32] | None
    """[n, d]: conditions that know nothing of the items' pictures; None where there are none."""
    features: NDArray[np.float32]
    """[n, f] of the judging image encoder, of the 64-pixel pictures."""
    told: str
    """What the conditions are, in words."""
    strength: float
    """Of augmentation in training."""


def start(kind: Kind, given: Material, limits: Limits) -> Trainee:
    """An untrained generator for this material."""
    train = given.conditions[~given.pictures.held_out]
    shape = Shape(given.conditions.shape[1])
    return vae.trainee(shape, train, limits.seed) if kind == "vae" else gan.trainee(shape, train, limits.seed)


def train(kind: Kind, trainee: Trainee, given: Material, limits: Limits, checkpoint: Path, say: fitting.Say) -> bool:
    """Train until the limits are reached; whether it was interrupted."""
    rows = ~given.pictures.held_out
    lessons = Lessons(given.pictures.pixels[rows], given.conditions[rows], given.pictures.mirrors[rows], given.strength)
    step = vae.step(trainee, lessons, limits) if kind == "vae" else gan.step(trainee, lessons, limits)
    return fitting.fit(trainee, step, limits, checkpoint, say)


def generator(trainee: Trainee) -> Painter:
    """The moving average of the painter, which is what is kept."""
    found: Painter = trainee.modules["average"].eval()
    return found


def examine(
    kind: Kind,
    trainee: Trainee,
    given: Material,
    models: Path,
    folder: Path,
    before: dict[str, NDArray[np.uint8]],
    threads: int = 1,
) -> dict[str, Any]:
    """Judge a generator on pictures and seeds that it has not seen; writes `report.json` and PNGs into `folder`.

    Args:
        before: what `shown` gave before training; one row of it is shown above those of now.
    """
    painter_, held = generator(trainee), given.pictures.held_out
    encoder = conditioning.ImageFeatures(models, threads)
    pixels, told = given.pictures.pixels, given.conditions
    rivals = judging.baselines(pixels[~held], told[~held], told[held])
    unseen = _chosen(held, EXAMINED)
    asked = {"trained_conditions": (told, _chosen(~held, EXAMINED)), "held_out_conditions": (told, unseen)}
    if given.without_pictures is not None:
        asked["held_out_conditions_without_pictures"] = (given.without_pictures, unseen)
    retrieval = {
        name: {
            f"spread_{spread:g}": _shares(
                painter.sample(painter_, vectors[rows], _seeds(len(rows)), spread=spread), given, rows, encoder
            )
            for spread in SPREADS
        }
        for name, (vectors, rows) in asked.items()
    }
    # What a lookup would give: the training picture whose condition is nearest, in place of a painted one. A fused vector
    # holds what the judge sees in the item's own picture as one part of several; pixels know nothing of it.
    lookups = {"held_out_by_nearest_neighbour": rivals["nearest_neighbour"]}
    if given.without_pictures is not None:
        without = judging.baselines(pixels[~held], given.without_pictures[~held], given.without_pictures[held])
        lookups["held_out_without_pictures_by_nearest_neighbour"] = without["nearest_neighbour"]
    looked_up = {
        name: {"lookup": _shares(made, given, np.flatnonzero(held), encoder)} for name, made in lookups.items()
    }
    report: dict[str, Any] = {
        "kind": kind,
        "steps": trainee.step,
        "seconds": round(trainee.seconds, 1),
        "conditions": given.told,
        "condition_width": int(told.shape[1]),
        "augmentation": given.strength,
        "judge": JUDGE,
        "items": {"trained": int((~held).sum()), "held_out": int(held.sum())},
        "retrieval_among_ten": retrieval | looked_up,
        "ssim_held_out": {name: round(judging.likeness(pixels[held], made), 4) for name, made in rivals.items()},
        "curves": {name: [round(value, 5) for value in values] for name, values in trainee.curves.items()},
    }
    if kind == "vae":
        again = vae.reconstruct(trainee, pixels[held], told[held])
        report["ssim_held_out"] = {"reconstruction": round(judging.likeness(pixels[held], again), 4)} | report[
            "ssim_held_out"
        ]
        judging.grid(
            [part for at in (0, 10, 20) for part in (pixels[held][at : at + 10], again[at : at + 10])],
            folder / "reconstructions.png",
        )
    after = shown(painter_, given)
    report["ssim_held_out"]["sample"] = round(
        judging.likeness(pixels[held], painter.sample(painter_, told[held], _seeds(int(held.sum())))), 4
    )
    for name, rows in (("trained", ~held), ("held-out", held)):
        chosen = _chosen(rows)
        made = [before[name][:SHOWN], *np.split(after[name], 3)]
        judging.grid([pixels[chosen], *made], folder / f"samples-{name}.png")
    judging.curves(trainee.curves, folder / "curves.png", f"{kind}, {trainee.step} steps")
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def shown(painter_: Painter, given: Material) -> dict[str, NDArray[np.uint8]]:
    """Three samples each of ten trained and ten held-out conditions, uint8 [30, 64, 64, 3] by `trained` and `held-out`."""
    held = given.pictures.held_out
    return {
        name: np.concatenate(
            [painter.sample(painter_, given.conditions[_chosen(rows)], [seed] * SHOWN) for seed in (1, 2, 3)]
        )
        for name, rows in (("trained", ~held), ("held-out", held))
    }


def _chosen(rows: NDArray[np.bool_], most: int = SHOWN) -> NDArray[np.intp]:
    """At most so many items, evenly over the catalogue and so over its categories."""
    places = np.flatnonzero(rows)
    chosen: NDArray[np.intp] = places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.intp)]
    return chosen


def _seeds(n: int) -> range:
    return range(EXAMINED_SEED, EXAMINED_SEED + n)


def _shares(
    made: NDArray[np.uint8], given: Material, rows: NDArray[np.intp], encoder: conditioning.ImageFeatures
) -> dict[str, float]:
    seen, features, pixels = encoder.of(made), given.features[rows], given.pictures.pixels[rows]
    return {
        "centred": round(judging.found_among_ten(seen, features), 4),
        "raw": round(judging.found_among_ten(seen, features, centred=False), 4),
        "by_pixels": round(judging.found_among_ten(judging.ink(made), judging.ink(pixels)), 4),
    }
