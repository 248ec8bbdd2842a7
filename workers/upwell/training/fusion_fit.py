"""Features and a log of interactions in, a trained fusion model out: what users consume together comes close together.

InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) over pairs of items that one user consumed shortly after each other,
with the other pairs of the batch as negatives. Seeded; ends where the validation stretch of the log stops gaining.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from upwell.evaluation.fusion import DAY_MS, Exam, Log, gains_of
from upwell.training.fusion import MODALITIES, Contrastive, Fusion
from upwell.training.fusion_features import Features

Tick = Callable[[int, int, float, float], None]
"""Epoch, epochs at most, mean loss, NDCG@10 on the validation stretch."""
MASKED: Final = -1e4
"""A logit of what is no negative."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained; the defaults are what `docs/decisions/0009-fusion.md` measured."""

    epochs: int = 40
    patience: int = 8
    """Epochs without a gain on the validation stretch, after which training ends."""
    steps: int = 32
    """Batches of an epoch, drawn anew each time."""
    batch: int = 256
    learning_rate: float = 3e-4
    scalar_rate: float = 3e-2
    """Of the few weights that are no matrices."""
    decay: float = 0.1
    """Pull of the matrices back to where they began, which is the mean's (L2-SP, Li et al. 2018, arXiv 1802.01483)."""
    temperature: float = 0.1
    """At the beginning; it is learned."""
    dropout: float = 0.3
    """Chance of each modality of an item to be left out; one always stays."""
    own: float = 0.3
    """Share of the loss between an item's own modalities, of `contrastive`."""
    reach: int = 3
    """An event is paired with so many of the user's next ones ..."""
    within_ms: int = DAY_MS
    """... this soon after it."""
    seed: int = 7
    threads: int = 1


@dataclass(slots=True)
class Course:
    """How training went: one value per epoch, the untrained model first."""

    loss: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best: int = 0
    """The epoch whose model was kept; 0: training gained nothing, the untrained one."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "best_epoch": self.best,
            "loss": [round(value, 4) for value in self.loss],
            "valid_ndcg@10": [round(value, 4) for value in self.valid],
        }


def pairs(log: Log, reach: int, within_ms: int) -> NDArray[np.int64]:
    """Items that one user consumed (weight above 0) shortly after each other: int64 [p, 2] of different rows."""
    found: list[tuple[int, int]] = []
    last: dict[int, list[tuple[int, int]]] = {}
    for user, item, weight, time in zip(
        log.users.tolist(), log.items.tolist(), log.weights.tolist(), log.times.tolist(), strict=True
    ):
        if weight > 0:
            recent = last.setdefault(user, [])
            found += [(earlier, item) for earlier, then in recent if time - then <= within_ms and earlier != item]
            recent.append((item, time))
            del recent[:-reach]
    return np.array(found, np.int64).reshape(-1, 2)


def tensors(features: Features) -> tuple[dict[str, Any], Any]:
    """The features as a model takes them: inputs and present."""
    return {name: torch.from_numpy(features.inputs[name]) for name in MODALITIES}, torch.from_numpy(features.present)


@torch.no_grad()  # type: ignore[untyped-decorator]
def vectors(model: Fusion, features: Features, without: str | None = None) -> NDArray[np.float32]:
    """[n, d] float32 of all items, as served; `without`: as if no item had that modality."""
    inputs, present = tensors(features)
    if without is not None:
        present = present.clone()
        present[:, MODALITIES.index(without)] = False
    model.eval()
    found: NDArray[np.float32] = model(inputs, present)[0].numpy()
    return found


def train(
    model: Fusion, features: Features, log: Log, valid: Exam, recipe: Recipe, tick: Tick = lambda *_: None
) -> Course:
    """Train a model in place, on the events of `log`; what is kept is the epoch that ranks best in `valid`.

    Items without an event in `log` are not learned from, and lend nothing to the model's constants.

    Raises:
        ValueError: no two items were consumed by one user soon after each other.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    inputs, present = tensors(features)
    known = torch.from_numpy(np.bincount(log.items, minlength=len(features.items)) > 0)
    model.calibrate({name: x[known] for name, x in inputs.items()}, present[known])
    course = Course()
    together = torch.from_numpy(pairs(log, recipe.reach, recipe.within_ms))
    if not len(together):
        raise ValueError("no user consumed two items soon after each other: there is nothing to learn from")
    course.valid.append(_quality(model, inputs, present, valid))
    if not model.learns:
        return course
    kept, start = _copy(model), _copy(model)
    warmth = torch.nn.Parameter(torch.tensor(math.log(1 / recipe.temperature)))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    scalars = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.Adam(
        [
            {"params": matrices, "lr": recipe.learning_rate},
            {"params": [*scalars, warmth], "lr": recipe.scalar_rate},
        ]
    )
    for epoch in range(1, recipe.epochs + 1):
        chance = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        order = together[torch.randperm(len(together), generator=chance)]
        losses = []
        model.train()
        for rows in order.split(recipe.batch)[: recipe.steps]:
            loss = _loss(model, inputs, present, rows, warmth, recipe, chance)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            _pull(model, start, recipe.learning_rate * recipe.decay)
            losses.append(float(loss.detach()))
        course.loss.append(sum(losses) / len(losses))
        course.valid.append(_quality(model, inputs, present, valid))
        tick(epoch, recipe.epochs, course.loss[-1], course.valid[-1])
        if course.valid[-1] > course.valid[course.best]:
            course.best, kept = epoch, _copy(model)
        if epoch - course.best >= recipe.patience:
            break
    model.load_state_dict(kept)
    model.eval().requires_grad_(False)
    return course


def _copy(model: Fusion) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()  # type: ignore[untyped-decorator]
def _pull(model: Fusion, start: Mapping[str, Any], share: float) -> None:
    for name, value in model.named_parameters():
        if value.ndim == 2:
            value.lerp_(start[name], share)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _quality(model: Fusion, inputs: Mapping[str, Any], present: Any, valid: Exam) -> float:
    """NDCG@10 on the validation stretch."""
    ranks = valid.ranks(model.fuse(inputs, present)[0].numpy())
    return float(gains_of(ranks).mean()) if len(ranks) else 0.0


def _loss(
    model: Fusion, inputs: Mapping[str, Any], present: Any, rows: Any, warmth: Any, recipe: Recipe, chance: Any
) -> Any:
    """Of one batch of pairs, int64 [b, 2]."""
    both = rows.T.reshape(-1)
    here = _drop(present[both], recipe.dropout, chance)
    given = {name: x[both] for name, x in inputs.items()}
    fused = model(given, here)[0]
    left, right = fused.chunk(2)
    one, other = rows[:, 0], rows[:, 1]
    scale = warmth.exp().clamp(max=100.0)
    scores = scale * left @ right.T
    # Neither another pair's copy of the answer nor the question itself is a negative.
    false = (other[:, None] == other[None, :]) | (one[:, None] == other[None, :]) | (one[:, None] == one[None, :])
    scores = scores.masked_fill(false & ~torch.eye(len(rows), dtype=torch.bool), MASKED)
    answers = torch.arange(len(rows))
    loss = (functional.cross_entropy(scores, answers) + functional.cross_entropy(scores.T, answers)) / 2
    if isinstance(model, Contrastive) and recipe.own:
        items = one.unique()
        alike = _own({name: x[items] for name, x in inputs.items()}, present[items], model, scale)
        loss = (1 - recipe.own) * loss + recipe.own * alike
    return loss


def _own(inputs: Mapping[str, Any], present: Any, model: Fusion, scale: Any) -> Any:
    """InfoNCE between each two modalities of the items that have both; each item once."""
    modal = model.modal(inputs, present)
    losses = []
    for i in range(len(MODALITIES)):
        for j in range(i):
            here = present[:, i] & present[:, j]
            if int(here.sum()) > 1:
                scores = scale * modal[here, i] @ modal[here, j].T
                answers = torch.arange(len(scores))
                losses += [functional.cross_entropy(scores, answers), functional.cross_entropy(scores.T, answers)]
    return torch.stack(losses).mean() if losses else torch.zeros(())


def _drop(present: Any, share: float, chance: Any) -> Any:
    """Leaves modalities out at random, never an item's last one."""
    drawn = torch.rand(present.shape, generator=chance)
    left = present & (drawn >= share)
    # Where all were drawn, the one that was drawn last stays.
    highest = torch.where(present, drawn, torch.full((), -1.0)).argmax(1)
    emptied = ~left.any(1)
    left[emptied, highest[emptied]] = present[emptied, highest[emptied]]
    return left
