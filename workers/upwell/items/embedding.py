"""Cleaned items in; their vectors out. An item's vector is fixed per model version: profiles are sums of it, so a changed
text changes what is shown, and the vector with the next model. What the encoder refuses is found by halving, so that one
bad item never holds up its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Item
from upwell.inference.errors import InferenceRejected
from upwell.items.cleaning import encoder_text


class Encoder(Protocol):
    """What embeds texts: [n, d] float32, unit length."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` by item id; `refused` says why the encoder took an item not."""

    vectors: dict[str, NDArray[np.float32]]
    refused: dict[str, str]


@dataclass(frozen=True, slots=True)
class Newest:
    """`counting` has, by item id, the index of the record that counts; `refused` (item id, index, why) of newer ones."""

    counting: dict[str, int]
    vectors: dict[str, NDArray[np.float32]]
    refused: list[tuple[str, int, str]]


def embed_newest(
    records: Mapping[str, Sequence[Item]], known: Mapping[str, NDArray[np.float32]], encoder: Encoder
) -> Newest:
    """Of each item's records, oldest first, the newest one that deletes it or that the encoder takes; embedded.

    Raises:
        InferenceUnavailable: nothing was decided; repeat it.
    """
    counting = {item_id: len(items) - 1 for item_id, items in records.items()}
    vectors: dict[str, NDArray[np.float32]] = dict(known)
    refused: list[tuple[str, int, str]] = []
    undecided = list(counting)
    while undecided:
        newest = [records[item_id][counting[item_id]] for item_id in undecided]
        embedded = embed([item for item in newest if item.op != "delete"], vectors, encoder)
        vectors = embedded.vectors
        undecided = []
        for item_id, why in embedded.refused.items():
            refused.append((item_id, counting[item_id], why))
            counting[item_id] -= 1
            if counting[item_id] < 0:
                del counting[item_id]
            else:
                undecided.append(item_id)
    return Newest(counting, vectors, refused)


def embed(items: Sequence[Item], known: Mapping[str, NDArray[np.float32]], encoder: Encoder) -> Embedded:
    """Embed items, each id once.

    Args:
        known: stored vectors of the encoder's model version, by item id.

    Raises:
        InferenceUnavailable: nothing was decided; repeat it.
    """
    vectors = dict(known)
    texts = [
        (item.item_id, encoder_text(item.title, item.categories, item.description, item.attributes))
        for item in items
        if item.item_id not in known
    ]
    refused: dict[str, str] = {}
    _encode(texts, encoder, vectors, refused)
    return Embedded(vectors, refused)


def _encode(
    texts: Sequence[tuple[str, str]], encoder: Encoder, vectors: dict[str, NDArray[np.float32]], refused: dict[str, str]
) -> None:
    if not texts:
        return
    try:
        encoded = encoder.encode([text for _, text in texts])
    except InferenceRejected as error:
        if len(texts) == 1:
            refused[texts[0][0]] = str(error)
            return
        middle = len(texts) // 2
        _encode(texts[:middle], encoder, vectors, refused)
        _encode(texts[middle:], encoder, vectors, refused)
    else:
        vectors.update((item_id, vector) for (item_id, _), vector in zip(texts, encoded, strict=True))
