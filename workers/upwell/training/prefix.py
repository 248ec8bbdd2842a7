"""Vectors of items and users, and texts, in; a mapper to soft prompt tokens out.

ClipCap (Mokady et al. 2021): the generator stays as it is, a small perceptron learns what to put behind its prompt. What
few items cannot teach, many names without pictures do, through the space of their sentence embeddings (`meanings.py`). The
mapper is the one that `triton_models/text_generator/1/prefix.py` reads. Seeded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from upwell.content.prompt import SHOWN_PROMPT
from upwell.training.meanings import Channel, Linear, ridge, unseen
from upwell.training.prefix_mapper import Bag, Mapper
from upwell.training.writer import chat

Vector = NDArray[np.float32]
KINDS: Final = ("item", "user")
AT_ONCE: Final = 8
"""Batches that are drawn together, to be sorted."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, and the vectors that it is to be told from."""

    text: str
    item: Vector | None
    """float32 [d], of any length other than 0; None: a text alone, which is taught by its meaning."""
    meaning: Vector
    """float32 [m], unit length: the sentence embedding of what the text names."""
    user: Vector | None = None
    wordless: bool = True
    """Nothing in the item's vector comes of words."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a mapper is taught."""

    item_tokens: int = 4
    user_tokens: int = 2
    item_width: int = 384
    """Of the perceptron's inner layer."""
    user_width: int = 64
    ridge: float = 0.3
    """Of the regression from vectors to meanings, as a share of the mean square of a component."""
    noise: float = 0.6
    """How much of what pictures lose is added to the meaning of a text alone."""
    pictured: float = 0.5
    """Share of examples with vectors in a batch; the others are texts alone, where there are any."""
    bag_batch: int = 256
    bag_steps: int = 400
    """By the bag of words, before the generator is asked at all."""
    bag_rate: float = 2e-3
    length: float = 0.3
    """How much the length of soft tokens counts beside the bag of words."""
    batch: int = 16
    steps: int = 900
    learning_rate: float = 1.5e-3
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    """A text's tokens, and what goes into the mapper, float32 [m] by kind."""

    answer: list[int]
    given: dict[str, Vector]


def teach(
    model: Any,
    tokenizer: Any,
    lessons: Sequence[Shown],
    alone: Sequence[Shown],
    folder: Path,
    recipe: Recipe = Recipe(),
    progress: Callable[[str], None] = print,
) -> None:
    """Fits a mapper through the frozen generator and writes it to `folder`; the loss is the texts' cross-entropy.

    First by a bag of words, which needs no pass through the generator, then by its likelihood.

    Args:
        lessons: with vectors, an item's at least.
        alone: texts without any; one that stands there several times is drawn as often.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    reader = Reader(model, tokenizer)
    source = _Source(lessons, alone, reader, recipe)
    tokens = {"item": recipe.item_tokens, "user": recipe.user_tokens}
    widths = {"item": recipe.item_width, "user": recipe.user_width}
    mapper = Mapper(source.fronts, tokens, widths, reader.table.weight)
    bag, sharpness = Bag(reader.table.weight, source.answers), torch.nn.Parameter(torch.tensor(2.0))

    def by_words(batch: Sequence[Example]) -> Any:
        return bag.loss(_soft(mapper, batch), [one.answer for one in batch], sharpness, recipe.length)

    def by_likelihood(batch: Sequence[Example]) -> Any:
        return reader.loss(_soft(mapper, batch), [one.answer for one in batch])

    weights = list(mapper.parameters())
    _fit(
        [*weights, sharpness], source.batches(recipe.bag_batch), by_words, recipe.bag_steps, recipe.bag_rate,
        lambda line: progress(f"bag of words, {line}"),
    )  # fmt: skip
    _fit(weights, source.batches(recipe.batch), by_likelihood, recipe.steps, recipe.learning_rate, progress)
    mapper.save(folder)


class Reader:
    """The frozen generator, asked how likely texts are after soft tokens. The prompt before them is read once."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer, self.table = model, tokenizer, model.get_input_embeddings()
        whole = chat(tokenizer, SHOWN_PROMPT)
        end = whole.index(SHOWN_PROMPT) + len(SHOWN_PROMPT)
        before, self._after = (
            torch.tensor(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (whole[:end], whole[end:])
        )
        with torch.no_grad():
            known = model.get_decoder()(input_ids=before.unsqueeze(0), use_cache=True).past_key_values
        self._known = [(layer.keys, layer.values) for layer in known.layers]

    def answer(self, text: str) -> list[int]:
        """Tokens of the answer, the end of turn included; a leading space, as the writer has it."""
        ids: list[int] = self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        return [*ids, self._tokenizer.eos_token_id]

    def loss(self, soft: Any, answers: Sequence[list[int]]) -> Any:
        """Mean cross-entropy of the answers' tokens. soft: float32 [n, tokens, hidden]."""
        from transformers import DynamicCache

        n, longest = len(answers), max(map(len, answers))
        ids = torch.full((n, longest), self._tokenizer.pad_token_id)
        real = torch.zeros((n, longest), dtype=torch.bool)
        for row, answer in enumerate(answers):
            ids[row, : len(answer)], real[row, : len(answer)] = torch.tensor(answer), True
        known = DynamicCache(config=self._model.config)
        for layer, (keys, values) in enumerate(self._known):
            known.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1), layer)
        rest = torch.cat([self._after.expand(n, -1), ids[:, :-1]], dim=1)
        embedded = torch.cat([soft.to(self.table.weight.dtype), self.table(rest)], dim=1)
        # Padding stands behind all that is real: what is before it does not see it.
        states = self._model.get_decoder()(inputs_embeds=embedded, past_key_values=known).last_hidden_state
        logits = self._model.get_output_embeddings()(states[:, -longest:][real])
        return functional.cross_entropy(logits.float(), ids[real])


class _Source:
    """Endless batches of lessons, and of texts alone as if they came from pictures.

    fronts: what comes before the mapper's perceptrons, by kind: an item's leads to its name's meaning, a user's brings its
    components to one scale. What comes out of them is 0 on average and of deviation 1.
    """

    def __init__(self, lessons: Sequence[Shown], alone: Sequence[Shown], reader: Reader, recipe: Recipe) -> None:
        self._recipe, self._rng = recipe, np.random.default_rng(recipe.seed)
        self.fronts: dict[str, Linear] = {}
        given: list[dict[str, Vector]] = [{} for _ in lessons]
        items = [i for i, one in enumerate(lessons) if one.item is not None]
        vectors, meanings = _unit([lessons[i].item for i in items]), np.stack([lessons[i].meaning for i in items])
        guessed = unseen(vectors, meanings, recipe.ridge)
        place = _standard(meanings.mean(0), guessed)
        self.fronts["item"] = ridge(vectors, place(meanings), recipe.ridge)
        for i, row in zip(items, place(guessed), strict=True):
            given[i]["item"] = row
        users = [i for i, one in enumerate(lessons) if one.user is not None]
        if users:
            vectors = _unit([lessons[i].user for i in users])
            self.fronts["user"] = _standard(vectors.mean(0), vectors)
            for i, row in zip(users, self.fronts["user"](vectors), strict=True):
                given[i]["user"] = row
        self._lessons = [
            Example(reader.answer(one.text), inputs) for one, inputs in zip(lessons, given, strict=True) if inputs
        ]
        answers = {one.text: reader.answer(one.text) for one in alone}
        self._alone = [answers[one.text] for one in alone]
        self.answers = [one.answer for one in self._lessons] + self._alone
        if alone:
            self._places = place(np.stack([one.meaning for one in alone]))
            like = [n for n, i in enumerate(items) if lessons[i].wordless] or list(range(len(items)))
            self._channel = Channel.of(place(meanings[like]), place(guessed[like]), recipe.ridge)

    def batches(self, size: int) -> Iterator[list[Example]]:
        """Examples with vectors of the same kinds, and texts of like length, together: little is padding."""
        while True:
            drawn = sorted(self._drawn(AT_ONCE * size), key=lambda one: (sorted(one.given), len(one.answer)))
            found: list[list[Example]] = []
            for _, same in itertools.groupby(drawn, key=lambda one: sorted(one.given)):
                rows = list(same)
                found += [rows[start : start + size] for start in range(0, len(rows), size)]
            for i in self._rng.permutation(len(found)):
                yield found[i]

    def _drawn(self, count: int) -> list[Example]:
        pictured = int(self._rng.binomial(count, self._recipe.pictured)) if self._alone else count
        found = [self._lessons[i] for i in self._rng.integers(len(self._lessons), size=pictured)]
        if count > pictured:
            chosen = self._rng.integers(len(self._alone), size=count - pictured)
            seen = self._channel.send(self._places[chosen], self._recipe.noise, self._rng)
            found += [Example(self._alone[i], {"item": row}) for i, row in zip(chosen, seen, strict=True)]
        return found


def _fit(
    weights: list[Any],
    batches: Iterator[list[Example]],
    loss_of: Callable[[Sequence[Example]], Any],
    steps: int,
    rate: float,
    progress: Callable[[str], None],
) -> None:
    """AdamW, warmed up over a tenth of the steps, then down to nothing (Smith and Topin 2019)."""
    if not steps:
        return
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    losses: list[float] = []
    for step, batch in enumerate(itertools.islice(batches, steps), 1):
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses = [*losses[-49:], loss.item()]
        if step % 50 == 0 or step == steps:
            progress(f"step {step}/{steps}  loss {sum(losses) / len(losses):.3f}")


def _soft(mapper: Mapper, batch: Sequence[Example]) -> Any:
    """Soft tokens [n, tokens, hidden] of a batch whose rows have vectors of the same kinds; the item's stand first."""
    return torch.cat(
        [
            mapper(kind, torch.from_numpy(np.stack([one.given[kind] for one in batch])))
            for kind in KINDS
            if kind in batch[0].given
        ],
        dim=1,
    )


def _standard(mean: Vector, rows: Vector) -> Linear:
    """What takes `mean` off, and brings the deviation of `rows` from it to 1. One scale for all components: what hardly
    varies should not be blown up.
    """
    scale = max(float(np.sqrt(np.square(rows - mean).mean())), 1e-6)
    return Linear(np.eye(len(mean), dtype=np.float32) / scale, -mean / scale)


def _unit(vectors: Sequence[Vector | None]) -> Vector:
    """float32 [n, d], rows of unit length, as the mapper makes them when it is served."""
    rows = torch.from_numpy(np.stack([vector for vector in vectors if vector is not None]).astype(np.float32))
    found: Vector = functional.normalize(rows, dim=1).numpy()
    return found
