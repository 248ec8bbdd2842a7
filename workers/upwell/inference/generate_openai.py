"""Prompts in, one text each out, from any server of OpenAI's chat completions: OpenAI, vLLM, llama.cpp, `transformers serve`.

The key is in the request's header and nowhere else: no message repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from upwell.inference.calls import Transient
from upwell.inference.endpoint import Endpoint, before, estimated
from upwell.inference.errors import InferenceRejected
from upwell.inference.generate import Generated
from upwell.settings import ConfigError

REFUSED: Final = frozenset({400, 413, 422})
"""Statuses that tell of the prompt. All others are the server's, or its configuration's."""
KEY_REFUSED: Final = frozenset({401, 403})
WORDS: Final = 500
"""Characters of an answer that a message repeats."""
SEEDS: Final = 0x7FFFFFFF
"""Servers read a seed as 64, 32 or 31 bits."""


class OpenAiGenerator(Endpoint):
    """A model behind chat completions.

    Args:
        url: address up to `/v1`.
        model: its name there.
        api_key: empty where none is needed.
        timeout_s: deadline of one call.
        max_tokens_field: what the server calls the most tokens of a text.
        more: see `Endpoint`.

    Raises:
        ConfigError: the client library is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "",
        timeout_s: float = 30.0,
        max_tokens_field: str = "max_tokens",
        stop: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        in_flight: int = 16,
        attempts: int = 4,
    ) -> None:
        super().__init__(model, url, stop=stop, options=options, in_flight=in_flight, attempts=attempts)
        try:
            import openai
        except ImportError as error:
            raise ConfigError("generator.kind = openai needs OpenAI's client: install `upwell[openai]`") from error
        self._openai, self._max_tokens_field = openai, max_tokens_field
        # Retried by `Calls`, which the breaker counts with. The library insists on a key.
        self._client = openai.OpenAI(base_url=url, api_key=api_key or "none", timeout=timeout_s, max_retries=0)

    def close(self) -> None:
        super().close()
        self._client.close()

    def _ask(self, prompt: str, seed: int, max_tokens: int, temperature: float) -> Generated:
        # A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
        content = prompt.encode("utf-8", "replace").decode()
        body: dict[str, Any] = {self._max_tokens_field: max_tokens, "temperature": temperature, "seed": seed & SEEDS}
        if self._stop:
            body["stop"] = self._stop
        try:
            answer = self._client.chat.completions.create(
                model=self._model, messages=[{"role": "user", "content": content}], extra_body=body | self._options
            )
        except self._openai.APIStatusError as error:
            raise _sorted(error.status_code, error.response.text) from error
        except self._openai.APIError as error:  # no connection, no answer in time, an answer that is none
            raise Transient(f"{type(error).__name__}: {error}") from error
        if not answer.choices:
            raise Transient("it answered with no text")
        text = before(self._stop, answer.choices[0].message.content or "")
        fingerprint = answer.system_fingerprint
        self._version = f"{answer.model}@{fingerprint}" if fingerprint else answer.model
        return Generated(text, answer.usage.completion_tokens if answer.usage else estimated(text))


def _sorted(status: int, words: str) -> Transient | InferenceRejected:
    if status in KEY_REFUSED:  # whose words may repeat the key
        return Transient(f"HTTP {status}: it refuses the key; see generator.api_key")
    said = f"HTTP {status}: {words[:WORDS].strip()}"
    return InferenceRejected(said) if status in REFUSED else Transient(said)
