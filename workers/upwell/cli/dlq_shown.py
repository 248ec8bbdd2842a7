"""Dead letters as tables, pages and JSON. What strangers wrote is shown, never obeyed: no control character goes out."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from upwell.bus.headers import headers
from upwell.bus.letters import Box, Letter, State

KINDS: Final = 1_000
"""Kinds of reasons that are counted apart."""
ROWS: Final = 30
SHOWN: Final = 2_000
"""Characters of a value."""
_DIGITS = re.compile(r"\d+")


@dataclass(slots=True)
class _Count:
    letters: int = 0
    first_ms: int = 0
    last_ms: int = 0
    attempts: int = 0


class Counts:
    """Letters by topic, state, step and kind of reason."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str, str, str], _Count] = {}

    def add(self, topic: str, state: State, letter: Letter) -> None:
        where = (str(topic), state.value, letter.step, _DIGITS.sub("#", letter.reason))
        if where not in self._by and len(self._by) >= KINDS:
            where = (*where[:3], "(other reasons)")
        count = self._by.setdefault(where, _Count())
        count.letters += 1
        count.first_ms = min(count.first_ms or letter.last_ms, letter.last_ms)
        count.last_ms = max(count.last_ms, letter.last_ms)
        count.attempts = max(count.attempts, letter.attempts)

    def as_dict(self) -> dict[str, Any]:
        names = ("topic", "state", "step", "reason")
        return {
            "letters": sum(count.letters for count in self._by.values()),
            "kinds": [dict(zip(names, where, strict=True)) | asdict(count) for where, count in self._most()],
        }

    def table(self) -> None:
        """Print the most frequent kinds."""
        from rich.table import Table
        from rich.text import Text

        from upwell.cli import tables

        if not self._by:
            print("no dead letters are like that")
            return
        table = Table("topic", "letters", "state", "tried", "last failed", "step", "reason", box=None)
        table.columns[1].justify = table.columns[3].justify = "right"
        most = self._most()
        for (topic, state, step, reason), count in most[:ROWS]:
            cells = (topic, f"{count.letters:,}", state, f"{count.attempts}x", _time(count.last_ms), step, reason[:120])
            table.add_row(*(Text(plain(cell)) for cell in cells))
        tables.whole(table)
        if rest := most[ROWS:]:
            print(f"and {sum(count.letters for _, count in rest):,} more of {len(rest):,} kinds; --json tells all")

    def _most(self) -> list[tuple[tuple[str, str, str, str], _Count]]:
        return sorted(self._by.items(), key=lambda one: -one[1].letters)


def as_dict(box: Box, letter: Letter, state: State) -> dict[str, Any]:
    """A letter for machines; bytes that are no text as base64."""
    message = letter.message
    encoding, value = _decoded(message.value())
    return {
        "topic": str(box.canonical), "at": f"{letter.place.partition}:{letter.place.offset}", "state": state.value,
        "from": {"topic": box.topic, "partition": letter.partition, "offset": letter.offset} if letter.own else None,
        "key": None if message.key() is None else _decoded(message.key(), parse=False)[1],
        "step": letter.step, "reason": letter.reason, "attempts": letter.attempts,
        "first_ms": letter.first_ms, "last_ms": letter.last_ms,
        "history": [asdict_failure(one) for one in letter.history],
        "headers": [[name, _decoded(raw, parse=False)[1]] for name, raw in _own(letter)],
        "encoding": encoding, "value": value,
    }  # fmt: skip


def asdict_failure(one: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.structs.asdict(one)
    return found


def print_letter(box: Box, letter: Letter, state: State, *, full: bool) -> None:
    """A letter for people."""
    message = letter.message
    at = f"{letter.place.partition}:{letter.place.offset}"
    lines = [f"{box.dead} {at}  {state.value}  failed {letter.attempts}x"]
    if letter.own:
        lines.append(f"  from     {box.topic} [{letter.partition}] offset {letter.offset}")
    else:
        lines.append("  from     unknown: no worker wrote it")
    lines.append(f"  key      {_decoded(message.key(), parse=False)[1]}")
    lines.append(f"  failed   {_time(letter.last_ms)}, first {_time(letter.first_ms)}")
    lines.append(f"  {letter.step:<8} {letter.reason}")
    for one in reversed(letter.history):
        back = f", written back {_time(one.redriven_ms)}" if one.redriven_ms else ""
        lines.append(f"  before   {_time(one.ms)}{back}: {one.step}: {one.reason}")
    lines += [f"  header   {name}: {_decoded(raw, parse=False)[1]}" for name, raw in _own(letter)]
    encoding, value = _decoded(message.value())
    text = json.dumps(value, indent=2, ensure_ascii=False) if encoding == "json" else str(value)
    if not full and len(text) > SHOWN:
        text = f"{text[:SHOWN]}\n... {len(text) - SHOWN:,} characters more: --full"
    lines.append(f"  value    {encoding}, {len(message.value() or b''):,} bytes")
    lines += [f"    {line}" for line in text.split("\n")]
    print("\n".join(plain(line) for line in lines) + "\n")


def plain(text: str) -> str:
    """Text without anything that a terminal would obey."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _own(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The record's own headers."""
    return [(name, raw) for name, raw in headers(letter.message) if not name.startswith("upwell-")]


def _decoded(raw: bytes | None, *, parse: bool = True) -> tuple[str, Any]:
    """How bytes can be shown: `null`, `json`, `text` or `base64`, and that."""
    if raw is None:
        return "null", None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(raw).decode()
    if parse:
        try:
            return "json", json.loads(text)
        except (ValueError, RecursionError):
            pass
    return "text", text


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z" if 0 < ms < 2**45 else "unknown"
