"""A running demo in, a live panel at the terminal out, or plain progress lines where there is none.

Cheap, since it shares the processors with what it shows: it decodes what is on the screen and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from upwell.bus.topics import Topic
from upwell.cli.spotlight import Card, Spotlight
from upwell.local.demo import WORKERS, Demo

LINE_S = 2.0
FRAME_S = 0.25
CARD_LINES = 24
RATE_LOOKS = 4
"""Speeds are taken over so many looks at the offsets, about a second apart."""


class Lines:
    """Progress as plain lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._began:6.1f} s  {line}", soft_wrap=True, markup=False)

    def tick(self, demo: Demo) -> None:
        now = time.monotonic()
        if now < self._next or demo.phase not in ("streaming", "draining"):
            return
        self._next = now + LINE_S
        reader = demo.reader
        lag = ", ".join(f"{name} {standing.lag:,}" for name, standing in demo.drain.latest.items() if name != "items")
        self.say(
            f"{demo.phase}: {reader.observed.events:,} of {len(demo.plan.dataset.interactions):,} events, "
            f"{reader.numbering.rankings:,} rankings, {len(reader.contents):,} texts; behind: {lag}; {_latency(demo)}"
        )


class LivePanel:
    """Everything at once on one screen, four times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._live: Live | None = None
        self._spotlight: Spotlight | None = None
        self._looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_LOOKS)
        self._latency = ""
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last picture on the screen and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  ", end="")
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def tick(self, demo: Demo) -> None:
        if demo.phase not in ("streaming", "draining") or time.monotonic() < self._next:
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop", transient=True)
            self._live.start()
            assert demo.reader.watched is not None
            self._spotlight = Spotlight(demo.reader.watched, demo.plan.dataset.titles())
        self._look(demo)
        self._live.update(self._picture(demo), refresh=True)
        self._next = time.monotonic() + FRAME_S

    def _look(self, demo: Demo) -> None:
        done = {name: standing.done for name, standing in demo.drain.latest.items()}
        now = time.monotonic()
        if not self._looks or now - self._looks[-1][0] >= 1.0:
            self._looks.append((now, done))
            self._latency = _latency(demo)

    def _rate(self, name: str) -> float:
        (before, first), (now, last) = self._looks[0], self._looks[-1]
        return (last.get(name, 0) - first.get(name, 0)) / (now - before) if now > before else 0.0

    def _picture(self, demo: Demo) -> RenderableType:
        width, height = self._console.size
        total = len(demo.plan.dataset.interactions)
        seconds = int(time.monotonic() - (demo.began or time.monotonic()))
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True, justify="right")
        applied = demo.reader.observed.events
        head.add_row(
            Text.assemble(("Upwell", "bold"), f"  {demo.plan.dataset.name}"),
            ProgressBar(total, applied, width=None),
            f"{applied:,} of {total:,}   {seconds // 60}:{seconds % 60:02d}",
        )
        parts: list[RenderableType] = [head, self._workers(demo)]
        cards = 3 if width >= 120 else 2
        room = min(height - 8, CARD_LINES)
        if self._spotlight is not None and room >= 9:
            row = Table.grid(expand=True)
            chosen = self._spotlight.cards(cards)
            for _ in chosen:
                row.add_column(ratio=1)
            row.add_row(*(_card(card, room) for card in chosen))
            parts.append(row)
        return Group(*parts)

    def _workers(self, demo: Demo) -> RenderableType:
        reader = demo.reader
        table = Table(expand=True, box=None, padding=(0, 1), header_style="dim")
        table.add_column("worker", no_wrap=True)
        table.add_column("per second", justify="right", no_wrap=True)
        table.add_column("behind", justify="right", no_wrap=True)
        table.add_column("so far", ratio=1, no_wrap=True, overflow="ellipsis")
        sources = [content.source for content in reader.contents]
        skipped = max(0, demo.triggers - len(sources) - demo.drain.latest["content"].lag)
        far = {
            "items": f"{len(reader.features):,} items embedded",
            "interactions": f"{reader.numbering.rankings:,} rankings   {self._latency}",
            "content": f"{sources.count('model'):,} texts by the model, {sources.count('template'):,} from a template, "
            f"{skipped:,} skipped",
            "trends": f"{reader.records[Topic.STATISTICS]:,} batches of counts, by item and category",
        }
        for name in WORKERS:
            lag = demo.drain.latest[name].lag
            rate = self._rate(name)
            restarts = demo.worker_restarts(name)
            table.add_row(
                Text(name, "bold"),
                f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}",
                Text(f"{lag:,}", "yellow" if lag > 1000 else ""),
                Text(far[name] + (f"   restarted {restarts} times" if restarts else "")),
            )
        return table


def _card(card: Card, room: int) -> RenderableType:
    """One user: what they did, what is ranked for them now and why, what was written for them."""
    lines: list[RenderableType] = [
        Text(text, style="cyan", no_wrap=True, overflow="ellipsis") for text in card.did[-3:]
    ]
    lines.append(Text())
    items = max(1, min(5, (room - 11) // 2))
    for place, item in enumerate(card.ranked[:items], 1):
        mark = {"new": ("new ", "green"), "up": ("▲ ", "green"), "down": ("▼ ", "red")}.get(item.moved, ("", ""))
        lines.append(Text.assemble(f"{place} ", mark, (item.title, "bold"), no_wrap=True, overflow="ellipsis"))
        lines.append(Text(f"  {item.reason}", style="dim", no_wrap=True, overflow="ellipsis"))
    if card.text:
        lines += [Text(), Text(f"“{card.text}”", style="italic" if card.by_model else "italic dim")]
    return Panel(Group(*lines), title=f"user {card.user}", title_align="left", height=room, padding=(0, 1))


def _latency(demo: Demo) -> str:
    waits = demo.reader.observed.recent_latencies()
    if not len(waits):
        return "no ranking yet"
    p50, p99 = np.percentile(waits, (50, 99))
    return f"event to ranking p50 {p50:,.0f} ms, p99 {p99:,.0f} ms"
