"""What goes over the pipes between a sandbox and its child: a JSON header of bounded size, then plain bytes.

Neither side trusts the other's sizes: the child is where hostile files are decoded, and may have been taken over by one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_HEADER: Final = 16_384
LENGTH: Final = struct.Struct("<I")
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {"u1": np.dtype(np.uint8), "f4": np.dtype(np.float32)}

Array = NDArray[np.uint8] | NDArray[np.float32]


class Limits(msgspec.Struct, frozen=True):
    """What one job may cost."""

    memory_mb: int = 2_048
    """Address space of the child, MiB."""
    cpu_s: int = 15
    timeout_s: float = 20.0


class Job(msgspec.Struct, frozen=True):
    """One piece of media to decode, and into what. `size` is set on sending: the bytes that follow."""

    kind: Literal["image", "thumbnail", "audio", "video"]
    side: int = 224
    """Of pictures and frames, pixels; of a thumbnail the longer one."""
    rates: tuple[int, ...] = ()
    """Sample rates of the sound, Hz, each an answer of its own."""
    seconds: float = 30.0
    frames: int = 8
    max_pixels: int = 50_000_000
    denoise: bool = False
    size: int = 0

    def most_bytes(self) -> int:
        """The largest answer that an honest child gives."""
        pictures = self.frames if self.kind == "video" else int(self.kind != "audio")
        sounds = sum(math.ceil(self.seconds * rate) + rate for rate in self.rates)
        return pictures * self.side * self.side * 3 + sounds * 4


class Part(msgspec.Struct, frozen=True):
    """One array of an answer: name, dtype (`u1` or little-endian `f4`), shape."""

    name: str
    dtype: Literal["u1", "f4"]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(DTYPES[self.dtype].itemsize)


class Answer(msgspec.Struct, frozen=True):
    """What became of a job; its arrays' bytes follow, one after the other."""

    refused: str = ""
    """Why the file cannot be used; empty where it can."""
    spent: bool = False
    """The child ends now, and another one has to take the next job."""
    parts: tuple[Part, ...] = ()
    notes: dict[str, str] = {}


def frame(header: msgspec.Struct) -> bytes:
    """A header as it is sent: its length, 4 bytes little-endian, and its JSON."""
    raw = msgspec.json.encode(header)
    return LENGTH.pack(len(raw)) + raw


def unpack(answer: Answer, payload: bytearray) -> dict[str, Array]:
    """The arrays of an answer by name; they share `payload`'s memory and may be written to.

    Raises:
        ValueError: shapes and bytes do not fit together.
    """
    arrays: dict[str, Array] = {}
    offset = 0
    for part in answer.parts:
        flat = np.frombuffer(payload, DTYPES[part.dtype], math.prod(part.shape), offset)
        arrays[part.name] = flat.reshape(part.shape)
        offset += part.nbytes
    return arrays
