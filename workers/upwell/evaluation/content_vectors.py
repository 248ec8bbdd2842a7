"""What a catalogue says about its items in, a vector of each out: what the text encoder on Triton gives, made cheaply.

Words of title and description, categories and attributes, weighted by TF-IDF, in the directions in which items differ most
(latent semantic analysis; Deerwester et al., 1990, "Indexing by latent semantic analysis"). No interaction is looked at.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.datasets import Dataset
from upwell.events.contracts import Item
from upwell.ranking.profile import unit

DIMENSIONS: Final = 64
METHOD: Final = "TF-IDF of titles, descriptions, categories and attributes, 64 directions"
_WORD = re.compile(r"\w+")


def content_vectors(dataset: Dataset, ids: list[str]) -> NDArray[np.float32]:
    """[items, d] float32, unit rows in the order of `ids`; zero where the catalogue says nothing that two items share.

    Raises:
        ImportError: scikit-learn is missing.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    said = {item.item_id: _terms(item) for item in dataset.items}
    terms = [said.get(each, []) for each in ids]
    counts: dict[str, int] = {}
    for own in terms:
        for term in set(own):
            counts[term] = counts.get(term, 0) + 1
    # What one item alone has is like nothing; what all have tells nothing apart.
    shared = sorted(term for term, count in counts.items() if 1 < count < len(ids))
    if not shared:
        return np.zeros((len(ids), 1), np.float32)
    table = TfidfVectorizer(
        analyzer=lambda own: own, vocabulary=shared, lowercase=False, sublinear_tf=True
    ).fit_transform(terms)
    if min(table.shape) <= DIMENSIONS:
        return unit(table.toarray().astype(np.float32))
    return unit(TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(table).astype(np.float32))


def _terms(item: Item) -> list[str]:
    words = _WORD.findall(f"{item.title} {item.description}".casefold())
    named = [f"category={name}" for name in item.categories]
    for name, value in item.attributes.items():
        named += [f"{name}={part}" for part in (value if isinstance(value, list) else [value])]
    return words + named
