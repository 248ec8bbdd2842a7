"""Prompts in, one text each out; as `text_generator_stream`, the text as it comes.

PROMPT      BYTES [batch, 1]  user message, UTF-8; the model's chat template is applied here
MAX_TOKENS  INT32 [batch, 1]  optional, 1 to 1024
MIN_TOKENS  INT32 [batch, 1]  optional, 0 to MAX_TOKENS: before them no text ends
TEMPERATURE FP32  [batch, 1]  optional, 0 to 2; 0: greedy
SEED        INT64 [batch, 1]  optional; the same batch with the same seeds gives the same texts, but for rounding
ITEM_VECTOR FP32  [batch, d]  optional; the item's fused vector, which the text may say what words do not (see prefix.py)
USER_VECTOR FP32  [batch, u]  optional; the user's profile vector
TEXT        BYTES [batch, 1]  ends at the end of turn or after MAX_TOKENS; of the stream: what has been added
TOKENS      INT32 [batch, 1]  tokens generated, the end of turn included; of the stream: so far
VERSION     BYTES [batch, 1]  `name@hash of the weights+hash of the adapter`, and +hash of the mapper where there is one

`generator.py` holds the model itself. All requests of a batch are generated together.
"""

import json
import os
from pathlib import Path

import numpy as np
import serving
import triton_python_backend_utils as pb_utils
from generator import LONGEST, Generator, adapter_folder, prefix_folder

HELD = "\ufffd"
"""What the decoder gives for a character whose bytes have not all come."""


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        beside = Path(args["model_repository"])
        self.streams = json.loads(args["model_config"]).get("model_transaction_policy", {}).get("decoupled", False)
        self.generator = Generator(
            given.get("model_dir", ""),
            adapter_folder(given.get("adapter_dir", ""), beside / "adapter"),
            given.get("variant") or "bf16",
            int(os.environ.get("UPWELL_GENERATOR_THREADS") or given.get("threads") or 1),
            given.get("device") or "cpu",
            prefix_folder(given.get("prefix_dir", ""), beside / "prefix"),
            int(given.get("top_k") or 40),
            float(given.get("top_p") or 0.9),
        )
        self.max_prompt_tokens = int(given.get("max_prompt_tokens") or 1024)
        self.default_max_tokens = int(given.get("default_max_tokens") or 64)
        self.generator.generate([self.generator.row("Say hello.", 2)])

    def execute(self, requests):
        if self.streams:
            return self._stream(requests)
        return serving.answer(requests, self._read, self._work)

    def _work(self, rows):
        texts, counts = self.generator.generate(rows)
        return self._outputs(texts, counts)

    def _outputs(self, texts, counts):
        return {
            "TEXT": np.array([[text.encode()] for text in texts], dtype=np.object_),
            "TOKENS": np.array(counts, dtype=np.int32).reshape(-1, 1),
            "VERSION": serving.column(self.generator.version, len(texts)),
        }

    def _stream(self, requests):
        """Answers through each request's own sender. A request that is taken back is written to its end, and unread."""
        rows, senders = [], []
        for request in requests:
            sender = request.get_response_sender()
            try:
                read = self._read(request)
                if len(read) != 1:
                    raise serving.Refused("a stream takes one prompt a request")
            except serving.Refused as error:
                sender.send(_refusal(error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            rows += read
            senders.append(sender)
        sent, counts = [""] * len(rows), [0] * len(rows)

        def told(i, text, ended):
            counts[i] += 1
            ready = text if ended else text.rstrip().removesuffix(HELD)
            if not ended and (len(ready) <= len(sent[i]) or not ready.startswith(sent[i])):
                return
            outputs = self._outputs([ready[len(sent[i]) :]], [counts[i]])
            sent[i] = ready
            senders[i].send(
                pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()]),
                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if ended else 0,
            )

        if rows:
            self.generator.generate(rows, told)

    def _read(self, request):
        """Rows of one request. Raises Refused on values out of range."""
        prompts = _column(request, "PROMPT")
        n = len(prompts)
        limits = _column(request, "MAX_TOKENS", [self.default_max_tokens] * n)
        leasts = _column(request, "MIN_TOKENS", [0] * n)
        temperatures = _column(request, "TEMPERATURE", [0.0] * n)
        seeds = _column(request, "SEED", [0] * n)
        items, users = _vectors(request, "ITEM_VECTOR", n), _vectors(request, "USER_VECTOR", n)
        rows = []
        for prompt, limit, least, temperature, seed, item, user in zip(
            prompts, limits, leasts, temperatures, seeds, items, users, strict=True
        ):
            if not 1 <= limit <= LONGEST:
                raise serving.Refused(f"MAX_TOKENS is {limit}; 1 to {LONGEST} are possible")
            if not 0 <= least <= limit:
                raise serving.Refused(f"MIN_TOKENS is {least}; 0 to MAX_TOKENS ({limit}) are possible")
            if not 0 <= temperature <= 2:
                raise serving.Refused(f"TEMPERATURE is {temperature}; 0 to 2 are possible")
            try:
                text = bytes(prompt).decode("utf-8")
                row = self.generator.row(text, int(limit), float(temperature), int(seed), item, user, int(least))
            except ValueError as error:
                raise serving.Refused(str(error)) from None
            if len(row.tokens) > self.max_prompt_tokens:
                raise serving.Refused(
                    f"PROMPT has {len(row.tokens)} tokens; at most {self.max_prompt_tokens} are possible"
                )
            rows.append(row)
        return rows


def _refusal(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))


def _column(request, name, default=None):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)


def _vectors(request, name, rows):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return [None] * rows
    found = tensor.as_numpy().reshape(rows, -1)
    if not np.isfinite(found).all():
        raise serving.Refused(f"{name} holds values that are not finite numbers")
    return list(found)
