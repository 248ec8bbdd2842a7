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
        timeout_s: deadline of the connection, and of each read of the answer.
        max_tokens_field: what the server calls the most tokens of a text.
        more: see `Endpoint`.

    Raises:
        ConfigError: the client library is not installed, or no header can hold the key.
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
        if not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("generator.api_key: a header holds printable ASCII on one line")
        self._openai, self._max_tokens_field, self._key = openai, max_tokens_field, api_key
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
            words = error.response.text
            # Servers and proxies may repeat what they were sent. The cause would be in a traceback: it is left out.
            raise _sorted(error.status_code, words.replace(self._key, "…") if self._key else words) from None
        except self._openai.APIError as error:  # no connection, no answer in time
            raise Transient(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, LookupError) as error:  # not JSON, or none that the library can take in
            raise Transient(f"it answered with no completion: {type(error).__name__}") from error
        text, tokens, self._version = _read(answer)
        text = before(self._stop, text)
        return Generated(text, estimated(text) if tokens is None else tokens)


def _read(answer: Any) -> tuple[str, int | None, str]:
    """Text, its tokens where they are counted, and who wrote it. The library hands on whatever it was sent.

    Raises:
        Transient: there is no text.
    """
    try:
        text = answer.choices[0].message.content or ""
    except (AttributeError, TypeError, LookupError):
        text = None
    if not isinstance(text, str):
        raise Transient("it answered with no text")
    tokens = getattr(answer.usage, "completion_tokens", None)
    model, fingerprint = str(answer.model or ""), answer.system_fingerprint
    return text, tokens if isinstance(tokens, int) else None, f"{model}@{fingerprint}" if fingerprint else model


def _sorted(status: int, words: str) -> Transient | InferenceRejected:
    if status in KEY_REFUSED:  # whose words may repeat the key
        return Transient(f"HTTP {status}: it refuses the key; see generator.api_key")
    said = f"HTTP {status}: {words[:WORDS].strip()}"
    return InferenceRejected(said) if status in REFUSED else Transient(said)
