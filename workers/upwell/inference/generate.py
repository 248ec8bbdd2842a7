"""Prompts in, one text each out, from the text generator on Triton; sent at the same time, so that Triton batches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from upwell.inference.client import ModelClient, text_column
from upwell.inference.errors import InferenceRejected


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer. `error` says why the model refused the prompt; the text is then empty."""

    text: str
    tokens: int
    """Tokens generated."""
    error: str = ""


class TextGenerator:
    """The served text generator.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one call, waiting for the batch before it included.
        in_flight: concurrent calls; twice the model's batch keeps it busy.
        attempts: calls per prompt, the first one included.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "text_generator",
        timeout_s: float = 30.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 16,
        attempts: int = 4,
    ) -> None:
        self.client = ModelClient(
            url, model, timeout_s=timeout_s, options=options, in_flight=in_flight, attempts=attempts
        )
        self._version = ""

    @property
    def model_version(self) -> str:
        """`name@hash of the weights+hash of the adapter`, as of the latest answer.

        Raises: InferenceUnavailable where the server was not asked yet and does not answer.
        """
        if not self._version:
            self.generate(["Say hello."], max_tokens=1)
        return self._version

    def generate(
        self, prompts: Sequence[str], max_tokens: int = 64, temperature: float = 0.7, seeds: Sequence[int] | None = None
    ) -> list[Generated]:
        """One text per prompt, in their order. A prompt that the model refuses has its `error` set.

        Args:
            prompts: user messages; the chat template is applied where the model is served.
            max_tokens: 1 to 1024, for each text.
            temperature: 0 (greedy) to 2.
            seeds: one per prompt; left out, all zero.

        Raises:
            InferenceUnavailable: the server does not answer.
        """
        chosen = list(seeds) if seeds is not None else [0] * len(prompts)
        if len(chosen) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(chosen)} seeds")
        if not prompts:
            return []
        return self.client.map(
            lambda pair: self._call(pair[0], max_tokens, temperature, pair[1]), zip(prompts, chosen, strict=True)
        )

    def _call(self, prompt: str, max_tokens: int, temperature: float, seed: int) -> Generated:
        inputs = {
            "PROMPT": text_column([prompt]),
            "MAX_TOKENS": np.array([[max_tokens]], dtype=np.int32),
            "TEMPERATURE": np.array([[temperature]], dtype=np.float32),
            "SEED": np.array([[seed & 0x7FFFFFFFFFFFFFFF]], dtype=np.int64),
        }
        try:
            answer = self.client.infer(inputs, ("TEXT", "TOKENS", "VERSION"))
        except InferenceRejected as error:
            return Generated("", 0, str(error) or "refused")
        self._version = answer["VERSION"].reshape(-1)[0].decode()
        return Generated(answer["TEXT"].reshape(-1)[0].decode("utf-8", "replace"), int(answer["TOKENS"].reshape(-1)[0]))

    def close(self) -> None:
        self.client.close()
