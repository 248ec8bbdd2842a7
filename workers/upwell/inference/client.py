"""Arrays in, arrays out of a model on Triton: a deadline per call, crashed models reloaded; retried as `calls` says.

Every failure ends as one of two errors: `InferenceUnavailable` (the infrastructure: try the same again later) or
`InferenceRejected` (the input: the same again would fail the same way). Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from upwell.inference.calls import Breaker, Calls, Item, Result, Transient
from upwell.inference.errors import InferenceRejected

Array = npt.NDArray[Any]

RELOAD_TIMEOUT_S: Final = 120.0


class _Crashed(Transient):
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
        self._calls = Calls(model, url, attempts=attempts, in_flight=in_flight, breaker=breaker)
        self._triton = triton.InferenceServerClient(url, channel_args=channel_arguments(options))
        self._reloading = threading.Lock()
        self._answers = 0

    @property
    def breaker(self) -> Breaker:
        return self._calls.breaker

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """One request: arrays with a first dimension of batch rows; str and bytes as object arrays.

        Raises:
            InferenceUnavailable: no answer after all attempts, or the breaker is open.
            InferenceRejected: the model refused the input.
        """
        return self._calls(lambda attempt: self._call(inputs, outputs, attempt))

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` on all items, concurrently; the results in their order. The first error is raised."""
        return self._calls.map(work, items)

    def close(self) -> None:
        """Ends waiting calls' retries and closes the connection."""
        self._calls.close()
        self._triton.close()

    def _call(self, inputs: Mapping[str, Array], outputs: Sequence[str], attempt: int) -> dict[str, Array]:
        answers = self._answers
        try:
            result = self._triton.infer(
                self.model,
                [tensor(name, value) for name, value in inputs.items()],
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                client_timeout=self.timeout_s,
            )
        except InferenceServerException as error:
            problem = _classify(error)
            # Another client, or the supervisor of the server, may be reloading it already: not at the first failure.
            if isinstance(problem, _Crashed) and attempt > 1:
                self._reload(answers)
            raise problem from error
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
                raise Transient(f"its process has died and it could not be loaded again ({error.message()})") from error


def _classify(error: InferenceServerException) -> Transient | InferenceRejected:
    status, message = str(error.status()), str(error.message()).strip()
    code = status.removeprefix("StatusCode.")
    if code == "INVALID_ARGUMENT":
        return InferenceRejected(message)
    if code == "INTERNAL" and "Stub process" in message:
        return _Crashed(f"its process has died ({message})")
    if code == "INTERNAL" and "Failed to process the request" in message:
        return InferenceRejected(message)
    return Transient(f"{code}: {message}")


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
