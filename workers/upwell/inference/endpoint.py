"""Prompts in, one text each out, from a server that is not ours: what such generators share.

Retries, circuit breaker and concurrency are those of `calls`; what an answer means is each server's own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from upwell.inference.calls import Calls
from upwell.inference.errors import InferenceRejected
from upwell.inference.generate import Generated, seeds_of

BYTES_A_TOKEN: Final = 4
"""Of English in UTF-8, roughly: where a server does not count its tokens."""


class Endpoint(ABC):
    """Thread-safe.

    Args:
        model: its name on the server.
        where: the server, for messages.
        stop: a text ends before any of these.
        options: further fields of each request; values are read as JSON where they are JSON.
        in_flight: concurrent calls.
        attempts: calls per prompt, the first one included.
    """

    def __init__(
        self,
        model: str,
        where: str,
        *,
        stop: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        in_flight: int = 16,
        attempts: int = 4,
    ) -> None:
        self._model, self._stop = model, list(stop)
        self._options = {name: _json(value) for name, value in (options or {}).items()}
        self._calls = Calls(model, where, attempts=attempts, in_flight=in_flight)
        self._version = ""

    @property
    def model_version(self) -> str:
        """Who wrote the latest text, as the server names it.

        Raises: InferenceUnavailable where the server was not asked yet and does not answer.
        """
        if not self._version:
            self.generate(["Say hello."], max_tokens=1)
        return self._version or self._model

    def generate(
        self, prompts: Sequence[str], max_tokens: int = 64, temperature: float = 0.7, seeds: Sequence[int] | None = None
    ) -> list[Generated]:
        """One text per prompt, in their order. A prompt that the server refuses has its `error` set.

        Raises:
            InferenceUnavailable: the server does not answer.
        """

        def one(asked: tuple[str, int]) -> Generated:
            try:
                return self._calls(lambda _: self._ask(*asked, max_tokens, temperature))
            except InferenceRejected as error:
                return Generated("", 0, str(error) or "refused")

        return self._calls.map(one, zip(prompts, seeds_of(prompts, seeds), strict=True))

    def stream(self, prompt: str, max_tokens: int = 64, temperature: float = 0.7, seed: int = 0) -> Iterator[str]:
        """The text of one prompt, in one piece.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: it refuses the prompt.
        """
        if text := self._calls(lambda _: self._ask(prompt, seed, max_tokens, temperature)).text:
            yield text

    def close(self) -> None:
        self._calls.close()

    @abstractmethod
    def _ask(self, prompt: str, seed: int, max_tokens: int, temperature: float) -> Generated:
        """One call.

        Raises:
            Transient: worth another attempt.
            InferenceRejected: the server refused the prompt.
        """


def before(stop: Sequence[str], text: str) -> str:
    """The text up to the first of the stops, without space around it: servers differ in whether they give it back."""
    ends = [place for one in stop if one and (place := text.find(one)) >= 0]
    return text[: min(ends, default=len(text))].strip()


def estimated(text: str) -> int:
    """Tokens of a text whose server has not counted them."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
