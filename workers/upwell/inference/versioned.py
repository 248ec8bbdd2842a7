"""Arrays in, arrays out of an encoder on Triton, all of one model version for a client's life.

Every answer's numbers are finite; an answer of another version than the first ends in `ModelChanged`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from upwell.inference.client import Array, ModelClient
from upwell.inference.errors import InferenceRejected, ModelChanged


class VersionedModel(ABC):
    """What the encoders' clients share.

    Args:
        url: Triton's gRPC address, host:port.
        model: its name in the model repository.
        what: the model in words, for messages.
        timeout_s: deadline of one call.
        in_flight: concurrent calls.
        options: gRPC channel options.
        attempts: calls per request, the first one included.
    """

    def __init__(
        self,
        url: str,
        model: str,
        what: str,
        *,
        timeout_s: float,
        options: Mapping[str, str] | None,
        in_flight: int,
        attempts: int = 4,
    ) -> None:
        self.client = ModelClient(
            url, model, timeout_s=timeout_s, attempts=attempts, options=options, in_flight=in_flight
        )
        self._what = what
        self._lock = threading.Lock()
        self._version = ""

    @property
    def model_version(self) -> str:
        """`name@hash` of the served weights, stable over restarts; asked of the server at the first use.

        Raises: as the model's own call.
        """
        if not self._version:
            self._ask()
        return self._version

    def close(self) -> None:
        self.client.close()

    @abstractmethod
    def _ask(self) -> object:
        """Any small call that is answered."""

    def _infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        answer = self.client.infer(inputs, (*outputs, "VERSION"))
        version = answer["VERSION"].reshape(-1)[0].decode()
        with self._lock:
            if self._version and version != self._version:
                raise ModelChanged(
                    f"The {self._what} now serves {version}; this worker began with {self._version}."
                    " Vectors of two models cannot be compared: restart the workers to prepare the new one."
                )
            self._version = version
        for name in outputs:
            if answer[name].dtype.kind == "f" and not np.isfinite(answer[name]).all():
                raise InferenceRejected(f"the {self._what} answered with numbers that are not finite in {name}")
        return answer
