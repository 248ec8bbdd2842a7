"""Texts in, unit-length sentence embeddings out.

TEXT      BYTES [batch, 1]  UTF-8; cut after `max_tokens` tokens
EMBEDDING FP32  [batch, d]  mean (or first-token) pooling of the last layer, L2-normalised; d = 384 for MiniLM
VERSION   BYTES [batch, 1]  `name@hash of the weights`

Loads any Hugging Face encoder folder (AutoModel), weights in bfloat16. A text's vector is the same to the last bit
whatever else is in its batch: every text passes the model in the shape that its own length asks for (ROWS texts, padded
to the next of LENGTHS), because matrix products of another shape round in another way.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

ROWS = 8
"""Texts that pass the model together; missing ones are filled up. 16 is 8% faster in bulk, half as fast for one text."""
LENGTHS = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192]
"""Tokens per text, padding included."""


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {key: value["string_value"] for key, value in parameters.items()}
        torch.set_num_threads(int(os.environ.get("UPWELL_ENCODER_THREADS") or given.get("threads") or 1))
        folder = _model_folder(given.get("model_dir", ""), "text_encoder")
        logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.first_token = _json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token", False)
        trained_for = _json(folder / "sentence_bert_config.json").get("max_seq_length")
        positions = getattr(self.model.config, "max_position_embeddings", 512)
        self.longest = min(self.tokenizer.model_max_length, positions, LENGTHS[-1])
        self.max_tokens = min(int(given.get("max_tokens") or 0) or trained_for or self.longest, self.longest)
        self.version = _version(folder)
        self._embed(["warm up"])

    def execute(self, requests):
        responses = [None] * len(requests)
        texts, owners = [], []
        for i, request in enumerate(requests):
            rows = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            try:
                decoded = [bytes(row).decode("utf-8") for row in rows]
            except UnicodeDecodeError as error:
                problem = pb_utils.TritonError(f"TEXT is not UTF-8: {error}", pb_utils.TritonError.INVALID_ARG)
                responses[i] = pb_utils.InferenceResponse(error=problem)
                continue
            owners.append((i, len(texts), len(decoded)))
            texts += decoded
        if texts:
            vectors = self._embed(texts)
            for i, start, count in owners:
                version = np.full((count, 1), self.version.encode(), dtype=np.object_)
                responses[i] = pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("EMBEDDING", vectors[start : start + count]),
                        pb_utils.Tensor("VERSION", version),
                    ]
                )
        return responses

    @torch.inference_mode()
    def _embed(self, texts):
        """texts: list of n strings. Returns float32 [n, d], rows of unit length."""
        tokens = self.tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        nothing = [self.tokenizer.unk_token_id or 0]  # an empty text, where the tokenizer adds no marks of its own
        tokens = [ids or nothing for ids in tokens]
        by_length = {}
        for i, ids in enumerate(tokens):
            length = next(n for n in LENGTHS if n >= len(ids))
            by_length.setdefault(min(length, self.longest), []).append(i)
        groups = [rows[i : i + ROWS] for rows in by_length.values() for i in range(0, len(rows), ROWS)]
        lengths = [length for length, rows in by_length.items() for _ in range(0, len(rows), ROWS)]
        vectors = [self._forward([tokens[i] for i in group], n) for group, n in zip(groups, lengths, strict=True)]
        result = np.empty((len(texts), vectors[0].shape[1]), dtype=np.float32)
        for group, part in zip(groups, vectors, strict=True):
            result[group] = part
        return result

    def _forward(self, tokens, length):
        """tokens: up to ROWS lists of up to `length` ids. Returns float32 [len(tokens), d]."""
        ids = torch.full((ROWS, length), self.tokenizer.pad_token_id or 0, dtype=torch.int64)
        mask = torch.zeros((ROWS, length), dtype=torch.int64)
        for row in range(ROWS):
            text = tokens[row % len(tokens)]
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.first_token:
            pooled = hidden[:, 0]
        else:
            weights = mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(pooled, dim=1)[: len(tokens)].numpy()


def _model_folder(given, name):
    folder = Path(given or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / name).expanduser()
    if not (folder / "config.json").is_file():
        raise pb_utils.TritonModelException(
            f"No model in {folder}: set UPWELL_MODEL_DIR, or model_dir in config.pbtxt; `make setup` converts the demo's."
        )
    return folder


def _json(file):
    return json.loads(file.read_text()) if file.is_file() else {}


def _version(folder):
    """`name@first 12 digits of the SHA-256 over the weights`: the same wherever the same weights are served."""
    about = _json(folder / "upwell.json")
    digest = about.get("weights_sha256")
    if not digest:
        sha = hashlib.sha256()
        for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    sha.update(block)
        digest = sha.hexdigest()
    return f"{about.get('name', folder.name)}@{digest[:12]}"
