"""Vectors of items and users, and texts, in; a mapper to soft prompt tokens out, and how often the right text is found.

ClipCap (Mokady et al. 2021): the generator stays as it is, a small perceptron learns what to put before its prompt. The
mapper is the one that `triton_models/text_generator/1/prefix.py` reads. Seeded.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from upwell.content.prompt import SHOWN_PROMPT
from upwell.training.writer import chat

Vector = NDArray[np.float32]
FILE: Final = "prefix.safetensors"
AMONG: Final = 10
LINEAR: Final = 0.3
"""Deviation of the inner layer's values at the beginning."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, and the vectors that it is to be told from."""

    text: str
    item: Vector | None
    """float32 [d], of any length other than 0."""
    user: Vector | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a mapper is taught."""

    item_tokens: int = 4
    user_tokens: int = 2
    width: int = 128
    """Of the perceptrons' inner layer."""
    batch: int = 16
    steps: int = 216
    learning_rate: float = 2e-3
    ridge: float = 0.5
    """Of the regression that the perceptrons begin with, as a share of the mean square of a component."""
    noise: float = 0.15
    """Deviation of what is added to each component of a vector, as a share of theirs: few examples are not learned by
    heart so. Vectors lie in a narrow cone: the same noise for all of them once drowned what sets them apart."""
    seed: int = 7
    threads: int = 1


class Mapper(torch.nn.Module):  # type: ignore[misc]
    """Vectors to soft prompt tokens.

    sizes: lengths of the vectors, by kind. hidden: of the generator's embeddings. statistics: mean float32 [d] and scale of
    the vectors that it learns from. spread: deviation of the generator's embeddings.
    """

    def __init__(
        self, sizes: dict[str, int], hidden: int, recipe: Recipe, statistics: dict[str, Any], spread: float
    ) -> None:
        super().__init__()
        self._hidden = hidden
        tokens = {"item": recipe.item_tokens, "user": recipe.user_tokens}
        self.inner = torch.nn.ModuleDict({kind: torch.nn.Linear(size, recipe.width) for kind, size in sizes.items()})
        self.outer = torch.nn.ModuleDict({kind: torch.nn.Linear(recipe.width, tokens[kind] * hidden) for kind in sizes})
        self._statistics = statistics
        for kind in sizes:
            # Soft tokens begin as large as words.
            torch.nn.init.normal_(self.outer[kind].weight, std=spread / math.sqrt(recipe.width))
            torch.nn.init.normal_(self.outer[kind].bias, std=spread)

    def forward(self, kind: str, vectors: Any) -> Any:
        """float32 [n, d] of unit length to [n, tokens, hidden]."""
        mean, scale = self._statistics[kind]
        inner = torch.tanh(self.inner[kind]((vectors - mean) / scale))
        return self.outer[kind](inner).view(len(vectors), -1, self._hidden)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def begin(self, kind: str, vectors: Any, wanted: Any, ridge: float) -> None:
        """Start where a ridge regression from the vectors to what the soft tokens should mean leads; it costs no pass.

        vectors: float32 [n, d], unit length. wanted: float32 [n, hidden].
        """
        mean, scale = self._statistics[kind]
        x, centre = (vectors - mean) / scale, wanted.mean(0)
        gram = x.T @ x
        gram += (ridge * gram.diagonal().mean() + 1e-6) * torch.eye(len(gram))
        left, size, right = torch.linalg.svd(torch.linalg.solve(gram, x.T @ (wanted - centre)), full_matrices=False)
        inner, outer = self.inner[kind], self.outer[kind]
        kept = min(len(size), inner.out_features)
        # Small enough for the tangent to be nearly straight.
        inside = LINEAR / (x @ left[:, :kept]).std(0).clamp_min(1e-6)
        inner.weight[:kept], inner.bias[:] = (left[:, :kept] * inside).T, 0.0
        tokens = len(outer.bias) // self._hidden
        outer.weight[:, :kept] = ((size[:kept] / inside).unsqueeze(1) * right[:kept]).T.repeat(tokens, 1)
        outer.weight[:, kept:] *= 0.1
        outer.bias[:] = 0.1 * outer.bias + centre.repeat(tokens)

    def weights(self) -> dict[str, Any]:
        """As they are served. The statistics are part of the first layer, which stays in float32: what vectors have in
        common is much of them, and would be rounded to more than what sets them apart.
        """
        found: dict[str, Any] = {}
        for kind, first in self.inner.items():
            mean, scale = self._statistics[kind]
            weight, outer = first.weight / scale, self.outer[kind]
            found |= {f"{kind}.in.weight": weight, f"{kind}.in.bias": first.bias - weight @ mean}
            found |= {f"{kind}.out.{name}": getattr(outer, name).to(torch.bfloat16) for name in ("weight", "bias")}
        return {name: value.detach().contiguous() for name, value in found.items()}


def teach(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Shown],
    folder: Path,
    recipe: Recipe = Recipe(),
    progress: Callable[[str], None] = print,
) -> None:
    """Fits a mapper through the frozen generator and writes it to `folder`; the loss is the texts' cross-entropy."""
    from safetensors.torch import save_file

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    table = model.get_input_embeddings().weight
    sizes, statistics = _statistics(examples)
    mapper = Mapper(sizes, table.shape[1], recipe, statistics, float(table.float().std()))
    for kind in sizes:
        part = [example for example in examples if getattr(example, kind) is not None]
        given = torch.stack([_unit(getattr(example, kind)) for example in part])
        mapper.begin(kind, given, _meant(table, tokenizer, [example.text for example in part]), recipe.ridge)
    optimizer = torch.optim.AdamW(mapper.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    rows = [(example, _ids(tokenizer, example.text)) for example in examples]
    losses: list[float] = []
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps, pct_start=0.1)
    for step, batch in enumerate(itertools.islice(_batches(rows, recipe), recipe.steps), 1):
        loss = _loss(model, tokenizer, mapper, batch, recipe.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(mapper.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses = [*losses[-19:], loss.item()]
        if step % 20 == 0 or step == recipe.steps:
            progress(f"step {step}/{recipe.steps}  loss {sum(losses) / len(losses):.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(mapper.weights(), folder / FILE, metadata={"format": "pt"})
    (folder / FILE).chmod(0o644)  # the model server may run as another user


def found_among(generator: Any, held_out: Sequence[Shown], *, vectors: bool = True, seed: int = 0) -> dict[str, float]:
    """How often the right text is the likeliest of ten, given its vectors; with `vectors` False, given nothing.

    Args:
        generator: `generator.Generator` of the served model's folder.
        held_out: what the mapper has never seen; the nine others are drawn from it.

    Returns:
        likelihood: share where log p(text | vectors) is highest; gain: where it rose most over log p(text), which does not
        favour texts that are likely anyway; chance: of a guess.
    """
    rng = random.Random(seed)
    best = {"likelihood": 0, "gain": 0}
    texts = sorted({shown.text for shown in held_out})
    plain = dict(zip(texts, _scores(generator, [generator.row(SHOWN_PROMPT)] * len(texts), texts), strict=True))
    for shown in held_out:
        ten = [shown.text, *rng.sample([text for text in texts if text != shown.text], AMONG - 1)]
        row = generator.row(SHOWN_PROMPT, item=shown.item, user=shown.user) if vectors else generator.row(SHOWN_PROMPT)
        scores = _scores(generator, [row] * len(ten), ten) if vectors else [plain[text] for text in ten]
        best["likelihood"] += scores[0] > max(scores[1:])
        gains = [score - plain[text] for score, text in zip(scores, ten, strict=True)]
        best["gain"] += gains[0] > max(gains[1:])
    return {name: round(count / max(1, len(held_out)), 4) for name, count in best.items()} | {"chance": 1 / AMONG}


def _scores(generator: Any, rows: Sequence[Any], texts: Sequence[str]) -> list[float]:
    found: list[float] = []
    for start in range(0, len(rows), AMONG):
        found += generator.likelihood(rows[start : start + AMONG], texts[start : start + AMONG])[0]
    return found


def _statistics(examples: Sequence[Shown]) -> tuple[dict[str, int], dict[str, Any]]:
    """Lengths of the vectors, and their mean and scale as tensors, by kind; kinds without a vector are missing."""
    sizes, statistics = {}, {}
    for kind in ("item", "user"):
        rows = [_unit(vector) for example in examples if (vector := getattr(example, kind)) is not None]
        if rows:
            stacked = torch.stack(rows)
            sizes[kind] = stacked.shape[1]
            # One scale for all components: what hardly varies should not be blown up.
            statistics[kind] = (stacked.mean(0), (stacked - stacked.mean(0)).pow(2).mean().sqrt().clamp_min(1e-6))
    return sizes, statistics


def _meant(table: Any, tokenizer: Any, texts: Sequence[str]) -> Any:
    """What sets each text apart from the others: the sum of its tokens' embeddings, less the mean over all texts, brought
    to the length of one token's; float32 [n, hidden].
    """
    with torch.no_grad():
        sums = torch.stack([table[torch.tensor(_ids(tokenizer, text))].float().sum(0) for text in texts])
        apart = sums - sums.mean(0)
        length = table.float().norm(dim=1).mean()
        return table.float().mean(0) + length * functional.normalize(apart, dim=1)


def _unit(vector: Vector) -> Any:
    return functional.normalize(torch.from_numpy(np.asarray(vector, dtype=np.float32)), dim=0)


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of the answer, the end of turn included; a leading space, as the writer has it."""
    return [*tokenizer(f" {text}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _batches(rows: list[tuple[Shown, list[int]]], recipe: Recipe) -> Iterator[list[tuple[Shown, list[int]]]]:
    """Endlessly, in shuffled order; those with vectors of the same kinds together, as far as it goes."""
    rng = random.Random(recipe.seed)
    while True:
        shuffled = sorted(rng.sample(rows, len(rows)), key=lambda row: (row[0].item is None, row[0].user is None))
        batches = [shuffled[i : i + recipe.batch] for i in range(0, len(rows), recipe.batch)]
        yield from rng.sample(batches, len(batches))


def _loss(model: Any, tokenizer: Any, mapper: Mapper, batch: Sequence[tuple[Shown, list[int]]], noise: float) -> Any:
    """Mean cross-entropy of the texts' tokens. All rows have vectors of the same kinds, except at a border: then apart."""
    groups: dict[tuple[bool, bool], list[tuple[Shown, list[int]]]] = {}
    for shown, answer in batch:
        groups.setdefault((shown.item is None, shown.user is None), []).append((shown, answer))
    total, count = torch.zeros(()), sum(len(answer) for _, answer in batch)
    for rows in groups.values():
        total = total + _summed_loss(model, tokenizer, mapper, rows, noise)
    return total / count


def _summed_loss(
    model: Any, tokenizer: Any, mapper: Mapper, rows: Sequence[tuple[Shown, list[int]]], noise: float
) -> Any:
    table = model.get_input_embeddings()
    whole = chat(tokenizer, SHOWN_PROMPT)
    start = whole.index(SHOWN_PROMPT)
    before, after = (
        torch.tensor(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (whole[:start], whole[start:])
    )
    soft = []
    for kind in ("item", "user"):
        vectors = [getattr(shown, kind) for shown, _ in rows]
        if vectors[0] is not None:
            stacked = torch.stack([_unit(vector) for vector in vectors])
            soft.append(mapper(kind, stacked + noise * stacked.std(0, correction=0) * torch.randn_like(stacked)))
    n, longest = len(rows), max(len(answer) for _, answer in rows)
    answers = torch.full((n, longest), tokenizer.pad_token_id)
    real = torch.zeros((n, longest), dtype=torch.bool)
    for i, (_, answer) in enumerate(rows):
        answers[i, : len(answer)], real[i, : len(answer)] = torch.tensor(answer), True
    embedded = torch.cat(
        [
            table(before).expand(n, -1, -1), *[part.to(table.weight.dtype) for part in soft],
            table(after).expand(n, -1, -1), table(answers),
        ], dim=1,
    )  # fmt: skip
    # Padding stands behind all that is real: what is before it does not see it.
    states = model.get_decoder()(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, -longest - 1 : -1]
    logits = model.get_output_embeddings()(states[real])
    return functional.cross_entropy(logits.float(), answers[real], reduction="sum")
