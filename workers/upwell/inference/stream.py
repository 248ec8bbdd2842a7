"""One request in, its answers one by one out, from a decoupled model on Triton over a gRPC stream of its own.

Ends as `client.ModelClient` does: `InferenceUnavailable` (try again later) or `InferenceRejected` (the input). Nothing is
retried: what has been shown cannot be taken back.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from upwell.inference.client import Array, channel_arguments, tensor
from upwell.inference.errors import InferenceRejected, InferenceUnavailable

SERVERS_OWN: Final = ("Request for unknown model", "Stub process", "is not ready", "Socket closed", "shutting down")
"""Parts of messages that are not the model's answer to the input; within a stream, Triton tells no status."""


def stream(
    url: str,
    model: str,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    *,
    timeout_s: float = 30.0,
    options: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Array]]:
    """The model's answers to one request, in their order; None for an output that one of them lacks. Closing the iterator
    takes the request back.

    Args:
        url: Triton's gRPC address, host:port.
        inputs: arrays with a first dimension of 1.
        timeout_s: longest wait for the next answer.
        options: gRPC channel options.

    Raises:
        InferenceUnavailable: the server or the model does not answer in time.
        InferenceRejected: the model refused the input.
    """
    found: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    client = triton.InferenceServerClient(url, channel_args=channel_arguments(options))
    try:
        client.start_stream(lambda result, error: found.put((result, error)))
        client.async_stream_infer(
            model,
            [tensor(name, value) for name, value in inputs.items()],
            outputs=[triton.InferRequestedOutput(name) for name in outputs],
            enable_empty_final_response=True,
        )
        while True:
            result, error = found.get(timeout=timeout_s)
            if error is not None:
                raise _classified(error, url, model)
            # A model may say that it has ended after its last answer.
            if result.get_response().outputs:
                yield {name: result.as_numpy(name) for name in outputs}
            if result.get_response().parameters["triton_final_response"].bool_param:
                return
    except queue.Empty:
        raise InferenceUnavailable(f"model {model} at {url} was silent for {timeout_s:g} s") from None
    except InferenceServerException as error:  # the stream itself failed before anything was asked
        raise InferenceUnavailable(f"model {model} at {url} does not answer: {error.message()}") from error
    finally:
        client.stop_stream(cancel_requests=True)
        client.close()


def _classified(error: InferenceServerException, url: str, model: str) -> InferenceUnavailable | InferenceRejected:
    message = str(error.message()).strip()
    if error.status() is None and not any(part in message for part in SERVERS_OWN):
        return InferenceRejected(message)
    return InferenceUnavailable(f"model {model} at {url} does not answer: {message}")
