"""Texts in; groups of those that are nearly the same out. Pure.

MinHash over word pairs finds candidates without comparing all with all (Broder 1997; LSH: Indyk and Motwani 1998), the
true overlap of their word pairs decides: there are no false groups, and few that are missed.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

from datasketch import MinHash, MinHashLSH

Key = TypeVar("Key", bound=Hashable)

THRESHOLD: Final = 0.8
PERMUTATIONS: Final = 128
SHINGLE: Final = 2
SEED: Final = 1
_WORDS = re.compile(r"\w+")


def near_duplicates(texts: Mapping[Key, str], threshold: float = THRESHOLD) -> list[list[Key]]:
    """Groups of texts whose sets of word pairs overlap by at least `threshold` (Jaccard), directly or through others.

    Args:
        texts: by a key of the caller's. Case and punctuation count for nothing; empty texts are no duplicates.

    Returns:
        Groups of two and more, each in the order of `texts`, by their first ones' order.
    """
    shingles = {key: found for key, text in texts.items() if (found := _shingles(text))}
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    leader: dict[Key, Key] = {key: key for key in shingles}

    def first(key: Key) -> Key:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    order = {key: place for place, key in enumerate(shingles)}
    hashes = MinHash.generator([list(found) for found in shingles.values()], num_perm=PERMUTATIONS, seed=SEED)
    same: dict[frozenset[bytes], Key] = {}
    for (key, found), minhash in zip(shingles.items(), hashes, strict=True):
        # Equal texts, of which there may be any number, are not looked up: each would find all the others.
        if (twin := same.setdefault(found, key)) != key:
            leader[key] = first(twin)
            continue
        for other in index.query(minhash):
            if first(other) != first(key) and _overlap(found, shingles[other]) >= threshold:
                low, high = sorted((first(other), first(key)), key=order.__getitem__)
                leader[high] = low
        index.insert(key, minhash, check_duplication=False)
    groups: dict[Key, list[Key]] = {}
    for key in shingles:
        groups.setdefault(first(key), []).append(key)
    return [group for group in groups.values() if len(group) > 1]


def _shingles(text: str) -> frozenset[bytes]:
    words = _WORDS.findall(text.casefold())
    pairs = [" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))] if words else []
    return frozenset(pair.encode("utf-8", "replace") for pair in pairs)


def _overlap(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    return len(one & other) / len(one | other)
