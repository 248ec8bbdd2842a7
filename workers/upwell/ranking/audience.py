"""New items' vectors and recently active users' profiles in; for whom each item is news, out. Pure.

Batched products: one matrix product for all new items of a batch, not a query per item.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def audience(
    items: NDArray[np.float32], profiles: NDArray[np.float32], per_item: int, at_most: int
) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """The users closest to each new item, each user with the closest of them only.

    Args:
        items: [n, d] item vectors, unit length.
        profiles: [m, d] profile vectors, any length; a zero vector is nobody's taste.
        per_item: users chosen per item.
        at_most: users chosen for the whole batch: the closest.

    Returns:
        ([k] row of the item, [k] row of the profile, [k] cosine in (0, 1]), closest first; a profile occurs once.
    """
    count = min(per_item, len(profiles))
    if not count or not len(items) or not at_most:
        return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
    length = np.linalg.norm(profiles, axis=1, keepdims=True)
    unit = np.divide(profiles, length, out=np.zeros_like(profiles), where=length > 0)
    cosine = items @ unit.T
    top = np.argpartition(cosine, -count, axis=1)[:, -count:]
    item = np.repeat(np.arange(len(items)), count)
    user = top.ravel()
    similarity = cosine[item, user]
    order = np.lexsort((item, user, -similarity))  # ties in a fixed order: the same batch gives the same audience
    order = order[similarity[order] > 0]
    _, first = np.unique(user[order], return_index=True)
    chosen = order[np.sort(first)][:at_most]
    return item[chosen], user[chosen], similarity[chosen]
