"""What every way of fusing modalities shares: inputs in their parts in, unit rows out; how a model is kept in a folder.

A modality that is absent has no part in any number, whatever lies in its place. A row's bits do not depend on its batch:
outside training every row is computed alone. `fusion.py` holds the strategies themselves.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

MODALITIES: Final = ("text", "image", "audio", "speech")
WEIGHTS_FILE: Final = "model.safetensors"
ABOUT_FILE: Final = "upwell.json"
LEAST_ROWS: Final = 16
"""Constants of a part are not taken from fewer items."""


class FusionError(ValueError):
    """An input does not fit the model, or a folder holds none; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a modality's input that means something by itself."""

    size: int
    shared: bool = False
    """It lies in the space of the texts."""
    scaled: bool = False
    """It comes in units of its own, and is standardised by constants of the model."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Layout = Mapping[str, Sequence[Part]]
"""The parts of each modality's input, in their order."""


class Fusion(nn.Module):  # type: ignore[misc]
    """Base of all strategies; as it stands, the mean."""

    strategy: ClassVar[str]
    learns: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    """Whether what all items have in common is taken off each part: encoders' vectors lie in a narrow cone, where cosines
    tell little (all-but-the-top, Mu and Viswanath 2018, arXiv 1702.01417)."""

    def __init__(self, layout: Layout, dimension: int, seed: int = 0) -> None:
        """
        Args:
            layout: parts of every one of `MODALITIES`.
            dimension: of the vectors that come out.
            seed: of the fixed projections.

        Raises:
            FusionError: a modality without parts, or a size below 1.
        """
        super().__init__()
        for name in MODALITIES:
            if not layout.get(name) or any(part.size < 1 for part in layout[name]):
                raise FusionError(f"the layout has no parts for {name}, or empty ones")
        if dimension < 1:
            raise FusionError(f"{dimension} dimensions: at least 1 is needed")
        self.layout = {name: tuple(layout[name]) for name in MODALITIES}
        self.dimension = dimension
        self.version = ""
        """`name@first 12 digits of the hash`, once saved or loaded."""
        self.about: dict[str, Any] = {}
        """What else the folder says: the encoders' versions, how it was trained."""
        chance = torch.Generator().manual_seed(seed)
        for part, label in self._labelled():
            self.register_buffer(f"offset_{label}", torch.zeros(part.size))
            if part.scaled:
                self.register_buffer(f"scale_{label}", torch.ones(part.size))
            self._add_part(part, label, chance)

    def _labelled(self) -> list[tuple[Part, str]]:
        """All parts, and the names of their tensors: `image_1` is the second one of the image."""
        return [(part, f"{name}_{i}") for name in MODALITIES for i, part in enumerate(self.layout[name])]

    def _add_part(self, part: Part, label: str, chance: torch.Generator) -> None:
        """Register what a part passes: here a fixed projection."""
        self.register_buffer(f"into_{label}", projection(part, self.dimension, chance))

    def width(self, modality: str) -> int:
        """Numbers of a modality's input."""
        return sum(part.size for part in self.layout[modality])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def calibrate(self, inputs: Mapping[str, Tensor], present: Tensor) -> None:
        """Take the parts' constants from items, the arguments of `forward`; too few leave them as they are."""
        for column, name in enumerate(MODALITIES):
            rows, start = inputs[name][present[:, column]], 0
            for i, part in enumerate(self.layout[name]):
                piece = rows[:, start : start + part.size]
                start += part.size
                if len(rows) < LEAST_ROWS:
                    continue
                if part.scaled or self.centres:
                    getattr(self, f"offset_{name}_{i}").copy_(piece.mean(0))
                if part.scaled:
                    getattr(self, f"scale_{name}_{i}").copy_(piece.std(0).clamp_min(1e-6))

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse n items.

        Args:
            inputs: by modality float32 [n, width]; the parts of unit length each, scaled ones as they come (MFCC
                statistics as the audio encoder gives them). What lies in an absent modality's row is not looked at.
            present: bool [n, 4], columns in the order of `MODALITIES`.

        Returns:
            vectors float32 [n, dimension], unit length; weights float32 [n, 4], 0 where absent, their sum 1. Both are
            zero where nothing is present.

        Raises:
            FusionError: a shape that does not fit.
        """
        self._check(inputs, present)
        if self.training:
            return self.fuse(inputs, present)
        # Matrix products of another shape round in another way: each row has the shape of one.
        rows = [
            self.fuse({name: x[i : i + 1] for name, x in inputs.items()}, present[i : i + 1])
            for i in range(len(present))
        ]
        if not rows:
            return torch.zeros(0, self.dimension), torch.zeros(0, len(MODALITIES))
        return torch.cat([vectors for vectors, _ in rows]), torch.cat([weights for _, weights in rows])

    def fuse(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, the rows computed together: faster, the last bits depend on the batch."""
        vectors = self.modal(inputs, present)
        weights = self.weigh(vectors, present)
        return unit((weights.unsqueeze(2) * vectors).sum(1)), weights

    def modal(self, inputs: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Each modality's own vector: float32 [n, 4, dimension], unit length, zeros where absent."""
        found = torch.zeros(len(present), len(MODALITIES), self.dimension)
        for column, name in enumerate(MODALITIES):
            rows = present[:, column].nonzero().squeeze(1)
            if len(rows):
                found[rows, column] = self.alone(self._parts(name, inputs[name][rows]))
        return found

    def alone(self, parts: Mapping[str, Tensor]) -> Tensor:
        """A modality's vectors, float32 [k, dimension], of the rows that have it; `parts` by label, unit length."""
        mixed = sum(self.mix(label) * (x @ getattr(self, f"into_{label}")) for label, x in parts.items())
        return unit(mixed)

    def mix(self, label: str) -> Any:  # noqa: ARG002
        """How much of its modality's vector a part is."""
        return 1.0

    def weigh(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Weights of the modalities, float32 [n, 4], of their vectors [n, 4, dimension]: equal where present."""
        return shares(torch.zeros(vectors.shape[:2]), present)

    def _parts(self, name: str, x: Tensor) -> dict[str, Tensor]:
        """The parts of a modality's rows, by label, scaled ones standardised, each of unit length."""
        found, start = {}, 0
        for i, part in enumerate(self.layout[name]):
            label = f"{name}_{i}"
            piece = x[:, start : start + part.size] - getattr(self, f"offset_{label}")
            start += part.size
            if part.scaled:
                piece = piece / getattr(self, f"scale_{label}")
            found[label] = unit(piece)
        return found

    def _check(self, inputs: Mapping[str, Tensor], present: Tensor) -> None:
        if present.ndim != 2 or present.shape[1] != len(MODALITIES) or present.dtype != torch.bool:
            raise FusionError(
                f"present is {present.dtype} {tuple(present.shape)}: bool [n, {len(MODALITIES)}] is needed"
            )
        for name in MODALITIES:
            wanted = (len(present), self.width(name))
            if name not in inputs or tuple(inputs[name].shape) != wanted:
                given = tuple(inputs[name].shape) if name in inputs else "missing"
                raise FusionError(
                    f"{name} is {given}: float32 {list(wanted)} is needed; was it made by another encoder?"
                )

    def save(self, folder: Path, **about: Any) -> str:
        """Write the model into a folder that is not there yet, whole or not at all; returns its version.

        Args:
            about: what else `upwell.json` says, as JSON; `encoders` (modality to version) counts for the hash, because
                the same weights on other encoders give other vectors.
        """
        from safetensors.torch import save_file

        layout = {name: [part.as_dict() for part in parts] for name, parts in self.layout.items()}
        kept = {
            "strategy": self.strategy,
            "dimension": self.dimension,
            "layout": layout,
            "encoders": about.get("encoders", self.about.get("encoders", {})),
        }
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fusion-") as scratch:
            draft = Path(scratch) / "model"
            draft.mkdir()
            state = {name: value.detach().contiguous() for name, value in self.state_dict().items()}
            save_file(state, draft / WEIGHTS_FILE, metadata={"about": json.dumps(kept, sort_keys=True)})
            digest = hashlib.sha256((draft / WEIGHTS_FILE).read_bytes()).hexdigest()
            self.about = {"name": f"fusion-{self.strategy}", **kept, **about, "weights_sha256": digest}
            (draft / ABOUT_FILE).write_text(json.dumps(self.about, indent=2) + "\n")
            for file in draft.iterdir():
                file.chmod(0o644)  # the model server may run as another user
            draft.chmod(0o755)
            draft.rename(folder)
        self.version = version_of(self.about)
        return self.version


def version_of(about: Mapping[str, Any]) -> str:
    return f"{about['name']}@{about['weights_sha256'][:12]}"


def unit(x: Tensor) -> Tensor:
    """Length 1 along the last axis; zeros stay."""
    return functional.normalize(x, dim=-1, eps=1e-12)


def shares(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over those present; zeros where nothing is."""
    lowest = torch.finfo(scores.dtype).min
    shares = torch.softmax(torch.where(present, scores, torch.full((), lowest)), dim=1)
    return torch.where(present, shares, torch.zeros(()))


def projection(part: Part, dimension: int, chance: torch.Generator) -> Tensor:
    """float32 [size, dimension]: the identity for what is in the texts' space, else seeded and semi-orthogonal.

    Orthonormal rows keep all cosines; where there are fewer dimensions, they are kept on average (Johnson-Lindenstrauss).
    """
    if part.shared and part.size == dimension:
        return torch.eye(dimension)
    found = torch.empty(part.size, dimension)
    nn.init.orthogonal_(found, generator=chance)
    return found
