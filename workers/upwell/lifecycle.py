"""Signals: the first SIGTERM or SIGINT asks the worker to finish the batch in hand; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import structlog

log = structlog.get_logger("upwell.lifecycle")
Result = TypeVar("Result")

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0


class Stop:
    """Asked for by a signal or by `set`. Workers look at it between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def listen(self) -> Stop:
        """Install the handlers (main thread only)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()

    def set(self) -> None:
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s`, less when asked to stop; True when asked."""
        return self._event.wait(timeout_s)


class Stopped(Exception):
    """Asked to stop while something did not answer: leave, with offsets unmoved."""


def insist(
    action: Callable[[], Result], on: tuple[type[Exception], ...], stop: Stop, meanwhile: Callable[[float], None]
) -> Result:
    """Repeat `action`, with growing delays, until it no longer raises one of `on`.

    Args:
        meanwhile: spends a delay of that many seconds and keeps what must be kept alive.

    Raises:
        Stopped: asked to stop before it worked.
    """
    delay = FIRST_DELAY_S
    while True:
        try:
            return action()
        except on as error:
            log.warning("waiting", error=str(error).strip() or type(error).__name__, again_in_s=round(delay, 1))
        if stop:
            raise Stopped
        meanwhile(delay)
        delay = min(LAST_DELAY_S, 2 * delay)
