"""Prompts in, texts out: the text generator itself, without Triton.

Loads any Hugging Face causal language model folder, merges a LoRA adapter (PEFT) into it, and maps vectors to soft prompt
tokens where a mapper lies beside the adapter. Special tokens inside a prompt are data and lose their meaning.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from general import General
from linear import VARIANTS as PACKED
from linear import dtype_of
from llama import Llama, fits
from prefix import Mapper
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
from weights import folder_of, pretrained, read_model, version_of

VARIANTS = (*PACKED, "fp16")
LONGEST = 1024
"""Tokens of a text, at most."""


@dataclass
class Row:
    """One text to be written."""

    tokens: list
    """Ids; a negative one stands for a soft prompt token."""
    limit: int = 64
    temperature: float = 0.0
    seed: int = 0
    soft: object = None
    """float32 [k, hidden], or None."""
    least: int = 0
    """Tokens before the end of turn may come."""


class Generator:
    """A text generator in memory.

    model_dir: folder or hub name; empty: the demo's. adapter: folder of a LoRA adapter, or None. prefix: folder of a
    mapper from vectors to soft prompt tokens, or None. variant: of VARIANTS; fp16, and a device other than "cpu", take
    transformers' own code, and int8 is for the CPU. top_k, top_p: sampling draws from the likeliest tokens that make up
    this much of the probability (Holtzman et al. 2020).
    """

    def __init__(
        self, model_dir="", adapter=None, variant="bf16", threads=1, device="cpu", prefix=None, top_k=40, top_p=0.9
    ):
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}: {', '.join(VARIANTS)} are possible")
        if variant == "int8" and device != "cpu":
            raise ValueError(f"variant int8 is for the CPU: with device {device!r}, take bf16 or fp16")
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        folder = folder_of(model_dir, "text_generator")
        model = _merged(folder, adapter, variant)
        self.tokenizer = pretrained(AutoTokenizer, folder)
        self._specials = sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, key=len)[::-1]
        ends = model.generation_config.eos_token_id
        self._ends = {
            e for e in [*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id] if e is not None
        }
        self._endings = sorted(self._ends)
        fast = device == "cpu" and variant in PACKED and fits(model.config)
        with torch.inference_mode():
            self.model = Llama(model, variant) if fast else General(model, variant, device)
        self._mapper = Mapper.read(prefix, self.model.hidden) if prefix else None
        self._top_k, self._top_p = top_k, top_p
        # bf16 is what the name means since the first release; other precisions say so.
        self.version = version_of(folder, "" if variant == "bf16" else variant)
        for part in (adapter, prefix):
            if part:
                self.version += f"+{version_of(Path(part)).split('@')[1]}"

    def tokens(self, prompt, soft=0):
        """Ids of a user message in the model's own chat format; `soft` places for vectors at its end, so that what
        prompts have in common is still read once.
        """
        for token in self._specials:
            prompt = prompt.replace(token, " ")
        if not self.tokenizer.chat_template:
            if not soft:
                return self.tokenizer(prompt + "\n")["input_ids"]
            end = self.tokenizer("\n", add_special_tokens=False)["input_ids"]
            return self.tokenizer(prompt)["input_ids"] + [-1] * soft + end
        turn = [{"role": "user", "content": prompt}]
        chat = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        if not soft:
            return self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        # Templates may strip a message; where it is not found, the vectors come first.
        start = chat.find(prompt.strip())
        end = start + len(prompt.strip()) if start >= 0 else 0
        before, after = (
            self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (chat[:end], chat[end:])
        )
        return before + [-1] * soft + after

    def row(self, prompt, limit=64, temperature=0.0, seed=0, item=None, user=None, least=0):
        """A Row; `item` and `user`: float32 vectors that become soft prompt tokens, or None.

        Raises ValueError where no mapper is there for them, or theirs is another length.
        """
        if item is None and user is None:
            return Row(self.tokens(prompt), limit, temperature, seed, None, least)
        if self._mapper is None:
            raise ValueError("ITEM_VECTOR and USER_VECTOR need a mapper: `upwell train prefix` makes one")
        soft = self._mapper.map(item, user)
        return Row(self.tokens(prompt, len(soft)), limit, temperature, seed, soft, least)

    @torch.inference_mode()
    def generate(self, rows, told=None):
        """rows: list of n > 0 Row. Returns (texts, tokens generated), n each.

        told: called as told(number of the row, its text so far, whether it has ended) after every token. Ended rows leave
        the batch when half have.
        """
        draws = [torch.Generator().manual_seed(row.seed & 0x7FFFFFFFFFFFFFFF) for row in rows]
        written = [[] for _ in rows]
        inside, going = list(range(len(rows))), set(range(len(rows)))
        run, states = self.model.begin([r.tokens for r in rows], max(r.limit for r in rows), [r.soft for r in rows])
        while True:
            logits = self.model.logits(states)
            for place, i in enumerate(inside):
                if len(written[i]) < rows[i].least:
                    logits[place, self._endings] = -torch.inf
            chosen = self._choose(logits, [rows[i].temperature for i in inside], [draws[i] for i in inside])
            for i, token in zip(inside, chosen, strict=True):
                if i not in going:
                    continue
                written[i].append(token)
                if token in self._ends or len(written[i]) >= rows[i].limit:
                    going.discard(i)
                if told is not None:
                    told(i, self._text(written[i]), i not in going)
            if not going:
                return [self._text(w) for w in written], [len(w) for w in written]
            if 2 * len(going) <= len(inside):
                kept = [place for place, i in enumerate(inside) if i in going]
                run.keep(kept)
                inside, chosen = [inside[place] for place in kept], [chosen[place] for place in kept]
            states = run.next(chosen)

    @torch.inference_mode()
    def likelihood(self, rows, texts):
        """Of the texts as answers to the rows: (sum of log probabilities, tokens), the end of turn included; n each."""
        answers = [self._answer(text) for text in texts]
        given = [row.tokens + answer[:-1] for row, answer in zip(rows, answers, strict=True)]
        states = self.model.states(given, [len(answer) for answer in answers], [row.soft for row in rows])
        found = []
        for states_of, answer in zip(states, answers, strict=True):
            shares = torch.log_softmax(self.model.logits(states_of), dim=1)
            found.append(float(shares[torch.arange(len(answer)), torch.tensor(answer)].sum()))
        return found, [len(answer) for answer in answers]

    def _answer(self, text):
        # A leading space: as it was taught, and as it begins to write.
        ids = self.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def _text(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _choose(self, logits, temperatures, draws):
        """Logits float32 [rows, vocabulary] to one token id per row."""
        values, tokens = logits.topk(min(self._top_k, logits.shape[1]), dim=1)
        chosen = []
        for i, (temperature, draw) in enumerate(zip(temperatures, draws, strict=True)):
            if temperature <= 0:
                chosen.append(int(tokens[i, 0]))
                continue
            share = torch.softmax(values[i] / temperature, dim=0)
            # The token that passes top_p still belongs to the nucleus.
            share = share * ((share.cumsum(0) - share) < self._top_p)
            chosen.append(int(tokens[i, torch.multinomial(share, 1, generator=draw)]))
        return chosen


def adapter_folder(given, beside):
    """The adapter's folder: `given`, else the one `beside` config.pbtxt; None for "none", and where there is none.

    Raises FileNotFoundError where none is in a given folder.
    """
    return _part(given, beside, "adapter_config.json", "No LoRA adapter in {}: see adapter_dir in config.pbtxt.")


def prefix_folder(given, beside):
    """The same for the mapper from vectors to soft prompt tokens."""
    return _part(given, beside, "prefix.safetensors", "No mapper in {}: see prefix_dir in config.pbtxt.")


def _part(given, beside, file, missing):
    if given == "none":
        return None
    folder = Path(given).expanduser() if given else Path(beside)
    if (folder / file).is_file():
        return folder
    if given:
        raise FileNotFoundError(missing.format(folder))
    return None


def _merged(folder, adapter, variant):
    """The model with the adapter merged, in float32: rounding to another precision happens once."""
    if adapter is None:
        return read_model(AutoModelForCausalLM, folder, dtype=dtype_of(variant))[0]
    from peft import PeftModel

    found, _ = read_model(AutoModelForCausalLM, folder, dtype=torch.float32)
    return PeftModel.from_pretrained(found, adapter).merge_and_unload()
