"""Which hosts have answered and which have not, in; whether one is worth asking just now, out. Thread-safe.

A host that is away costs its own items their patience, and not each of them a timeout, one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from upwell.media.errors import MediaUnavailable

FAILURES: Final = 3
"""In a row; a host with one slow file among many is asked on."""
REST_S: Final = 5.0
MOST_HOSTS: Final = 1_024


class Silence:
    """After three failures in a row a host is left alone for five seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, tuple[int, float]] = {}
        """Failures in a row, and until when it is left alone."""

    def ask(self, host: str) -> None:
        """Raises: MediaUnavailable: it has not answered a moment ago."""
        with self._lock:
            failures, until = self._hosts.get(host, (0, 0.0))
        if failures >= FAILURES and self._clock() < until:
            raise MediaUnavailable(
                f"host {host[:200]} has not answered {failures} times in a row; it is asked again soon"
            )

    def answered(self, host: str) -> None:
        with self._lock:
            self._hosts.pop(host, None)

    def silent(self, host: str) -> None:
        with self._lock:
            if len(self._hosts) >= MOST_HOSTS and host not in self._hosts:
                self._hosts.clear()  # strangers name hosts; who is away shows itself again
            self._hosts[host] = (self._hosts.get(host, (0, 0.0))[0] + 1, self._clock() + REST_S)
