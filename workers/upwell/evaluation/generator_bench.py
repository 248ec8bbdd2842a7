"""The text generator on Triton in, its speed and quality out: batch 1 beside batch 8, every variant beside the others.

All measurements take turns in every round, so that what else the machine does meets all; the medians count. Texts are of
a fixed length there, as serving benchmarks have it; beside it stand the texts as they end by themselves.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from upwell.content.kinds import check_of
from upwell.inference.generate import TextGenerator
from upwell.training.pairs import Lesson
from upwell.training.served import module

LENGTH: Final = 64
"""Tokens of a text of fixed length: the content worker's `max_tokens`."""
BATCH: Final = 8
TEMPERATURE: Final = 0.7
ALONE: Final = 2
"""Texts of one measurement at batch 1."""
TOGETHER: Final = 16
"""Texts of one measurement at batch 8."""


@dataclass(frozen=True)
class Variant:
    """One way to serve the generator."""

    name: str
    model: str
    """Its name on Triton."""
    parameters: dict[str, Any]
    """Of `generator.Generator`, for the same one in this process."""


@dataclass
class Measured:
    variant: Variant
    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    alone_cpu: list[float] = field(default_factory=list)
    together_cpu: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    perplexity: float = 0.0
    faithful: float = 0.0
    texts: int = 0
    tokens_per_text: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        alone, together = statistics.median(self.alone), statistics.median(self.together)
        return {
            "variant": self.variant.name,
            "batch_1_per_s": round(alone, 1), "batch_8_per_s": round(together, 1),
            "ratio": round(statistics.median(t / a for t, a in zip(self.together, self.alone, strict=True)), 2),
            "batch_1_per_cpu_s": _median(self.alone_cpu), "batch_8_per_cpu_s": _median(self.together_cpu),
            "ratio_cpu": _ratio(self.together_cpu, self.alone_cpu),
            "batch_8_ended_per_s": round(statistics.median(self.ended), 1),
            "perplexity": round(self.perplexity, 4),
            "faithful": round(self.faithful, 4), "texts": self.texts, "tokens_per_text": round(self.tokens_per_text, 1),
        }  # fmt: skip


def measure(
    url: str,
    variants: Sequence[Variant],
    asked: Sequence[Lesson],
    held_out: Sequence[Lesson],
    rounds: int,
    tick: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Figures of all variants, in their order; the first one is what the others are compared with.

    Args:
        url: Triton's gRPC address, host:port.
        asked: what texts are written about; their own texts are not read.
        held_out: facts and text that the generator never learned from, for the perplexity.
        rounds: measurements of each, in turn.
        tick: called with what comes next; `steps` times.

    Returns:
        variant; tokens a second at batch 1 and 8 and their ratio (texts of LENGTH tokens), the same per second of the
        model's processor time (0 where its process is not on this machine); at batch 8 with texts as they end; perplexity
        of the held-out texts; share of first texts that pass the check; `speedup` and `perplexity_loss` over the first.
    """
    clients = {variant.name: TextGenerator(url, model=variant.model, timeout_s=300) for variant in variants}
    found = [Measured(variant) for variant in variants]
    try:
        for one in found:
            tick(f"{one.variant.name}: faithful texts, perplexity")
            _quality(one, clients[one.variant.name], asked, held_out)
        prompts, triton = [lesson.prompt() for lesson in asked], server(url)
        for number in range(1, rounds + 1):
            for one in found:
                tick(f"{one.variant.name}: round {number} of {rounds}")
                client = clients[one.variant.name]
                part = [prompts[(number * TOGETHER + i) % len(prompts)] for i in range(TOGETHER)]
                _timed(client, triton, part[:ALONE], 1, LENGTH, one.alone, one.alone_cpu)
                _timed(client, triton, part, BATCH, LENGTH, one.together, one.together_cpu)
                _timed(client, triton, part, BATCH, 0, one.ended, [])
    finally:
        for client in clients.values():
            client.close()
    results = [one.as_dict() for one in found]
    first = results[0]
    for result in results:
        result["speedup_1"] = round(result["batch_1_per_s"] / first["batch_1_per_s"], 2)
        result["speedup_8"] = round(result["batch_8_per_s"] / first["batch_8_per_s"], 2)
        result["perplexity_loss"] = round(result["perplexity"] / first["perplexity"] - 1, 4)
    return results


def steps(variants: int, rounds: int) -> int:
    """How often `measure` calls `tick`."""
    return variants * (rounds + 1)


def first_piece(url: str, asked: Sequence[Lesson]) -> dict[str, float]:
    """Milliseconds until the first piece of a streamed text, and until its end; medians over the texts."""
    client = TextGenerator(url, timeout_s=300)
    first, whole = [], []
    try:
        for number, lesson in enumerate(asked):
            began = time.perf_counter()
            pieces = client.stream(lesson.prompt(), LENGTH, TEMPERATURE, number)
            next(pieces, "")
            first.append(time.perf_counter() - began)
            list(pieces)
            whole.append(time.perf_counter() - began)
    finally:
        client.close()
    return {
        "first_ms": round(1000 * statistics.median(first), 1), "whole_ms": round(1000 * statistics.median(whole), 1),
    }  # fmt: skip


def _quality(one: Measured, client: TextGenerator, asked: Sequence[Lesson], held_out: Sequence[Lesson]) -> None:
    written = client.generate([a.prompt() for a in asked], LENGTH, TEMPERATURE, range(len(asked)))
    passed = [not text.error and not check_of(text.text, a.asked()) for text, a in zip(written, asked, strict=True)]
    one.texts, one.faithful = len(asked), sum(passed) / len(asked)
    one.tokens_per_text = sum(text.tokens for text in written) / len(asked)
    generator = module("text_generator", "generator").Generator(**one.variant.parameters)
    one.perplexity = perplexity(generator, held_out)


def perplexity(generator: Any, lessons: Sequence[Lesson]) -> float:
    """Of the lessons' texts, given their prompts: exp of the mean negative log-likelihood per token."""
    total, tokens = 0.0, 0
    for start in range(0, len(lessons), BATCH):
        part = lessons[start : start + BATCH]
        found, counts = generator.likelihood(
            [generator.row(lesson.prompt()) for lesson in part], [lesson.text for lesson in part]
        )
        total, tokens = total - sum(found), tokens + sum(counts)
    return math.exp(total / tokens)


def _timed(
    client: TextGenerator,
    triton: psutil.Process | None,
    prompts: Sequence[str],
    batch: int,
    length: int,
    wall: list[float],
    cpu: list[float],
) -> None:
    """Tokens a second, and per second of the model's processor time. Batches follow each other; Triton forms them."""
    tokens, began, before = 0, time.perf_counter(), _cpu(triton)
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        texts = client.generate(part, LENGTH, TEMPERATURE, range(start, start + len(part)), min_tokens=length)
        tokens += sum(text.tokens for text in texts)
    wall.append(tokens / (time.perf_counter() - began))
    spent = _cpu(triton) - before
    if spent > 0:
        cpu.append(tokens / spent)


def server(url: str) -> psutil.Process | None:
    """The process on this machine that listens at the address; None where there is none, or it may not be seen."""
    port = int(url.rpartition(":")[2])
    try:
        listening = [
            c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
    except psutil.AccessDenied:
        return None
    return psutil.Process(listening[0]) if listening and listening[0] else None


def _cpu(triton: psutil.Process | None) -> float:
    """Processor seconds of the server's models so far, of which one works at a time; 0 where they are not to be seen."""
    spent = 0.0
    for process in triton.children(recursive=True) if triton else ():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    return spent


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1) if values else 0.0


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    pairs = list(zip(over, under, strict=False))
    return round(statistics.median(a / b for a, b in pairs), 2) if pairs else 0.0
