"""Prompts in, one text each out, from a language model on Triton with `text_input` and `text_output`: vLLM's backend, and
TensorRT-LLM's ensemble or `tensorrt_llm_bls`.

Both change their tensors from release to release, so each request is made of what the model's own configuration names.
Tensors as of vllm_backend 0.4 to 25.x and tensorrtllm_backend 0.8 to 1.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from upwell.inference.calls import Transient
from upwell.inference.client import Array, channel_arguments
from upwell.inference.endpoint import Endpoint, before, estimated
from upwell.inference.errors import InferenceUnavailable
from upwell.inference.generate import Generated
from upwell.inference.stream import stream

MARK = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""What marks turns in a chat: `<|im_start|>`, `[INST]`."""


class Dialect(StrEnum):
    """How sampling is asked for."""

    VLLM = "vllm"
    """As one JSON object in `sampling_parameters`."""
    TENSORRT_LLM = "tensorrt_llm"
    """As a tensor for each parameter."""


class TextInputGenerator(Endpoint):
    """A language model that knows no chat: `chat_format` says what stands around a prompt.

    Args:
        url: Triton's gRPC address, host:port.
        model: its name in the model repository.
        timeout_s: longest wait for an answer.
        chat_format: holds `{prompt}`; its marks lose their meaning inside a prompt.
        channel: gRPC channel options.
        more: see `Endpoint`. `options` are sampling parameters of vLLM, and input tensors of TensorRT-LLM.
    """

    def __init__(
        self,
        url: str,
        model: str,
        dialect: Dialect,
        *,
        timeout_s: float = 30.0,
        chat_format: str = "{prompt}",
        channel: Mapping[str, str] | None = None,
        stop: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        in_flight: int = 16,
        attempts: int = 4,
    ) -> None:
        super().__init__(model, url, stop=stop, options=options, in_flight=in_flight, attempts=attempts)
        self._url, self._dialect, self._timeout_s, self._channel = url, dialect, timeout_s, dict(channel or {})
        self._format = chat_format
        self._marks = {mark for text in (chat_format.replace("{prompt}", " "), *stop) for mark in MARK.findall(text)}
        self._config: dict[str, Any] = {}

    def _ask(self, prompt: str, seed: int, max_tokens: int, temperature: float) -> Generated:
        for mark in self._marks:
            prompt = prompt.replace(mark, " ")
        asked = self._format.replace("{prompt}", prompt)
        config = self._configuration()
        inputs = self._inputs(config, self._values(asked, seed, max_tokens, temperature))
        named = [output["name"] for output in config["output"]]
        if "text_output" not in named:
            raise Transient(f"model {self._model} at {self._url} has no text_output: it speaks no {self._dialect}")
        outputs = [name for name in ("text_output", "num_output_tokens") if name in named]
        text, tokens = "", 0
        try:
            # A stream is what both kinds take: those that answer once, and decoupled ones, as vLLM's always is.
            for answer in stream(
                self._url, self._model, inputs, outputs, timeout_s=self._timeout_s, options=self._channel
            ):
                if (piece := answer["text_output"]) is not None:
                    text += piece.reshape(-1)[0].decode("utf-8", "replace")
                if (counted := answer.get("num_output_tokens")) is not None:
                    tokens += int(counted.reshape(-1)[0])
        except InferenceUnavailable as error:
            raise Transient(str(error)) from error
        self._version = f"{self._model}@{self._dialect}"
        # Older releases, and some configurations, give the prompt back before the text.
        text = before(self._stop, text.removeprefix(asked))
        return Generated(text, tokens or estimated(text))

    def _values(self, asked: str, seed: int, max_tokens: int, temperature: float) -> dict[str, Any]:
        """By name of the input. An input that the model lacks is left out."""
        values: dict[str, Any] = {"text_input": asked, "stream": False, "exclude_input_in_output": True}
        if self._dialect is Dialect.VLLM:
            sampling = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "stop": self._stop}
            sampling |= self._options
            return values | {"sampling_parameters": json.dumps(sampling), "return_num_output_tokens": True}
        # Releases differ in the seed's name, and early ones insist on both lists.
        values |= {"max_tokens": max_tokens, "random_seed": seed, "seed": seed}
        values |= {"stop_words": self._stop or [""], "bad_words": [""]}
        values |= {"temperature": temperature} if temperature > 0 else {"top_k": 1}
        return values | self._options

    def _inputs(self, config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Array]:
        batched = bool(config.get("max_batch_size"))
        made: dict[str, Array] = {}
        for one in config["input"]:
            if (value := values.get(one["name"])) is None:
                continue
            row = value if isinstance(value, list) else [value]
            kind = one["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES")
            if kind == "BYTES":
                row = [str(text).encode("utf-8", "replace") for text in row]
            made[one["name"]] = np.array([row] if batched else row, dtype=triton_to_np_dtype(kind))
        if "text_input" not in made:
            raise Transient(f"model {self._model} at {self._url} has no text_input: it speaks no {self._dialect}")
        return made

    def _configuration(self) -> dict[str, Any]:
        if not self._config:
            try:
                with triton.InferenceServerClient(self._url, channel_args=channel_arguments(self._channel)) as server:
                    answer = server.get_model_config(self._model, as_json=True, client_timeout=self._timeout_s)
            except InferenceServerException as error:
                raise Transient(error.message()) from error
            self._config = answer["config"]
        return self._config
