"""Texts by other people's servers: chat completions by `transformers serve`, and the tensors of vLLM and TensorRT-LLM on the
real Triton, by tiny models.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient import grpc as triton

from deployment import deployed
from support import eventually
from tiny_models import language_model
from upwell.bus import topics
from upwell.inference.errors import InferenceUnavailable
from upwell.inference.generate_openai import OpenAiGenerator
from upwell.inference.generate_text_input import Dialect, TextInputGenerator
from upwell.inference.repository import unload

pytestmark = pytest.mark.integration

MODELS = ("text_encoder",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("writer")
    language_model(made, chat=True)
    for parent in (made, *made.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o055)
    return made


@pytest.fixture(scope="module")
def chat(folder) -> Iterator[str]:
    """Address of a server of chat completions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"serve {folder} --host 127.0.0.1 --port {port} --device cpu --dtype float32 --log-level error".split()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(Path(sys.executable).with_name("transformers")), *command],
            stdout=log, stderr=log, cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip

    def up() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        eventually(up, timeout=180, message="transformers serve")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def completions(chat, folder):
    """Makes generators of it, and closes them."""
    made = []

    def make(**further) -> OpenAiGenerator:
        made.append(OpenAiGenerator(chat, str(folder), attempts=2, **further))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_chat_completions_write(completions, folder):
    generator = completions()
    first, again, other = (
        generator.generate(["try the film"], max_tokens=9, temperature=1.0, seeds=[seed])[0] for seed in (1, 1, 1 << 62)
    )
    assert first == again
    assert first.text != other.text
    assert 1 <= first.tokens <= 9
    assert str(folder) in generator.model_version
    together = generator.generate(["try \ud800 the film"] * 5, max_tokens=5, temperature=0.0)
    assert len(set(together)) == 1, "greedy"
    assert generator.generate([]) == []
    assert list(generator.stream("try the film", 9, 1.0, 1)) == [first.text]


def test_a_text_ends_before_a_stop(completions):
    long = completions().generate(["try"], max_tokens=60, temperature=1.0, seeds=[4])[0].text
    assert len(long) > 3
    stopped = completions(stop=[long[3]]).generate(["try"], max_tokens=60, temperature=1.0, seeds=[4])[0]
    assert stopped.text == long[: long.index(long[3])].strip()
    assert not stopped.error


def test_what_a_server_refuses_is_the_prompts_error(completions):
    refused, *_ = completions(options={"nonsense": "2"}).generate(["a", "b"])
    assert refused.text == ""
    assert "nonsense" in refused.error


def test_a_server_that_is_not_there_is_infrastructure(chat, folder):
    for url in ("http://127.0.0.1:9/v1", chat.replace("/v1", "/nowhere")):
        generator = OpenAiGenerator(url, str(folder), attempts=2, timeout_s=5)
        with pytest.raises(InferenceUnavailable, match=url):
            generator.generate(["a"])
        generator.close()


def test_the_content_worker_takes_its_texts_from_there(full_stack, prefix, chat, folder):
    """Noise passes no check: the model is asked for every candidate, and the template answers."""
    generator = {"kind": "openai", "url": chat, "model": str(folder)}
    content = {"judge": "terms", "candidates": 2, "max_tokens": 8, "max_wait_s": 60}
    with deployed(full_stack, prefix, content=content, generator=generator) as own:
        own.execute(
            "INSERT INTO items (item_id, topic_id, partition, log_offset, title, categories, attributes, deleted)"
            " VALUES ('alien', 't', 0, 0, 'Alien', %s, '{}', false)",
            ["Horror"],
        )
        own.produce(
            "requests", "u", {"request_id": "q", "user_id": "u", "item_id": "alien", "ts": time.time_ns() // 10**6}
        )
        own.flush()
        with own.worker("content"):
            own.drained("content", *topics.TRIGGERS.values(), "requests")
        (content,) = own.read_json("contents")
    assert (content["source"], content["candidates"], content["rejected"]) == ("template", 2, 2)
    assert 2 <= content["tokens"] <= 16


BOOL, INT32, FP32, TEXT = "TYPE_BOOL", "TYPE_INT32", "TYPE_FP32", "TYPE_STRING"
VLLM = {
    "max_batch_size": 0,
    "model_transaction_policy": {"decoupled": True},
    "input": {
        "text_input": TEXT, "stream": BOOL, "sampling_parameters": TEXT, "exclude_input_in_output": BOOL,
        "return_finish_reason": BOOL, "return_num_output_tokens": BOOL,
    },
    "output": {"text_output": TEXT, "num_output_tokens": "TYPE_UINT32"},
}  # fmt: skip
OLD_VLLM = {
    "max_batch_size": 0,
    "model_transaction_policy": {"decoupled": True},
    "input": {"text_input": TEXT, "stream": BOOL, "sampling_parameters": TEXT},
    "output": {"text_output": TEXT},
}
TENSORRT_LLM = {
    "max_batch_size": 4,
    "input": {
        "text_input": TEXT, "max_tokens": INT32, "bad_words": TEXT, "stop_words": TEXT, "exclude_input_in_output": BOOL,
        "top_k": INT32, "temperature": FP32, "seed": "TYPE_UINT64", "stream": BOOL,
    },
    "output": {"text_output": TEXT},
}  # fmt: skip


@pytest.fixture
def served(full_stack, prefix, folder):
    """Makes generators of such a model on Triton, and closes them."""
    url, name, made = full_stack.endpoints().triton, f"{prefix}writer", []
    server = triton.InferenceServerClient(url)

    def make(signature, dialect: Dialect, **further) -> TextInputGenerator:
        config = signature | {
            "name": name,
            "backend": "python",
            "input": [
                {
                    "name": n,
                    "data_type": kind,
                    "dims": [-1 if n.endswith("words") else 1],
                    "optional": n != "text_input",
                }
                for n, kind in signature["input"].items()
            ],
            "output": [{"name": n, "data_type": kind, "dims": [-1]} for n, kind in signature["output"].items()],
            "instance_group": [{"kind": "KIND_CPU", "count": 1}],
            "parameters": {"model_dir": {"string_value": str(folder)}},
        }
        code = (Path(__file__).parent.parent / "triton" / "text_input.py").read_bytes()
        if not made:
            server.load_model(name, config=json.dumps(config), files={"file:1/model.py": code})
        made.append(TextInputGenerator(url, name, dialect, attempts=2, **further))
        return made[-1]

    yield make
    for one in made:
        one.close()
    server.close()
    unload(url, name)


@pytest.mark.parametrize(
    ("signature", "dialect"),
    [(VLLM, Dialect.VLLM), (OLD_VLLM, Dialect.VLLM), (TENSORRT_LLM, Dialect.TENSORRT_LLM)],
    ids=["vllm", "old vllm", "tensorrt-llm"],
)
def test_language_models_on_triton_write(signature, dialect, served):
    generator = served(signature, dialect, chat_format="[TURN]{prompt}[TURN]")
    first, again, other = (
        generator.generate(["try the film"], max_tokens=9, temperature=1.0, seeds=[seed])[0] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.text != other.text
    assert "try the film" not in first.text, "the prompt is not given back"
    assert first.tokens > 0
    assert generator.model_version.endswith(f"writer@{dialect}")
    greedy = generator.generate(["try \ud800 the film"] * 4, max_tokens=5, temperature=0.0)
    assert len(set(greedy)) == 1
    refused, fine = generator.generate(["refuse this", "horror"], max_tokens=5)
    assert "too long" in refused.error
    assert fine.text
    assert not fine.error
    stopping = served(signature, dialect, chat_format="[TURN]{prompt}[TURN]", stop=[first.text[2]])
    stopped = stopping.generate(["try the film"], max_tokens=9, temperature=1.0, seeds=[1])[0]
    assert stopped.text == first.text[: first.text.index(first.text[2])].strip()


def test_a_model_that_speaks_otherwise_is_named(full_stack, prefix):
    url = full_stack.endpoints().triton
    for model, message in (("text_encoder", "no text_input"), (f"{prefix}nothing", f"{prefix}nothing")):
        generator = TextInputGenerator(url, model, Dialect.VLLM, attempts=2)
        with pytest.raises(InferenceUnavailable, match=message):
            generator.generate(["a"])
        generator.close()
