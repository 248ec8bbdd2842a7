"""The dedupe window: at least H events and at least T minutes, against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upwell.interactions.history import History

KEEP, WINDOW_MS = 5, 1000.0


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 400)), max_size=200))
def test_window_holds_what_it_must_and_survives_storage(steps: list[tuple[int, int]]) -> None:
    history = History()
    plain: list[tuple[int, int]] = []  # (event, logged)
    logged = 0
    for event, pause in steps:
        logged += pause
        assert (event in history.hashes) == (event in {e for e, _ in plain})
        if event in history.hashes:
            continue
        while len(plain) >= KEEP and plain[0][1] < logged - WINDOW_MS:
            plain.pop(0)
        history.add(event, event % 7, logged * 10, logged, 1.0, -1, event % 2 == 0, KEEP, WINDOW_MS)
        plain.append((event, logged))
        assert [int(e) for e in history.events()["event"]] == [e for e, _ in plain]
        assert history.hashes == {e for e, _ in plain}
    again = History.unpack(history.pack())
    assert again.hashes == history.hashes
    assert again.pack() == history.pack()


def test_waiting_events_are_marked_once() -> None:
    history = History()
    for event, item in enumerate([1, 2, 1, 3]):
        history.add(event, item, event, event, 1.0, -1, False, 3, 0.0)
    waiting = history.mark_applied(1, 42)
    assert waiting["event"].tolist() == [2]  # event 0 has left the window of three
    assert history.events()["row"].tolist() == [-1, 42, -1]
    assert len(history.mark_applied(1, 42)) == 0
