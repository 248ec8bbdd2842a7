"""A cleaned text in; the language that it is written in, where that can be told, out. Pure.

An item that says its language is believed; a few words say too little.
"""

from __future__ import annotations

import array
import functools
import lzma
import pickle
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

MIN_LETTERS: Final = 24
MIN_PROBABILITY: Final = 0.9
MAX_CHARACTERS: Final = 500
"""More text does not make it surer, and costs time."""


def language(text: str, stated: str = "") -> str:
    """ISO 639-1 code of a text's language (97 of them: Lui and Baldwin 2012); `stated` where it is not empty; empty where
    the text is too short, or fits no language well.

    >>> language("The quick brown fox jumps over the lazy dog.")
    'en'
    >>> language("Alien")
    ''
    """
    if stated:
        return stated
    read = text[:MAX_CHARACTERS]
    if sum(map(str.isalpha, read)) < MIN_LETTERS and not _is_dense(read):
        return ""
    code, probability = _identifier().classify(read)
    return str(code) if probability >= MIN_PROBABILITY else ""


def _is_dense(text: str) -> bool:
    """Scripts in which one letter is a syllable or a word say more with fewer."""
    return sum(character >= "\u3040" for character in text if character.isalpha()) * 3 >= MIN_LETTERS


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and arrays of them. The package's table is a pickle; one that names any other thing to call is
    refused, so that loading it runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "array" and name in {"array", "_array_reconstructor"}:
            return getattr(array, name)
        raise pickle.UnpicklingError(f"the table of languages may hold no {module}.{name}")


class _Sparse(LanguageIdentifier):  # type: ignore[misc]
    """Adds up the rows of what occurs in the text, some dozens, and not all 7,480 times zero: a fifth of the time."""

    def nb_classprobs(self, counts: NDArray[np.uint16]) -> NDArray[np.float64]:
        seen = np.flatnonzero(counts)
        found: NDArray[np.float64] = counts[seen] @ self.nb_ptc[seen] + self.nb_pc
        return found


@functools.cache
def _identifier() -> _Sparse:
    """Loaded at the first use; 60 MB."""
    with resources.files("py3langid").joinpath(MODEL_FILE).open("rb") as packed, lzma.open(packed) as file:
        per_feature, prior, codes, moves, outputs = _Plain(file).load()
    features = len(per_feature) // len(prior)
    table = np.array(per_feature).reshape(features, len(prior))
    return _Sparse(table, np.array(prior), features, codes, moves, outputs, norm_probs=True)
