"""What an item's modalities say in, one vector per item and each modality's weight in it out: the strategies, by name.

Guarantees of all: an absent modality leaks nothing, a row's bits do not depend on its batch (`fusion_base.py`). Torch and
safetensors only: training and Triton share these files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from upwell.training.fusion_base import (
    ABOUT_FILE,
    MODALITIES,
    WEIGHTS_FILE,
    Fusion,
    FusionError,
    Layout,
    Part,
    projection,
    shares,
    unit,
    version_of,
)

__all__ = ["MODALITIES", "STRATEGIES", "Contrastive", "Fusion", "FusionError", "Layout", "Part", "create", "load"]

GATE_WIDTH: Final = 64


class Mean(Fusion):
    """All present modalities alike; nothing is learned."""

    strategy = "mean"
    learns = centres = False


class Centred(Mean):
    """The mean, of parts that have been centred: constants of the catalogue, and still nothing learned."""

    strategy = "centred"
    centres = True


class Weighted(Fusion):
    """One learned weight a modality, and one a part within it (softmax over those present)."""

    strategy = "weighted"

    def __init__(self, layout: Layout, dimension: int, seed: int = 0) -> None:
        super().__init__(layout, dimension, seed)
        self.logits = nn.Parameter(torch.zeros(len(MODALITIES)))
        self.part_logits = nn.ParameterDict({label: torch.zeros(()) for _, label in self._labelled()})

    def weigh(self, vectors: Tensor, present: Tensor) -> Tensor:
        return shares(self.logits.expand(vectors.shape[:2]), present)

    def mix(self, label: str) -> Any:
        return self.part_logits[label].exp()


class _Learned(Fusion):
    """The projections are learned; they begin as those of the mean."""

    def _add_part(self, part: Part, label: str, chance: torch.Generator) -> None:
        self.register_parameter(f"into_{label}", nn.Parameter(projection(part, self.dimension, chance)))


class Concat(_Learned):
    """Concatenation with a linear projection: a block of its matrix for each part, no bias."""

    strategy = "concat"

    def alone(self, parts: Mapping[str, Tensor]) -> Tensor:
        """What a modality adds to the projection: of any length."""
        return sum(x @ getattr(self, f"into_{label}") for label, x in parts.items())

    def fuse(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        added = self.modal(inputs, present)
        lengths = added.norm(dim=2)
        return unit(added.sum(1)), lengths / lengths.sum(1, keepdim=True).clamp_min(1e-12)


class Gated(_Learned):
    """Attention over the present modalities, each item's own, through a gate that sees all of them.

    score = w . (tanh(V v_m) * sigmoid(U [v_m, mean of the present])) + b_m: the attention pooling of Ilse et al. 2018
    (arXiv 1802.04712) with the gate of the gated multimodal unit (Arevalo et al. 2017, arXiv 1702.01992).
    """

    strategy = "gated"

    def __init__(self, layout: Layout, dimension: int, seed: int = 0) -> None:
        super().__init__(layout, dimension, seed)
        chance = torch.Generator().manual_seed(seed + 1)
        self.content = nn.Parameter(torch.randn(dimension, GATE_WIDTH, generator=chance))
        self.gate = nn.Parameter(torch.randn(2 * dimension, GATE_WIDTH, generator=chance))
        # Zero: attention begins equal, and learns from where the mean is.
        self.score = nn.Parameter(torch.zeros(GATE_WIDTH))
        self.bias = nn.Parameter(torch.zeros(len(MODALITIES)))

    def weigh(self, vectors: Tensor, present: Tensor) -> Tensor:
        here = present.unsqueeze(2)
        mean = vectors.sum(1, keepdim=True) / here.sum(1, keepdim=True).clamp_min(1)
        seen = torch.cat([vectors, mean.expand_as(vectors)], 2)
        scores = (torch.tanh(vectors @ self.content) * torch.sigmoid(seen @ self.gate)) @ self.score
        return shares(scores + self.bias, present)


class Late(Fusion):
    """Decision level: the score of two items is the weighted sum of their modalities' cosines.

    As one vector: the unit parts side by side, each multiplied by the square root of its weight, so that the product of
    two vectors is that sum. Parts wider than their room pass a fixed semi-orthogonal projection.
    """

    strategy = "late"

    def __init__(self, layout: Layout, dimension: int, seed: int = 0) -> None:
        least = sum(len(layout.get(name, ())) for name in MODALITIES)
        if dimension < least:
            raise FusionError(f"late fusion needs at least a dimension for each of the {least} parts")
        self._rooms = _rooms(layout, dimension)
        self._starts = dict(zip(self._rooms, itertools.accumulate(self._rooms.values(), initial=0), strict=False))
        super().__init__(layout, dimension, seed)
        self.logits = nn.Parameter(torch.zeros(len(MODALITIES)))
        self.part_logits = nn.ParameterDict({label: torch.zeros(()) for _, label in self._labelled()})

    def _add_part(self, part: Part, label: str, chance: torch.Generator) -> None:
        self.register_buffer(f"into_{label}", projection(part, self._rooms[label], chance))

    def alone(self, parts: Mapping[str, Tensor]) -> Tensor:
        """A modality's parts in their places, of unit length together."""
        pieces = [
            (self.part_logits[label] / 2).exp() * unit(x @ getattr(self, f"into_{label}")) for label, x in parts.items()
        ]
        before = self._starts[next(iter(parts))]
        whole = unit(torch.cat(pieces, 1))
        return functional.pad(whole, (before, self.dimension - before - whole.shape[1]))

    def weigh(self, vectors: Tensor, present: Tensor) -> Tensor:
        return shares(self.logits.expand(vectors.shape[:2]), present)

    def fuse(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.modal(inputs, present)
        weights = self.weigh(vectors, present)
        # The root of 0 has no derivative: absent ones stay out of it.
        roots = torch.where(present, weights.clamp_min(1e-12).sqrt(), torch.zeros(()))
        return unit((roots.unsqueeze(2) * vectors).sum(1)), weights


class Contrastive(_Learned):
    """Projections that bring an item's own modalities together (the loss is `fusion_loss`'s), and learned weights.

    InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between modalities, as in CLIP (Radford et al. 2021).
    """

    strategy = "contrastive"

    def __init__(self, layout: Layout, dimension: int, seed: int = 0) -> None:
        super().__init__(layout, dimension, seed)
        self.logits = nn.Parameter(torch.zeros(len(MODALITIES)))

    def weigh(self, vectors: Tensor, present: Tensor) -> Tensor:
        return shares(self.logits.expand(vectors.shape[:2]), present)


STRATEGIES: Final[dict[str, type[Fusion]]] = {
    kind.strategy: kind for kind in (Mean, Centred, Weighted, Concat, Gated, Late, Contrastive)
}


def create(strategy: str, layout: Layout, dimension: int, seed: int = 0) -> Fusion:
    """An untrained model. Raises FusionError: there is no such strategy, or the layout does not fit."""
    if strategy not in STRATEGIES:
        raise FusionError(f"no fusion strategy is called {strategy!r}: {', '.join(STRATEGIES)}")
    return STRATEGIES[strategy](layout, dimension, seed)


def load(folder: Path) -> Fusion:
    """The model that `save` wrote, ready to serve.

    Raises:
        FusionError: the folder holds none, or its weights are not the ones that it names.
    """
    from safetensors.torch import load as parse

    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        raw = (folder / WEIGHTS_FILE).read_bytes()
        layout = {name: tuple(Part(**part) for part in parts) for name, parts in about["layout"].items()}
        model = create(about["strategy"], layout, about["dimension"])
        if hashlib.sha256(raw).hexdigest() != about["weights_sha256"]:
            raise FusionError(f"{folder}: the weights are not those that {ABOUT_FILE} names; train or copy them again")
        model.load_state_dict(parse(raw))
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, RuntimeError) as error:
        raise FusionError(f"{folder} holds no fusion model: {error}") from None
    model.about, model.version = about, version_of(about)
    model.eval().requires_grad_(False)
    return model


def _rooms(layout: Layout, dimension: int) -> dict[str, int]:
    """Dimensions of each part, by label in their order: all alike, what a narrow one leaves goes to the others."""
    sizes = {f"{name}_{i}": part.size for name in MODALITIES for i, part in enumerate(layout.get(name, ()))}
    rooms, left = {}, dimension
    for count, label in zip(range(len(sizes), 0, -1), sorted(sizes, key=sizes.__getitem__), strict=True):
        rooms[label] = min(sizes[label], max(1, left // count))
        left -= rooms[label]
    return {label: rooms[label] for label in sizes}
