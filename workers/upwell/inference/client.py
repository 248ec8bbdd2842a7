"""Arrays in, arrays out of a model on Triton: deadline per call, jittered retries, circuit breaker, crashed models
reloaded.

Every failure ends as one of two errors: `InferenceUnavailable` (the infrastructure: try the same again later) or
`InferenceRejected` (the input: the same again would fail the same way). Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import tenacity
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from upwell.inference.errors import InferenceError, InferenceRejected, InferenceUnavailable, ModelChanged
from upwell.telemetry import metrics

__all__ = [
    "Breaker",
    "BreakerState",
    "InferenceError",
    "InferenceRejected",
    "InferenceUnavailable",
    "ModelChanged",
    "ModelClient",
    "channel_arguments",
    "tensor",
    "text_column",
]

Array = npt.NDArray[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 3.0
RELOAD_TIMEOUT_S: Final = 120.0


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


class _Transient(Exception):
    """Worth another attempt."""


class _Crashed(_Transient):
    """The model's own process died; the server keeps saying that it is ready."""


class ModelClient:
    """One model on one Triton server.

    Args:
        url: gRPC address, host:port.
        model: its name in the model repository.
        timeout_s: deadline of one call.
        attempts: calls per request, the first one included.
        options: gRPC channel options.
        in_flight: most concurrent calls of `map`.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout_s: float = 10.0,
        attempts: int = 4,
        options: Mapping[str, str] | None = None,
        in_flight: int = 4,
        breaker: Breaker | None = None,
    ) -> None:
        self.url, self.model, self.timeout_s = url, model, timeout_s
        self.breaker = breaker or Breaker()
        self._attempts = attempts
        self._triton = triton.InferenceServerClient(url, channel_args=channel_arguments(options))
        self._closing = threading.Event()
        self._reloading = threading.Lock()
        self._answers = 0
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix=f"triton-{model}")

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """One request: arrays with a first dimension of batch rows; str and bytes as object arrays.

        Raises:
            InferenceUnavailable: no answer after all attempts, or the breaker is open.
            InferenceRejected: the model refused the input.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
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
                    return self._call(inputs, outputs, attempt.retry_state.attempt_number)
        except _Transient as error:
            raise InferenceUnavailable(f"model {self.model} at {self.url} does not answer: {error}") from error
        raise AssertionError("unreachable")

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` on all items, concurrently; the results in their order. The first error is raised."""
        given = list(items)
        return [work(item) for item in given] if len(given) == 1 else list(self._pool.map(work, given))

    def close(self) -> None:
        """Ends waiting calls' retries and closes the connection."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._triton.close()

    def _call(self, inputs: Mapping[str, Array], outputs: Sequence[str], attempt: int) -> dict[str, Array]:
        if self._closing.is_set():
            raise InferenceUnavailable(f"the client of model {self.model} is closed")
        if not self.breaker.allow():
            raise InferenceUnavailable(f"model {self.model} at {self.url} failed repeatedly; it is asked again shortly")
        answers, started = self._answers, time.perf_counter()
        try:
            result = self._triton.infer(
                self.model,
                [tensor(name, value) for name, value in inputs.items()],
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                client_timeout=self.timeout_s,
            )
        except InferenceServerException as error:
            metrics.INFERENCE_FAILURES.labels(self.model).inc()
            problem = _classify(error)
            if isinstance(problem, InferenceRejected):
                self.breaker.succeeded()
                raise problem from error
            self.breaker.failed()
            # Another client, or the supervisor of the server, may be reloading it already: not at the first failure.
            if isinstance(problem, _Crashed) and attempt > 1:
                self._reload(answers)
            raise problem from error
        metrics.INFERENCE_SECONDS.labels(self.model).observe(time.perf_counter() - started)
        self.breaker.succeeded()
        self._answers += 1
        return {name: result.as_numpy(name) for name in outputs}

    def _reload(self, answers: int) -> None:
        """Unload and load the crashed model, unless it has answered somebody since."""
        with self._reloading:
            if self._answers != answers:
                return
            try:
                self._triton.unload_model(self.model, client_timeout=RELOAD_TIMEOUT_S)
                self._triton.load_model(self.model, client_timeout=RELOAD_TIMEOUT_S)
            except InferenceServerException as error:
                raise _Transient(
                    f"its process has died and it could not be loaded again ({error.message()})"
                ) from error


def _classify(error: InferenceServerException) -> _Transient | InferenceRejected:
    status, message = str(error.status()), str(error.message()).strip()
    code = status.removeprefix("StatusCode.")
    if code == "INVALID_ARGUMENT":
        return InferenceRejected(message)
    if code == "INTERNAL" and "Stub process" in message:
        return _Crashed(f"its process has died ({message})")
    if code == "INTERNAL" and "Failed to process the request" in message:
        return InferenceRejected(message)
    return _Transient(f"{code}: {message}")


def channel_arguments(options: Mapping[str, str] | None) -> list[tuple[str, int | str]] | None:
    """Channel options of gRPC as the client library takes them: numbers as numbers."""
    found = [(key, int(value) if value.lstrip("-").isdigit() else value) for key, value in (options or {}).items()]
    return found or None


def tensor(name: str, value: Array) -> triton.InferInput:
    """An array as a model's input."""
    given = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    given.set_data_from_numpy(value)
    return given


def text_column(texts: Sequence[str]) -> Array:
    """Object array [n, 1] of UTF-8 bytes; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    return np.array([text.encode("utf-8", "replace") for text in texts], dtype=np.object_).reshape(-1, 1)
