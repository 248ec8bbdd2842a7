"""How much bad data a worker takes: runs and shares, across batches; what is read again counts once."""

from __future__ import annotations

import pytest

from upwell.bus.bad_data import BadData
from upwell.bus.errors import TooManyRefused
from upwell.settings import DeadLetters


def limits(**values: float) -> BadData:
    return BadData("items", DeadLetters(**{"max_in_a_row": 10, "max_share": 1.0, "over_records": 100, **values}))  # type: ignore[arg-type]


def batch(bad_data: BadData, records: int, refused: list[int]) -> None:
    bad_data.check(records, refused, "items [0] offset 5: no title")
    bad_data.passed()


def test_a_run_goes_on_from_batch_to_batch() -> None:
    bad_data = limits()
    batch(bad_data, 6, [2, 3, 4, 5])
    batch(bad_data, 6, [0, 1, 2, 3, 4, 5])
    with pytest.raises(TooManyRefused, match=r"more than 10 records in a row.*offset 5: no title.*max_in_a_row"):
        bad_data.check(1, [0], "items [0] offset 5: no title")


def test_a_good_record_ends_a_run() -> None:
    bad_data = limits()
    for _ in range(50):
        batch(bad_data, 9, [0, 1, 2, 3, 5, 6, 7, 8])
        batch(bad_data, 1, [])


def test_a_batch_that_was_not_committed_counts_once() -> None:
    bad_data = limits()
    for _ in range(20):
        bad_data.check(8, list(range(8)), "")
    bad_data.passed()
    batch(bad_data, 2, [0, 1])
    with pytest.raises(TooManyRefused):
        bad_data.check(1, [0], "")


def test_the_share_is_of_the_last_records_and_of_no_fewer() -> None:
    bad_data = limits(max_in_a_row=0, max_share=0.5)
    batch(bad_data, 99, list(range(99)))  # too few to judge by
    with pytest.raises(TooManyRefused, match=r"100 of the last 100 records.*max_share"):
        bad_data.check(1, [0], "")
    bad_data.forget()
    for _ in range(100):
        batch(bad_data, 2, [1])  # exactly half, for ever
    batch(bad_data, 1_000, [])
    for _ in range(10):
        batch(bad_data, 10, list(range(10)))
    # Good records of long ago do not hide what is bad now.
    with pytest.raises(TooManyRefused):
        bad_data.check(1, [0], "")


def test_limits_can_be_off() -> None:
    bad_data = limits(max_in_a_row=0)
    for _ in range(100):
        batch(bad_data, 1_000, list(range(1_000)))
