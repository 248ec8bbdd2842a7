"""A call of a model server in, its answer out: jittered retries, circuit breaker, concurrency. Of every client, whatever
it speaks.

Every failure ends as one of two errors: `InferenceUnavailable` (the infrastructure: try the same again later) or
`InferenceRejected` (the input: the same again would fail the same way). Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final, TypeVar

import tenacity

from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.telemetry import metrics

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 3.0


class Transient(Exception):
    """Worth another attempt."""


class BreakerState(StrEnum):
    """What a circuit breaker does with a call."""

    CLOSED = "closed"
    """Lets it pass."""
    OPEN = "open"
    """Refuses it at once: the last calls all failed."""
    HALF_OPEN = "half_open"
    """Lets one pass, to see whether the server is back."""


class Breaker:
    """Opens after `failures` failed calls in a row, lets one call through every `pause_s` seconds, closes on success."""

    def __init__(self, failures: int = 5, pause_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._failed = 0
        self._next_probe = 0.0

    @property
    def state(self) -> BreakerState:
        with self._lock:
            if self._failed < self._limit:
                return BreakerState.CLOSED
            return BreakerState.OPEN if self._clock() < self._next_probe else BreakerState.HALF_OPEN

    def allow(self) -> bool:
        """Whether a call may be made now. In the half-open state only the first caller per pause may."""
        with self._lock:
            if self._failed < self._limit:
                return True
            if self._clock() < self._next_probe:
                return False
            self._next_probe = self._clock() + self._pause_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            self._next_probe = self._clock() + self._pause_s


class Calls:
    """All calls of one model.

    Args:
        model: its name, as the metrics' label.
        where: of its server, for messages.
        attempts: calls per request, the first one included.
        in_flight: most concurrent calls of `map`.
    """

    def __init__(
        self, model: str, where: str, *, attempts: int = 4, in_flight: int = 4, breaker: Breaker | None = None
    ) -> None:
        self.breaker = breaker or Breaker()
        self._model, self._what, self._attempts = model, f"model {model} at {where}", attempts
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix=f"model-{model}")

    def __call__(self, call: Callable[[int], Result]) -> Result:
        """What `call` returns, which is given the number of the attempt and raises Transient or InferenceRejected.

        Raises:
            InferenceUnavailable: no answer after all attempts, or the breaker is open.
            InferenceRejected: the model refused the input.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self._attempts), tenacity.stop_when_event_set(self._closing)
            ),
            wait=tenacity.wait_random_exponential(multiplier=RETRY_FIRST_S, max=RETRY_MOST_S),
            sleep=tenacity.sleep_using_event(self._closing),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    return self._once(call, attempt.retry_state.attempt_number)
        except Transient as error:
            raise InferenceUnavailable(f"{self._what} does not answer: {error}") from error
        raise AssertionError("unreachable")

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` on all items, concurrently; the results in their order. The first error is raised."""
        given = list(items)
        return [work(item) for item in given] if len(given) == 1 else list(self._pool.map(work, given))

    def close(self) -> None:
        """Ends waiting calls' retries."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _once(self, call: Callable[[int], Result], attempt: int) -> Result:
        if self._closing.is_set():
            raise InferenceUnavailable(f"the client of {self._what} is closed")
        if not self.breaker.allow():
            raise InferenceUnavailable(f"{self._what} failed repeatedly; it is asked again shortly")
        started = time.perf_counter()
        try:
            result = call(attempt)
        except InferenceRejected:
            metrics.INFERENCE_FAILURES.labels(self._model).inc()
            self.breaker.succeeded()
            raise
        except Transient:
            metrics.INFERENCE_FAILURES.labels(self._model).inc()
            self.breaker.failed()
            raise
        metrics.INFERENCE_SECONDS.labels(self._model).observe(time.perf_counter() - started)
        self.breaker.succeeded()
        return result
