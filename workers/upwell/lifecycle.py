"""Signals: the first SIGTERM or SIGINT asks the worker to finish the batch in hand; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


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
