"""What is known of items in; one fused vector each, what it was made of and how much each modality weighs, out.

Two encoders answer to the same call: `TextFeatures` reads texts alone, `FusionEncoder` is the fused model on Triton, which
takes whatever modalities an item has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from upwell.inference.client import Array, text_column
from upwell.inference.encode import MAX_CHARS, TextEncoder
from upwell.inference.versioned import VersionedModel

MODALITIES: Final = ("text", "image", "audio", "speech")
ITEMS: Final = 32
"""Items of one call."""
BYTES: Final = 32 * 2**20
"""Pictures and sounds of one call: what a client, the server and a model hold of it at the same time."""
SIDE: Final = 224

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ItemInput:
    """What is known of one item. An empty text is none."""

    text: str
    images: NDArray[np.uint8] | None = None
    """[k, 224, 224, 3] RGB."""
    sound: Floats | None = None
    """[n] mono at 44.1 kHz."""
    speech: Floats | None = None
    """[n] mono at 16 kHz."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.images, self.sound, self.speech) if array is not None)


@dataclass(frozen=True, slots=True)
class Features:
    """What the model makes of one item."""

    vector: Floats
    """[d], unit length."""
    weights: dict[str, float]
    """Share of each modality in the vector; they add up to 1."""
    parts: dict[str, Floats] = field(default_factory=dict)
    """The vector of each modality before fusion, where several are fused; see `triton_models/item_features`."""
    perceived: dict[str, Any] = field(default_factory=dict)
    """`transcript`: what is said in it. `labels`: what is seen on its pictures, likeliest first."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """What a served fusion stands on."""

    versions: dict[str, str]
    """Modality to `name@hash` of the model that reads it."""
    layout: dict[str, list[dict[str, Any]]]
    """Modality to the parts of its vector, each of which has a `size` and may be `shared` (it lies in the texts' space) or
    `scaled` (it comes in units of its own)."""


class ItemEncoder(Protocol):
    """What embeds items, under one model version."""

    @property
    def model_version(self) -> str: ...

    def encode(self, items: Sequence[ItemInput]) -> list[Features]: ...

    def close(self) -> None: ...


class TextFeatures:
    """The text encoder alone: the vector is the text's. Errors are those of `TextEncoder`."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    @property
    def model_version(self) -> str:
        return self._encoder.model_version

    def encode(self, items: Sequence[ItemInput]) -> list[Features]:
        vectors = self._encoder.encode([item.text for item in items])
        return [Features(vector, {"text": 1.0}) for vector in vectors]

    def close(self) -> None:
        self._encoder.close()


class FusionEncoder(VersionedModel):
    """The served fusion of all modalities.

    Args:
        url: Triton's gRPC address, host:port.
        modalities: what is fused; the encoders of others need not be loaded.
        timeout_s: deadline of one call of up to 32 items.
        in_flight: concurrent calls: while one is encoded, the next is on its way.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "item_features",
        modalities: Sequence[str] = MODALITIES,
        timeout_s: float = 60.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 2,
    ) -> None:
        super().__init__(
            url, model, "model of item features", timeout_s=timeout_s, options=options, in_flight=in_flight
        )
        self._modalities = np.array([name.encode() for name in modalities], np.object_)

    def encode(self, items: Sequence[ItemInput]) -> list[Features]:
        """Each item's features, in the items' order; all or none.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: the model refused an item, or one has nothing to be encoded.
            ModelChanged: the server holds another model than at the first call.
        """
        return [features for part in self.client.map(self._call, list(_calls(items))) for features in part]

    def encoders(self) -> Encoders:
        """The encoders that the fusion asks. Raises: as `encode`."""
        answer = self._infer(self._inputs([]), ("ENCODERS",))
        return Encoders(**json.loads(answer["ENCODERS"][0]))

    def _inputs(self, items: Sequence[ItemInput]) -> dict[str, Array]:
        images = [item.images for item in items]
        inputs = {
            "TEXT": text_column([item.text[:MAX_CHARS] for item in items]).reshape(-1),
            "IMAGE": np.concatenate([np.empty((0, SIDE, SIDE, 3), np.uint8), *(i for i in images if i is not None)]),
            "IMAGES": np.array([0 if i is None else len(i) for i in images], np.int32),
            "MODALITIES": self._modalities,
        }
        for name, sounds in (("AUDIO", [i.sound for i in items]), ("SPEECH", [i.speech for i in items])):
            inputs[name] = np.concatenate([np.empty(0, np.float32), *(s for s in sounds if s is not None)])
            inputs[f"{name}_SAMPLES"] = np.array([0 if s is None else len(s) for s in sounds], np.int32)
        return inputs

    def _call(self, items: Sequence[ItemInput]) -> list[Features]:
        names = ("VECTOR", "WEIGHTS", *(f"{m.upper()}_VECTOR" for m in MODALITIES), "TRANSCRIPT", "LABELS")
        answer = self._infer(self._inputs(items), names)
        found = []
        for row, weights in enumerate(answer["WEIGHTS"]):
            there = [m for m, weight in zip(MODALITIES, weights, strict=True) if weight > 0]
            found.append(
                Features(
                    answer["VECTOR"][row],
                    {m: round(float(weights[MODALITIES.index(m)]), 6) for m in there},
                    {m: answer[f"{m.upper()}_VECTOR"][row] for m in there},
                    _perceived(answer["TRANSCRIPT"][row], answer["LABELS"][row]),
                )
            )
        return found

    def _ask(self) -> object:
        return self.encoders()


def _perceived(transcript: bytes, labels: Sequence[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if transcript:
        found["transcript"] = transcript.decode()
    if seen := [label.decode() for label in labels if label]:
        found["labels"] = seen
    return found


def _calls(items: Sequence[ItemInput]) -> list[list[ItemInput]]:
    """The items in order, cut into calls of bounded size; an item alone may be larger."""
    calls: list[list[ItemInput]] = []
    size = 0
    for item in items:
        if not calls or len(calls[-1]) == ITEMS or size + item.nbytes > BYTES:
            calls.append([])
            size = 0
        calls[-1].append(item)
        size += item.nbytes
    return calls
