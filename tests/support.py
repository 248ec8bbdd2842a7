"""What tests share: waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(fn: Callable[[], Found], timeout: float = 30.0, message: str = "", every: float = 0.05) -> Found:
    """Call `fn` until it returns something true, and return that; an AssertionError of `fn` counts as not yet.

    Raises:
        AssertionError: not within `timeout` seconds; with `message` and what `fn` returned or said last.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            found = fn()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or fn} not within {timeout:.0f} s; last: {last!r}")
        time.sleep(every)
