"""Offsets end in any order; what is committed says exactly which have, and fits into a broker's metadata."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.content.progress import MOST_AHEAD, Progress, outcomes


def test_the_position_is_the_first_that_has_not_ended() -> None:
    progress = Progress(10)
    assert [progress.read(offset) for offset in (10, 11, 13)] == [True, True, True]  # 12 is a transaction's marker
    assert progress.position == 10
    progress.end(11, "generated")
    assert (progress.position, progress.ahead) == (10, 4)
    progress.end(10, "expired")
    assert progress.position == 13
    progress.end(13, "generated")
    assert (progress.position, progress.ahead) == (14, 0)
    assert outcomes(progress.text()) == {"generated": 2, "expired": 1}


@pytest.mark.parametrize(
    "text", ["", "upwell", "{", "[]", '{"v": 1, "ended": "not base85 \u00e9"}', '{"ended": "zzzzz"}', "null"]
)
def test_foreign_metadata_means_that_nothing_beyond_has_ended(text: str) -> None:
    progress = Progress(5, text)
    assert progress.read(5)
    assert progress.position == 5


@given(st.lists(st.integers(0, 400), unique=True, min_size=1), st.randoms(use_true_random=False), st.data())
def test_a_new_owner_goes_on_exactly_where_the_old_one_was(
    offsets: list[int], draw: random.Random, data: st.DataObject
) -> None:
    offsets.sort()
    progress = Progress(0)
    for offset in offsets:
        progress.read(offset)
    ended = draw.sample(offsets, data.draw(st.integers(0, len(offsets))))
    for offset in ended:
        progress.end(offset, "generated")
    taken_over = Progress(progress.position, progress.text())
    again = [offset for offset in offsets if offset >= progress.position and taken_over.read(offset)]
    assert again == sorted(set(offsets) - set(ended))
    assert taken_over.outcomes == ({"generated": len(ended)} if ended else {})


def test_the_longest_text_fits_into_an_offsets_metadata() -> None:
    progress = Progress(2**40)
    draw = random.Random(7)
    for offset in range(MOST_AHEAD):
        progress.read(2**40 + offset)
        if offset and draw.random() < 0.5:
            progress.end(2**40 + offset, draw.choice(["generated", "template", "superseded", "expired", "budget"]))
    assert progress.ahead == MOST_AHEAD
    assert len(progress.text().encode()) < 4096
