"""What the encoder refuses is found alone, whatever stands beside it; known items are not encoded again."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upwell.events.contracts import Item
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.items.embedding import embed, embed_newest


class LengthEncoder:
    """Embeds a text by its length, and takes no text that holds `bad`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("away" in text for text in texts):
            raise InferenceUnavailable("away")
        if any("bad" in text for text in texts):
            raise InferenceRejected("bad text")
        self.texts += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


@given(st.lists(st.booleans(), max_size=40))
def test_refused_items_are_found_alone(bad: list[bool]) -> None:
    items = [Item(f"i{n}", title=f"{'bad' if b else 'good'} {'x' * n}") for n, b in enumerate(bad)]
    embedded = embed(items, {}, LengthEncoder())
    assert embedded.refused == {f"i{n}": "bad text" for n, b in enumerate(bad) if b}
    assert {id_: vector[0] for id_, vector in embedded.vectors.items()} == {
        f"i{n}": len(items[n].title) for n, b in enumerate(bad) if not b
    }


def test_where_the_newest_record_is_refused_the_one_before_counts() -> None:
    def of(item_id: str, *titles: str) -> list[Item]:
        return [Item(item_id, title=title, op="delete" if title == "gone" else "upsert") for title in titles]

    records = {
        "a": of("a", "first", "second", "bad third", "bad fourth"),
        "b": of("b", "good", "gone", "bad"),
        "c": of("c", "bad", "bad again"),
        "d": of("d", "bad", "gone"),
        "e": of("e", "bad", "good"),
        "known": of("known", "good", "bad"),
    }
    encoder = LengthEncoder()
    stored = np.array([7, 7], np.float32)
    newest = embed_newest(records, {"known": stored}, encoder)
    assert newest.counting == {"a": 1, "b": 1, "d": 1, "e": 1, "known": 1}
    assert sorted(encoder.texts) == ["good", "second"]
    assert newest.vectors.keys() == {"a", "e", "known"}
    assert newest.vectors["known"] is stored
    assert sorted((item_id, index) for item_id, index, _ in newest.refused) == [
        ("a", 2), ("a", 3), ("b", 2), ("c", 0), ("c", 1),
    ]  # fmt: skip


def test_a_vector_is_fixed_once_the_model_version_has_made_it() -> None:
    encoder = LengthEncoder()
    stored = np.array([7, 7], np.float32)
    embedded = embed([Item("old", title="Changed title"), Item("new", title="New title")], {"old": stored}, encoder)
    assert encoder.texts == ["New title"]
    assert embedded.vectors["old"] is stored


def test_an_unreachable_encoder_decides_nothing() -> None:
    with pytest.raises(InferenceUnavailable):
        embed([Item("a", title="away"), Item("b", title="bad")], {}, LengthEncoder())
