"""Texts, the catalogue and what users liked in; tf-idf vectors of texts and users in the catalogue's words out. Pure.

A second judge of whose text is whose that shares nothing with the text encoder: bags of words, weighted by how rare they
are in the catalogue (Salton and Buckley 1988; as scikit-learn does it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from upwell.events.hashing import key64
from upwell.items.cleaning import encoder_text
from upwell.ranking.profile import unit
from upwell.store.published import Entry

Floats = NDArray[np.float32]


def vectors(
    texts: Sequence[str], catalogue: Sequence[Entry], liked: Mapping[str, Mapping[int, float]]
) -> tuple[Floats, dict[str, Floats]]:
    """float32 [n, words] of the texts, unit length, and [words] of each user, the sum of what is known of the liked items.

    Args:
        liked: by user, xxh3 of each item's id to its weight; what is not above 0 is not liked. Users who like nothing that
            is in the catalogue are left out.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = TfidfVectorizer(stop_words="english", sublinear_tf=True, dtype=np.float32)
    facts = known.fit_transform([encoder_text(e.title, e.categories, "", e.attributes) for e in catalogue])
    rows = {key64(entry.item_id): row for row, entry in enumerate(catalogue)}
    users = {}
    for user, weights in liked.items():
        own = [rows[item] for item, weight in weights.items() if weight > 0 and item in rows]
        if own:
            users[user] = np.asarray(facts[own].sum(0), np.float32).reshape(-1)
    return unit(known.transform(texts).toarray()), users
