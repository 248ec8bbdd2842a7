"""The packed last events of a profile, as Postgres holds them."""

from __future__ import annotations

import numpy as np

EVENT = np.dtype(
    [
        ("event", "<u8"),  # xxh3 of the event id
        ("item", "<u8"),  # xxh3 of the item id
        ("time", "<i8"),  # event time, ms
        ("logged", "<i8"),  # log time, ms
        ("weight", "<f4"),
        ("row", "<i4"),  # catalogue row of this process; no meaning in storage
        ("applied", "u1"),  # the item's vector is in the profile
    ]
)


def largest_weights(packed: bytes) -> dict[int, float]:
    """Of each item of the events, xxh3 of its id: the largest weight; above 0 the user liked it."""
    weights: dict[int, float] = {}
    for event in np.frombuffer(packed, EVENT):
        item, weight = int(event["item"]), float(event["weight"])
        weights[item] = max(weight, weights.get(item, weight))
    return weights
