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
from py3langid.langid import MODEL_FILE, LanguageIdentifier

MIN_LETTERS: Final = 24
MIN_PROBABILITY: Final = 0.9
MAX_CHARACTERS: Final = 2_000
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


@functools.cache
def _identifier() -> Any:
    """Loaded at the first use; 60 MB."""
    with resources.files("py3langid").joinpath(MODEL_FILE).open("rb") as packed, lzma.open(packed) as file:
        per_feature, prior, codes, moves, outputs = _Plain(file).load()
    features = len(per_feature) // len(prior)
    table = np.array(per_feature).reshape(features, len(prior))
    return LanguageIdentifier(table, np.array(prior), features, codes, moves, outputs, norm_probs=True)
