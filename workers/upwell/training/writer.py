"""Lessons in, a LoRA adapter for the text generator out, with what it changed: faithful texts before and after.

Trains on the CPU in minutes: bfloat16 base, frozen; adapter in float32; loss on the text alone. Seeded: the same
seed, lessons and thread count give the same adapter.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from upwell.training.pairs import Lesson

TARGETS: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


SAVE_EVERY: Final = 50
"""Steps between savings: a run that is cut short leaves what it has learned by then."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the shipped adapter was taught."""

    lessons: int = 6400
    batch: int = 16
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 8e-4
    warmup: float = 0.05
    """Share of the steps."""
    seed: int = 7
    threads: int = 1
    """More gain little: the layers are small."""


def load(model_dir: Path, adapter: Path | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) of a Hugging Face causal language model folder, bfloat16; with an adapter, it is merged."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model_dir, padding_side="left")
    # Plain attention: on texts as short as these it learns a quarter faster on a CPU than the fused kernel.
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16, attn_implementation="eager")
    if adapter is not None:
        from peft import PeftModel

        model = merged(PeftModel.from_pretrained(model.float(), str(adapter)))
    model.eval()
    return model, tokenizer


def chat(tokenizer: Any, message: str) -> str:
    """The message as the model's own chat format has it, open for the answer."""
    turn = [{"role": "user", "content": message}]
    return str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))


def teach(
    model: Any,
    tokenizer: Any,
    lessons: Sequence[Lesson],
    adapter_dir: Path,
    recipe: Recipe = Recipe(),
    progress: Callable[[str], None] = print,
    resume: Path | None = None,
) -> Any:
    """Fits a LoRA adapter to the lessons and writes it to `adapter_dir` (bfloat16). Returns the taught model.

    `resume`: an adapter to go on from, which keeps its own rank; none begins anew.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=TARGETS, task_type="CAUSAL_LM")
    if resume is None:
        taught = get_peft_model(model, config)
    else:
        taught = PeftModel.from_pretrained(model, str(resume), is_trainable=True)
    taught.train()
    weights = [p for p in taught.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    batches = _batches(tokenizer, lessons, recipe)
    warm = max(1, int(recipe.warmup * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (s + 1) / warm if s < warm else 0.5 * (1 + math.cos(math.pi * (s - warm) / (len(batches) - warm))),
    )
    started, tokens, losses = time.monotonic(), 0, []
    for step, (ids, mask, answer) in enumerate(batches, 1):
        loss = _loss(taught, ids, mask, answer)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += int(mask.sum())
        if step % 20 == 0 or step == len(batches):
            rate, recent = tokens / (time.monotonic() - started), sum(losses[-20:]) / len(losses[-20:])
            progress(f"step {step}/{len(batches)}  loss {recent:.3f}  {rate:.0f} tokens/s")
        if step % SAVE_EVERY == 0 and step < len(batches):
            _save(taught, adapter_dir)
    taught.eval()
    _save(taught, adapter_dir)
    return taught


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    temperature: float = 0.7,
    max_tokens: int = 64,
    seed: int = 0,
    batch: int = 16,
) -> list[tuple[str, int]]:
    """(text, tokens) per prompt, sampled as the served model samples (top-k 40, top-p .9)."""
    torch.manual_seed(seed)
    written: list[tuple[str, int]] = []
    for start in range(0, len(prompts), batch):
        chats = [chat(tokenizer, p) for p in prompts[start : start + batch]]
        given = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            output = model.generate(
                **given,
                max_new_tokens=max_tokens,
                do_sample=temperature > 0,
                **({"temperature": temperature, "top_k": 40, "top_p": 0.9} if temperature > 0 else {}),
            )
        for row in output[:, given["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            written.append((tokenizer.decode(row[:end], skip_special_tokens=True).strip(), end))
    return written


def merged(taught: Any) -> Any:
    """The taught model as it is served: adapter merged, bfloat16."""
    return taught.merge_and_unload().to(torch.bfloat16).eval()


def _batches(tokenizer: Any, lessons: Sequence[Lesson], recipe: Recipe) -> list[tuple[Any, Any, Any]]:
    """(ids, mask, answer) per step, int64/bool [batch, length]; texts of like length together, in shuffled order."""
    rows = []
    for lesson in lessons:
        head = tokenizer(chat(tokenizer, lesson.prompt()), add_special_tokens=False)["input_ids"]
        # A leading space, so that a title at the beginning has the same tokens as in the facts: it is copied then.
        text = tokenizer(f" {lesson.text}", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append((head, text))
    rng = random.Random(recipe.seed)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]) + 8 * rng.random())
    groups = [order[i : i + recipe.batch] for i in range(0, len(order), recipe.batch)]
    rng.shuffle(groups)
    return [_padded([rows[i] for i in group], tokenizer.pad_token_id) for group in groups]


def _padded(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[Any, Any, Any]:
    width = max(len(head) + len(text) for head, text in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    answer = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, (head, text) in enumerate(rows):
        ids[i, : len(head) + len(text)] = torch.tensor(head + text)
        mask[i, : len(head) + len(text)] = 1
        answer[i, len(head) : len(head) + len(text)] = True
    return ids, mask, answer


def _loss(taught: Any, ids: Any, mask: Any, answer: Any) -> Any:
    """Mean cross-entropy over the text's tokens. Only their rows pass the output layer, a fifth of the model."""
    causal = taught.get_base_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits = causal.get_output_embeddings()(hidden[:, :-1][answer[:, 1:]])
    return functional.cross_entropy(logits.float(), ids[:, 1:][answer[:, 1:]])


def _save(taught: Any, adapter_dir: Path) -> None:
    """PEFT's own format, in bfloat16: half the size, and what is merged is bfloat16 anyway."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    adapter_dir.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in get_peft_model_state_dict(taught).items()}
    config = taught.peft_config["default"]
    config.inference_mode, config.base_model_name_or_path = True, None
    config.target_modules = sorted(config.target_modules)  # PEFT keeps a set: the file would be another each time
    config.save_pretrained(adapter_dir)
    weights = adapter_dir / "adapter_model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # the model server may run as another user
