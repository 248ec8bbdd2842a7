"""Arrays in, arrays out of a model on Triton whose weights may change while it is used: each answer stands for itself,
and says which weights gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from upwell.inference.client import Array, ModelClient


class LatestModel:
    """What the clients of painters, speakers and judges share.

    Args:
        url: Triton's gRPC address, host:port.
        model: its name in the model repository; the packaged one's where it is left out.
        timeout_s: deadline of one call; the client's own where it is left out.
        options: gRPC channel options.
        attempts: calls at most, where the server does not answer.
    """

    MODEL: ClassVar[str]
    TIMEOUT_S: ClassVar[float]

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, str] | None = None,
        attempts: int = 2,
    ) -> None:
        self.client = ModelClient(
            url, model or self.MODEL, timeout_s=timeout_s or self.TIMEOUT_S, options=options, attempts=attempts
        )
        self.model_version = ""
        """`name@hash` of the weights, as of the latest answer."""

    def _infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Outputs by name. Raises: as `ModelClient.infer`."""
        answer = self.client.infer(inputs, (*outputs, "VERSION"))
        self.model_version = answer["VERSION"].reshape(-1)[0].decode()
        return answer

    def close(self) -> None:
        self.client.close()
