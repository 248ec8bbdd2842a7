"""Generators of other servers: what of an answer is whose fault, what of a prompt is data, and where a key comes from."""

from __future__ import annotations

import pytest

from upwell.content.served import writer_of
from upwell.inference.calls import Transient
from upwell.inference.endpoint import before, estimated
from upwell.inference.errors import InferenceRejected
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
