"""Prompts in, one text each out, from any server of OpenAI's chat completions: OpenAI, vLLM, llama.cpp, `transformers serve`.

The key is in the request's header and nowhere else: no message repeats it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from upwell.inference.calls import Transient
from upwell.inference.endpoint import Endpoint, before, estimated
from upwell.inference.errors import InferenceRejected
from upwell.inference.generate import Generated
from upwell.settings import ConfigError

if TYPE_CHECKING:
    import httpx

REFUSED: Final = frozenset({400, 413, 422})
"""Statuses that tell of the prompt. All others are the server's, or its configuration's."""
KEY_REFUSED: Final = frozenset({401, 403})
WORDS: Final = 500
"""Characters of an answer that a message repeats."""
SEEDS: Final = 0x7FFFFFFF
"""Servers read a seed as 64, 32 or 31 bits."""
MOST_BYTES: Final = 4 * 2**20
"""Of an answer; a text and all that servers tell about it are a thousandth of it."""


class _Unfit(Exception):
    """No answer is taken in such a form."""


class OpenAiGenerator(Endpoint):
    """A model behind chat completions.

    Args:
        url: address up to `/v1`.
        model: its name there.
        api_key: empty where none is needed.
        timeout_s: deadline of a call, from the connection to the answer's last byte.
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
            import httpx
            import openai
        except ImportError as error:
            raise ConfigError("generator.kind = openai needs OpenAI's client: install `upwell[openai]`") from error
        if not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("generator.api_key: a header holds printable ASCII on one line")
        self._openai, self._max_tokens_field, self._key, self._timeout_s = openai, max_tokens_field, api_key, timeout_s
        # Retried by `Calls`, which the breaker counts with. The library insists on a key. Its own timeouts begin anew with
        # each piece of an answer; a task can be given up at any moment, so calls are tasks of one loop.
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=timeout_s,
            default_headers={"Accept-Encoding": "identity"},
            http_client=httpx.AsyncClient(
                timeout=timeout_s, follow_redirects=True, event_hooks={"response": [_bound(httpx.AsyncByteStream)]}
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"completions-{model}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        super().close()
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _ask(self, prompt: str, seed: int, max_tokens: int, temperature: float) -> Generated:
        # A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
        content = prompt.encode("utf-8", "replace").decode()
        body: dict[str, Any] = {self._max_tokens_field: max_tokens, "temperature": temperature, "seed": seed & SEEDS}
        if self._stop:
            body["stop"] = self._stop
        try:
            answer = asyncio.run_coroutine_threadsafe(self._completed(content, body), self._loop).result()
        except _Unfit as error:
            raise Transient(str(error)) from None
        except TimeoutError:
            raise Transient(f"no whole answer within {self._timeout_s:g} s") from None
        except self._openai.APIStatusError as error:
            words = error.response.text
            # Servers and proxies may repeat what they were sent. The cause would be in a traceback: it is left out.
            raise _sorted(error.status_code, words.replace(self._key, "…") if self._key else words) from None
        except self._openai.APIError as error:  # no connection, or none any more
            if isinstance(error.__cause__, _Unfit):  # as some releases of the library hand it on
                raise Transient(str(error.__cause__)) from None
            raise Transient(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, LookupError) as error:  # not JSON, or none that the library can take in
            raise Transient(f"it answered with no completion: {type(error).__name__}") from error
        text, tokens, self._version = _read(answer)
        text = before(self._stop, text)
        return Generated(text, estimated(text) if tokens is None else tokens)

    async def _completed(self, content: str, body: dict[str, Any]) -> Any:
        async with asyncio.timeout(self._timeout_s):
            return await self._client.chat.completions.create(
                model=self._model, messages=[{"role": "user", "content": content}], extra_body=body | self._options
            )


def _bound(stream: type[httpx.AsyncByteStream]) -> Any:
    """A hook that lets a response bring no more than `MOST_BYTES`: what is packed could become any number of them."""

    class Bounded(stream):  # type: ignore[valid-type,misc]
        def __init__(self, sent: Any) -> None:
            self._sent = sent

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for piece in self._sent:
                size += len(piece)
                if size > MOST_BYTES:
                    raise _Unfit(f"its answer is longer than {MOST_BYTES:,} bytes")
                yield piece

        async def aclose(self) -> None:
            await self._sent.aclose()

    async def hook(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Unfit("its answer is compressed, which was not asked for")
        response.stream = Bounded(response.stream)

    return hook


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
