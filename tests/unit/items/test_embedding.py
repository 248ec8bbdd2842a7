"""What the encoder refuses is found alone, whatever stands beside it; known items are not encoded again."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.events.contracts import Item, Media
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.features import Features, ItemInput
from upwell.items import embedding
from upwell.items.embedding import embed, embed_newest
from upwell.lifecycle import Stopped
from upwell.media.errors import MediaRejected, MediaUnavailable


class LengthEncoder:
    """Embeds a text by its length, and takes no text that holds `bad`."""

    model_version = "length"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.largest = 0

    def encode(self, items: Sequence[ItemInput]) -> list[Features]:
        texts = [item.text for item in items]
        if any("away" in text for text in texts):
            raise InferenceUnavailable("away")
        if any("bad" in text for text in texts):
            raise InferenceRejected("bad text")
        self.texts += texts
        self.largest = max(self.largest, sum(item.nbytes for item in items))
        return [feature(len(text)) for text in texts]

    def close(self) -> None: ...


def feature(length: int) -> Features:
    return Features(np.array([length, 1], np.float32), {"text": 1.0})


@given(st.lists(st.booleans(), max_size=40))
def test_refused_items_are_found_alone(bad: list[bool]) -> None:
    items = [Item(f"i{n}", title=f"{'bad' if b else 'good'} {'x' * n}") for n, b in enumerate(bad)]
    known: dict[str, Features] = {}
    refused = embed(items, known, LengthEncoder())
    assert refused == {f"i{n}": ("encode", "bad text") for n, b in enumerate(bad) if b}
    assert {id_: found.vector[0] for id_, found in known.items()} == {
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
    stored = feature(7)
    newest = embed_newest(records, {"known": stored}, encoder)
    assert newest.counting == {"a": 1, "b": 1, "d": 1, "e": 1, "known": 1}
    assert sorted(encoder.texts) == ["good", "second"]
    assert newest.features.keys() == {"a", "e", "known"}
    assert newest.features["known"] is stored
    assert sorted((item_id, index) for item_id, index, _, _ in newest.refused) == [
        ("a", 2), ("a", 3), ("b", 2), ("c", 0), ("c", 1),
    ]  # fmt: skip


def test_a_vector_is_fixed_once_the_model_version_has_made_it() -> None:
    encoder = LengthEncoder()
    known = {"old": (stored := feature(7))}
    embed([Item("old", title="Changed title"), Item("new", title="New title")], known, encoder)
    assert encoder.texts == ["New title"]
    assert known["old"] is stored


def test_an_unreachable_encoder_decides_nothing() -> None:
    with pytest.raises(InferenceUnavailable):
        embed([Item("a", title="away"), Item("b", title="bad")], {}, LengthEncoder())


def test_media_that_are_bad_refuse_their_item_and_media_that_are_away_are_asked_for_again() -> None:
    bad, away = MediaRejected("broken"), MediaUnavailable("no answer")
    outcomes = {"bad": bad, "gone": away}
    items = [Item(item_id, title=item_id) for item_id in ("good", "bad", "gone", "fine")]
    encoder = LengthEncoder()
    known: dict[str, Features] = {}

    def read(wanted: Sequence[Item]) -> list[embedding.Input]:
        return [outcomes.get(item.item_id) or ItemInput(f"text of {item.item_id}") for item in wanted]

    with pytest.raises(MediaUnavailable):
        embed(items, known, encoder, read)
    del outcomes["gone"]
    assert embed(items, known, encoder, read) == {"bad": ("media", "broken")}
    assert encoder.texts == ["text of good", "text of fine", "text of gone"]
    assert known.keys() == {"good", "fine", "gone"}


def test_a_flood_of_pictures_is_encoded_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = ItemInput("x", images=np.zeros((1, 224, 224, 3), np.uint8))
    monkeypatch.setattr(embedding, "GROUP_BYTES", 10 * picture.nbytes)
    items = [Item(f"i{n}", title="x") for n in range(35)]
    encoder = LengthEncoder()
    assert embed(items, {}, encoder, lambda wanted: [picture] * len(wanted)) == {}
    assert len(encoder.texts) == 35
    assert encoder.largest == 10 * picture.nbytes


def test_the_next_group_is_read_while_one_is_encoded_and_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "GROUP", 2)
    monkeypatch.setattr(embedding, "LOOK_S", 0.01)
    read_on, heard = threading.Event(), threading.Event()

    class Patient(LengthEncoder):
        def encode(self, items: Sequence[ItemInput]) -> list[Features]:
            assert read_on.wait(30), "nothing is read while the first group is encoded"
            assert heard.wait(30), "nobody is heard while the encoder works"
            return super().encode(items)

    def read(wanted: Sequence[Item]) -> Iterator[embedding.Input]:
        for number, item in enumerate(wanted):
            if number == 3:
                read_on.set()
            yield ItemInput(item.title)

    def meanwhile() -> None:
        if read_on.is_set():
            heard.set()

    known: dict[str, Features] = {}
    items = [Item(f"i{n}", title="x" * n) for n in range(1, 6)]
    assert embed(items, known, Patient(), read, meanwhile) == {}
    assert known.keys() == {item.item_id for item in items}


def test_what_interrupts_ends_the_batch() -> None:
    def meanwhile() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        embed([Item("a", title="x")], {}, LengthEncoder(), meanwhile=meanwhile)


def test_an_item_without_words_is_refused_where_words_are_all_that_is_read() -> None:
    items = [Item("a", media=[Media("image", uri="https://example.org/a.png")]), Item("b", title="x")]
    known: dict[str, Features] = {}
    assert embed(items, known, LengthEncoder()).keys() == {"a"}
    assert known.keys() == {"b"}
