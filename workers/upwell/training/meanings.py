"""Vectors of items, and the sentence embeddings of their names, in; a map from the ones to the others out, and what it
loses, so that a name without a picture can be made to look as if it came from one.

Text-only training through a shared space (CapDec, Nukrai et al. 2022; DeCap, Li et al. 2023): CapDec adds Gaussian noise to
a text's embedding, here it is the map's own losses that are added. Arrays in, arrays out; seeded.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
FOLDS: Final = 10


@dataclass(frozen=True, slots=True)
class Linear:
    """x to `x @ weight.T + bias`: weight float32 [m, d], bias float32 [m]."""

    weight: Rows
    bias: Rows

    def __call__(self, x: Rows) -> Rows:
        """float32 [n, d] to [n, m]."""
        mapped: Rows = x @ self.weight.T + self.bias
        return mapped


def ridge(x: Rows, y: Rows, strength: float) -> Linear:
    """Ridge regression (Hoerl and Kennard 1970) from [n, d] to [n, m], both centred.

    Args:
        strength: what is added to the diagonal, as a share of its mean.
    """
    given, wanted = x.astype(np.float64), y.astype(np.float64)
    mean, centre = given.mean(0), wanted.mean(0)
    given = given - mean
    gram = given.T @ given
    gram += (strength * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
    weight = np.linalg.solve(gram, given.T @ (wanted - centre)).T
    return Linear(weight.astype(np.float32), (centre - weight @ mean).astype(np.float32))


def unseen(x: Rows, y: Rows, strength: float, names: Rows | None = None) -> Rows:
    """Each row of `x` mapped by a regression that has never met its meaning: float32 [n, m], as `ridge`.

    What it was fitted to, a regression maps too well: a decoder taught on that would trust it too much.

    Args:
        names: rows that are alike where the meaning is the same; `y` itself if None.
    """
    alike = np.ascontiguousarray(y if names is None else names, np.float32)
    folds = np.array([zlib.crc32(row.tobytes()) % FOLDS for row in alike])
    found = np.empty_like(y, np.float32)
    for fold in range(FOLDS):
        own = folds == fold
        if own.any():
            # Where all rows mean the same there is nothing else to learn from.
            others = ~own if not own.all() else own
            found[own] = ridge(x[others], y[others], strength)(x[own])
    return found


@dataclass(frozen=True, slots=True)
class Channel:
    """What becomes of a meaning on the way through picture and sound: some of it comes through, the rest is noise.

    through: from a meaning to what arrives of it. lost: what else arrived, float32 [n, m], a row an example.
    """

    through: Linear
    lost: Rows

    @classmethod
    def of(cls, sent: Rows, arrived: Rows, strength: float) -> Channel:
        """Out of meanings [n, m], and what `unseen` made of their vectors [n, m]; `strength` as of `ridge`."""
        return cls(ridge(sent, arrived, strength), arrived - unseen(sent, arrived, strength, sent))

    def send(self, meanings: Rows, noise: float, rng: np.random.Generator) -> Rows:
        """float32 [n, m] to [n, m]: as if each came from a picture.

        Args:
            noise: how much of an example's loss is added; 1: all of it.
        """
        lost = self.lost[rng.integers(len(self.lost), size=len(meanings))]
        sent: Rows = (self.through(meanings) + noise * lost).astype(np.float32)
        return sent
