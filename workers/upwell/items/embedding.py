"""Cleaned items in; their vectors out: encoded in batches, reused where the text has not changed. What the encoder
refuses is found by halving, so that one bad item never holds up its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Item
from upwell.inference.client import InferenceRejected
from upwell.items.cleaning import encoder_text
from upwell.store.items import Known


class Encoder(Protocol):
    """What embeds texts: [n, d] float32, unit length."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` by item id; `refused` says why the encoder took an item not; `reused` counts unchanged texts."""

    vectors: dict[str, NDArray[np.float32]]
    refused: dict[str, str]
    reused: int


def embed(items: Sequence[Item], known: Mapping[str, Known], encoder: Encoder) -> Embedded:
    """Embed items, each id once.

    Args:
        known: what is stored with a vector of the encoder's model version.

    Raises:
        InferenceUnavailable: nothing was decided; repeat it.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    texts: dict[str, str] = {}
    for item in items:
        text = encoder_text(item.title, item.categories, item.description, item.attributes)
        stored = known.get(item.item_id)
        if stored and text == encoder_text(stored.title, stored.categories, stored.description, stored.attributes):
            vectors[item.item_id] = stored.vector
        else:
            texts[item.item_id] = text
    refused: dict[str, str] = {}
    _encode(list(texts.items()), encoder, vectors, refused)
    return Embedded(vectors, refused, len(items) - len(texts))


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
