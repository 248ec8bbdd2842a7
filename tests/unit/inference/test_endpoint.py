"""Generators of other servers: what of an answer is whose fault, what of a prompt is data, and where a key comes from."""

from __future__ import annotations

import gzip
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from upwell.content.served import writer_of
from upwell.inference.calls import Transient
from upwell.inference.endpoint import before, estimated
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.generate import TextGenerator
from upwell.inference.generate_openai import OpenAiGenerator, _sorted
from upwell.inference.generate_text_input import Dialect, TextInputGenerator
from upwell.settings import ConfigError, Settings


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InferenceRejected),
        (422, InferenceRejected),
        (401, Transient),
        (404, Transient),
        (429, Transient),
        (503, Transient),
    ],
)
def test_statuses_are_sorted(status, kind):
    assert type(_sorted(status, "words")) is kind


def test_a_refused_key_is_not_repeated():
    assert "hunter2" not in str(_sorted(401, "Incorrect API key provided: hunter2"))


def answered(status: int, kind: str, words: str) -> AbstractContextManager[OpenAiGenerator]:
    """A generator whose server answers each call so; `{sent}` in it is the header that the key came in."""

    def answer(call: BaseHTTPRequestHandler) -> None:
        body = words.replace("{sent}", call.headers["Authorization"]).encode()
        call.send_response(status)
        call.send_header("Content-Type", kind)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)

    return serving(answer)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None], timeout_s: float = 30) -> Iterator[OpenAiGenerator]:
    """A generator whose server answers so; what the client no longer listens to is no failure of the server's."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        generator = OpenAiGenerator(
            f"http://127.0.0.1:{server.server_port}/v1", "m", api_key="hunter2", attempts=1, timeout_s=timeout_s
        )
        try:
            yield generator
        finally:
            generator.close()
            server.shutdown()
            thread.join()


JSON = "application/json"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text/html", "<html>Sign in</html>"),
        (JSON, "[]"),
        (JSON, "null"),
        (JSON, "{broken"),
        (JSON, '{"choices": {"a": 1}}'),
        (JSON, '{"choices": [{"message": null}]}'),
        (JSON, '{"choices": [{"message": {"content": ["parts"]}}]}'),
    ],
)
def test_an_answer_that_is_none_is_the_servers_fault(kind, words):
    """So the template answers; an error of another kind would put the triggers into the dead letters."""
    with answered(200, kind, words) as generator, pytest.raises(InferenceUnavailable, match="answered with no"):
        generator.generate(["a"])


def test_an_answer_may_lack_its_model_and_its_count():
    with answered(200, JSON, '{"choices": [{"message": {"content": "Alien."}}], "usage": {}}') as generator:
        (written,) = generator.generate(["a"])
        assert (written.text, written.tokens, generator.model_version) == ("Alien.", 2, "m")


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_server_that_trickles_is_given_up_at_the_deadline(begun):
    """Each byte comes in time, so that no read ever times out; the answer as a whole would take for ever."""
    over = threading.Event()

    def trickle(call: BaseHTTPRequestHandler) -> None:
        call.wfile.write(begun)
        while not over.wait(0.02):
            call.wfile.write(b"a" if begun else b"")

    with serving(trickle, timeout_s=0.5) as generator:
        with pytest.raises(InferenceUnavailable, match=r"no whole answer within 0\.5 s"):
            generator.generate(["a"])
        over.set()


def test_an_answer_without_end_is_not_read_to_it():
    def flood(call: BaseHTTPRequestHandler) -> None:
        call.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            call.wfile.write(b" " * 2**16)

    with serving(flood) as generator, pytest.raises(InferenceUnavailable, match="longer than"):
        generator.generate(["a"])


def test_a_packed_answer_is_not_unpacked():
    def packed(call: BaseHTTPRequestHandler) -> None:
        assert call.headers["Accept-Encoding"] == "identity"
        body = gzip.compress(b" " * 2**24)
        call.send_response(200)
        call.send_header("Content-Encoding", "gzip")
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)

    with serving(packed) as generator, pytest.raises(InferenceUnavailable, match="compressed"):
        generator.generate(["a"])


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_a_key_that_a_server_repeats_is_in_no_message(status):
    with answered(status, "text/plain", "who is {sent}?") as generator:
        try:
            said = generator.generate(["a"])[0].error
        except InferenceUnavailable as error:
            said = "".join(traceback.format_exception(error))
    assert f"HTTP {status}: who is Bearer …?" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("key", ["hünter2", "hunter\n2"])
def test_a_key_that_no_header_holds_is_refused_at_once(key):
    with pytest.raises(ConfigError, match=r"generator\.api_key"):
        OpenAiGenerator("http://127.0.0.1:1/v1", "m", api_key=key)


def test_marks_of_the_chat_lose_their_meaning_inside_a_prompt():
    generator = TextInputGenerator(
        "127.0.0.1:1", "m", Dialect.VLLM, chat_format="<|im_start|>user\n{prompt}<|im_end|>\n", stop=["<|end|>", "\n\n"]
    )
    assert generator._marks == {"<|im_start|>", "<|im_end|>", "<|end|>"}
    generator.close()


@pytest.mark.parametrize(
    ("text", "left"), [(" Alien. Next: x", "Alien."), ("Alien.", "Alien."), ("Next: x", ""), ("a\n\nb Next", "a")]
)
def test_a_text_ends_before_its_stops(text, left):
    assert before(["Next", "\n\n", ""], text) == left


def test_tokens_that_nobody_counted_are_estimated():
    assert [estimated(text) for text in ("", "a", "abcde", "ééé")] == [0, 1, 2, 2]


OPENAI = {"generator.kind": "openai", "generator.url": "http://127.0.0.1:1/v1", "generator.model": "m"}


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({}, TextGenerator),
        (OPENAI, OpenAiGenerator),
        ({"generator.kind": "vllm"}, TextInputGenerator),
        ({"generator.kind": "tensorrt_llm", "generator.model": "ensemble"}, TextInputGenerator),
    ],
)
def test_settings_choose_the_generator(flags, kind):
    generator = writer_of(Settings.load(flags=flags))
    assert type(generator) is kind
    generator.close()


def test_a_key_may_lie_in_a_file(tmp_path):
    (tmp_path / "key").write_text("hunter2\n")
    generator = writer_of(Settings.load(flags=OPENAI | {"generator.api_key_file": str(tmp_path / "key")}))
    assert generator._client.api_key == "hunter2"
    generator.close()
    with pytest.raises(ConfigError, match=r"generator\.api_key_file"):
        writer_of(Settings.load(flags=OPENAI | {"generator.api_key_file": str(tmp_path / "none")}))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"generator.kind": "openai"}, r"^generator\.kind = openai needs generator\.url and generator\.model"),
        ({"generator.kind": "vllm", "generator.chat_format": "x"}, r"must hold \{prompt\}"),
        ({"generator.kind": "gpt"}, "generator.kind = 'gpt'"),
    ],
)
def test_what_is_lacking_is_said(flags, message):
    with pytest.raises(ConfigError, match=message):
        Settings.load(flags=flags)
