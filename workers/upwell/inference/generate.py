"""Prompts in, one text each out, from the text generator on Triton; sent at the same time, so that Triton batches them.

`stream` gives one text as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from upwell.inference.client import Array, ModelClient, text_column
from upwell.inference.errors import InferenceRejected
from upwell.inference.stream import stream

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer. `error` says why the model refused the prompt; the text is then empty."""

    text: str
    tokens: int
    """Tokens generated."""
    error: str = ""


class TextWriter(Protocol):
    """What writes texts. `TextGenerator` does more than this."""

    @property
    def model_version(self) -> str:
        """Who wrote the latest text; asked of the server where nobody has written yet."""

    def generate(
        self, prompts: Sequence[str], max_tokens: int = 64, temperature: float = 0.7, seeds: Sequence[int] | None = None
    ) -> list[Generated]:
        """One text per prompt, in their order; a refused prompt has its `error` set.

        Raises:
            InferenceUnavailable: the server does not answer.
        """

    def stream(self, prompt: str, max_tokens: int = 64, temperature: float = 0.7, seed: int = 0) -> Iterator[str]:
        """The text of one prompt in pieces, as they are written.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: it refuses the prompt.
        """

    def close(self) -> None: ...


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
        self._options = dict(options or {})
        self._version = ""

    @property
    def model_version(self) -> str:
        """`name@hash of the weights+hash of the adapter` (and of the mapper of vectors), as of the latest answer.

        Raises: InferenceUnavailable where the server was not asked yet and does not answer.
        """
        if not self._version:
            self.generate(["Say hello."], max_tokens=1)
        return self._version

    def generate(
        self,
        prompts: Sequence[str],
        max_tokens: int = 64,
        temperature: float = 0.7,
        seeds: Sequence[int] | None = None,
        *,
        items: Sequence[Vector | None] | None = None,
        users: Sequence[Vector | None] | None = None,
        min_tokens: int = 0,
    ) -> list[Generated]:
        """One text per prompt, in their order. A prompt that the model refuses has its `error` set.

        Args:
            prompts: user messages; the chat template is applied where the model is served.
            max_tokens: 1 to 1024, for each text.
            temperature: 0 (greedy) to 2.
            seeds: one per prompt; left out, all zero.
            items: one per prompt, the item's fused vector float32 [d] where the text may say what no words describe.
            users: one per prompt, the user's profile vector float32 [d].
            min_tokens: 0 to `max_tokens`; before them no text ends.

        Raises:
            InferenceUnavailable: the server does not answer.
        """
        n, chosen = len(prompts), seeds_of(prompts, seeds)
        if not prompts:
            return []
        asked = [
            _inputs(prompt, max_tokens, temperature, seed, item, user, min_tokens)
            for prompt, seed, item, user in zip(prompts, chosen, items or [None] * n, users or [None] * n, strict=True)
        ]
        return self.client.map(self._call, asked)

    def stream(
        self,
        prompt: str,
        max_tokens: int = 64,
        temperature: float = 0.7,
        seed: int = 0,
        *,
        item: Vector | None = None,
        user: Vector | None = None,
    ) -> Iterator[str]:
        """The text of one prompt in pieces, as they are written; together they are the text. Arguments as `generate`'s.

        Needs the model `text_generator_stream`. Closing the iterator takes the request back; the model writes it to its
        end all the same.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: the model refuses the prompt.
        """
        asked = _inputs(prompt, max_tokens, temperature, seed, item, user)
        for answer in stream(
            self.client.url, f"{self.client.model}_stream", asked, ("TEXT",), timeout_s=self.client.timeout_s,
            options=self._options,
        ):  # fmt: skip
            if piece := answer["TEXT"].reshape(-1)[0].decode("utf-8", "replace"):
                yield piece

    def _call(self, inputs: Mapping[str, Array]) -> Generated:
        try:
            answer = self.client.infer(inputs, ("TEXT", "TOKENS", "VERSION"))
        except InferenceRejected as error:
            return Generated("", 0, str(error) or "refused")
        self._version = answer["VERSION"].reshape(-1)[0].decode()
        return Generated(answer["TEXT"].reshape(-1)[0].decode("utf-8", "replace"), int(answer["TOKENS"].reshape(-1)[0]))

    def close(self) -> None:
        self.client.close()


def seeds_of(prompts: Sequence[str], seeds: Sequence[int] | None) -> list[int]:
    """One per prompt.

    Raises:
        ValueError: there are more or fewer.
    """
    chosen = list(seeds) if seeds is not None else [0] * len(prompts)
    if len(chosen) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(chosen)} seeds")
    return chosen


def _inputs(
    prompt: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    item: Vector | None,
    user: Vector | None,
    min_tokens: int = 0,
) -> dict[str, Array]:
    inputs: dict[str, Array] = {
        "PROMPT": text_column([prompt]),
        "MAX_TOKENS": np.array([[max_tokens]], dtype=np.int32),
        "TEMPERATURE": np.array([[temperature]], dtype=np.float32),
        "SEED": np.array([[seed & 0x7FFFFFFFFFFFFFFF]], dtype=np.int64),
    }
    if min_tokens:
        inputs["MIN_TOKENS"] = np.array([[min_tokens]], dtype=np.int32)
    for name, vector in (("ITEM_VECTOR", item), ("USER_VECTOR", user)):
        if vector is not None:
            inputs[name] = np.asarray(vector, dtype=np.float32).reshape(1, -1)
    return inputs
