"""Prompts in, one text each out.

PROMPT      BYTES [batch, 1]  user message, UTF-8; the model's chat template is applied here
MAX_TOKENS  INT32 [batch, 1]  optional, 1 to 1024
TEMPERATURE FP32  [batch, 1]  optional, 0 to 2; 0: greedy
SEED        INT64 [batch, 1]  optional; the same batch with the same seeds gives the same texts
TEXT        BYTES [batch, 1]  ends at the end of turn or after MAX_TOKENS
TOKENS      INT32 [batch, 1]  tokens generated
VERSION     BYTES [batch, 1]  `name@hash of the weights+hash of the adapter`

Loads any Hugging Face causal language model folder in bfloat16 and merges a LoRA adapter (PEFT) into it. Special tokens
inside a prompt are data and lose their meaning. All requests of a batch are generated together, padded on the left.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

LONGEST = 1024


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {key: value["string_value"] for key, value in parameters.items()}
        torch.set_num_threads(int(os.environ.get("UPWELL_GENERATOR_THREADS") or given.get("threads") or 1))
        folder = _model_folder(given.get("model_dir", ""), "text_generator")
        adapter = _adapter_folder(given.get("adapter_dir", ""), Path(args["model_repository"]))
        logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.specials = sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, key=len)[::-1]
        self.model = _load(folder, adapter)
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self.ends = {e for e in [*ends, self.tokenizer.eos_token_id] if e is not None}
        self.max_prompt_tokens = int(given.get("max_prompt_tokens") or 1024)
        self.default_max_tokens = int(given.get("default_max_tokens") or 64)
        self.top_k = int(given.get("top_k") or 40)
        self.top_p = float(given.get("top_p") or 0.9)
        self.version = _version(folder) + (f"+{_hash(adapter)[:12]}" if adapter else "")
        self._generate([self._tokens("Say hello.")], [2], [0.0], [0])

    def execute(self, requests):
        responses = [None] * len(requests)
        rows, owners = [], []
        for i, request in enumerate(requests):
            try:
                read = self._read(request)
            except (ValueError, UnicodeDecodeError) as error:
                problem = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses[i] = pb_utils.InferenceResponse(error=problem)
                continue
            owners.append((i, len(rows), len(read)))
            rows += read
        if rows:
            texts, counts = self._generate(*(list(column) for column in zip(*rows, strict=True)))
            for i, start, n in owners:
                part = slice(start, start + n)
                responses[i] = pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("TEXT", np.array([[t.encode()] for t in texts[part]], dtype=np.object_)),
                        pb_utils.Tensor("TOKENS", np.array(counts[part], dtype=np.int32).reshape(-1, 1)),
                        pb_utils.Tensor("VERSION", np.full((n, 1), self.version.encode(), dtype=np.object_)),
                    ]
                )
        return responses

    def _read(self, request):
        """[(token ids, max tokens, temperature, seed)] of one request. Raises ValueError on values out of range."""
        prompts = [bytes(p).decode("utf-8") for p in _column(request, "PROMPT")]
        limits = _column(request, "MAX_TOKENS", [self.default_max_tokens] * len(prompts))
        temperatures = _column(request, "TEMPERATURE", [0.0] * len(prompts))
        seeds = _column(request, "SEED", [0] * len(prompts))
        rows = []
        for prompt, limit, temperature, seed in zip(prompts, limits, temperatures, seeds, strict=True):
            if not 1 <= limit <= LONGEST:
                raise ValueError(f"MAX_TOKENS is {limit}; 1 to {LONGEST} are possible")
            if not 0 <= temperature <= 2:
                raise ValueError(f"TEMPERATURE is {temperature}; 0 to 2 are possible")
            tokens = self._tokens(prompt)
            if len(tokens) > self.max_prompt_tokens:
                raise ValueError(f"PROMPT has {len(tokens)} tokens; at most {self.max_prompt_tokens} are possible")
            rows.append((tokens, int(limit), float(temperature), int(seed)))
        return rows

    def _tokens(self, prompt):
        for token in self.specials:
            prompt = prompt.replace(token, " ")
        if self.tokenizer.chat_template:
            turn = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
            return self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return self.tokenizer(prompt + "\n")["input_ids"]

    @torch.inference_mode()
    def _generate(self, prompts, limits, temperatures, seeds):
        """Lists of n each. Returns n texts and n token counts. Rows that have ended leave the batch when half have."""
        padded = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        mask = padded["attention_mask"]
        position = mask.cumsum(1).sub(1).clamp(min=0)
        draws = [torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF) for seed in seeds]
        written = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to
        open_rows = set(rows)
        cache = DynamicCache(config=self.model.config)
        ids = padded["input_ids"]
        while True:
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, logits_to_keep=1
            ).logits[:, -1]
            chosen = self._choose(logits.float(), [temperatures[r] for r in rows], [draws[r] for r in rows])
            for row, token in zip(rows, chosen, strict=True):
                if row in open_rows:
                    written[row].append(token)
                    if token in self.ends or len(written[row]) >= limits[row]:
                        open_rows.discard(row)
            if not open_rows:
                break
            if 2 * len(open_rows) <= len(rows):
                kept = torch.tensor([i for i, row in enumerate(rows) if row in open_rows])
                cache.batch_select_indices(kept)
                mask, position = mask[kept], position[kept]
                chosen = [chosen[i] for i in kept]
                rows = [rows[i] for i in kept]
            ids = torch.tensor(chosen).unsqueeze(1)
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
            position = position[:, -1:] + 1
        texts = [self.tokenizer.decode(w, skip_special_tokens=True).strip() for w in written]
        return texts, [len(w) for w in written]

    def _choose(self, logits, temperatures, draws):
        """Logits float32 [rows, vocabulary] to one token id per row."""
        values, tokens = logits.topk(min(self.top_k, logits.shape[1]), dim=1)
        chosen = []
        for i, (temperature, draw) in enumerate(zip(temperatures, draws, strict=True)):
            if temperature <= 0:
                chosen.append(int(tokens[i, 0]))
                continue
            share = torch.softmax(values[i] / temperature, dim=0)
            # The nucleus (Holtzman et al. 2020): the token that passes top_p still belongs to it.
            share = share * ((share.cumsum(0) - share) < self.top_p)
            chosen.append(int(tokens[i, torch.multinomial(share, 1, generator=draw)]))
        return chosen


def _column(request, name, default=None):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)


def _load(folder, adapter):
    """The model with the adapter merged: in float32, so that rounding to bfloat16 happens once."""
    if adapter is None:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().to(torch.bfloat16).eval()


def _model_folder(given, name):
    folder = Path(given or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / name).expanduser()
    if not (folder / "config.json").is_file():
        raise pb_utils.TritonModelException(
            f"No model in {folder}: set UPWELL_MODEL_DIR, or model_dir in config.pbtxt; `make setup` converts the demo's."
        )
    return folder


def _adapter_folder(given, repository):
    if given == "none":
        return None
    folder = Path(given).expanduser() if given else repository / "adapter"
    if (folder / "adapter_config.json").is_file():
        return folder
    if given:
        raise pb_utils.TritonModelException(f"No LoRA adapter in {folder}: see adapter_dir in config.pbtxt.")
    return None


def _version(folder):
    """`name@first 12 digits of the SHA-256 over the weights`: the same wherever the same weights are served."""
    file = folder / "upwell.json"
    about = json.loads(file.read_text()) if file.is_file() else {}
    return f"{about.get('name', folder.name)}@{(about.get('weights_sha256') or _hash(folder))[:12]}"


def _hash(folder):
    sha = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()
