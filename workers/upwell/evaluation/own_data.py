"""A user's own CSV files in, the same events as from the built-in data out.

A row that no event can be made of is refused with its line and column; a row that makes an event which breaks the
contract is published all the same, and ends in the dead letters like any producer's mistake.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from upwell.evaluation.datasets import Dataset, DatasetError
from upwell.events.contracts import Interaction, InteractionType, Item

ALIASES: Final = {
    "user": ("user_id", "userid"),
    "item": ("item_id", "itemid", "movie_id", "movieid", "product_id"),
    "value": ("rating", "score"),
    "timestamp": ("ts", "time", "datetime", "date"),
    "type": ("event_type", "event"),
    "event_id": ("eventid",),
    "session_id": ("session", "sessionid"),
    "title": ("name",),
    "categories": ("category", "genres", "genre", "tags"),
    "description": ("text", "summary"),
    "language": ("lang",),
}
"""Column names that are understood beside the documented ones."""

SEPARATORS: Final = ",;\t|"
_EPOCH_UNITS = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""A number of time below the first is in the unit with the second as factor to ms: s, ms, us, ns."""


@dataclass(frozen=True)
class Row:
    """A row of a CSV file, and where it stands."""

    file: str
    line: int
    cells: dict[str, str]
    """By column, stripped; a column that is missing or empty is not in it."""


class _Refused(ValueError):
    def __init__(self, column: str, why: str) -> None:
        super().__init__(f"column {column}: {why}")


def own_data(interactions: Path, items: Path | None = None) -> Dataset:
    """Events from `interactions` (user, item[, value, timestamp, type, event_id]) and `items` (item[, title,
    categories, description, language, anything else as an attribute]).

    Times are seconds, ms, us or ns since 1970 or ISO 8601 (UTC unless said); without a timestamp column the order of
    the file counts. A row without a type is a rating where it has a value, else a click. Without `items`, items are
    the ids seen, with the id as title.

    Raises:
        DatasetError: a file cannot be read as a CSV file with the columns needed; with file, line and column.

    """
    notes: list[str] = []
    refused: list[str] = []
    events = _interactions(interactions, refused, notes)
    if not events:
        why = f": all {len(refused)} rows were refused, first {refused[0]}" if refused else ""
        raise DatasetError(f"{interactions.name} holds no interaction{why}")
    seen = dict.fromkeys(event.item_id for event in events if event.item_id)
    if items is None:
        films = [Item(item, title=item) for item in seen]
    else:
        films = _items(items, refused, notes)
        if unknown := len(seen.keys() - {item.item_id for item in films}):
            notes.append(
                f"{unknown:,} items of {interactions.name} are not in {items.name}: they count, but are never ranked"
            )
    return Dataset(interactions.stem, films, events, refused, notes)


def _interactions(path: Path, refused: list[str], notes: list[str]) -> list[Interaction]:
    columns, rows = read_table(path, needed=("user", "item"), refused=refused, notes=notes)
    known = {"user", "item", "value", "timestamp", "type", "event_id", "session_id"}
    if ignored := [column for column in columns if column not in known]:
        notes.append(f"{path.name}: columns {', '.join(ignored)} are not used")
    timed = "timestamp" in columns
    if not timed:
        notes.append(f"{path.name} has no column timestamp: the order of its rows counts")
    events: list[Interaction] = []
    for row in rows:
        try:
            events.append(_interaction(row, timed))
        except _Refused as problem:
            refused.append(f"{row.file}, line {row.line}, {problem}")
    if timed:
        events.sort(key=lambda event: event.ts)
    else:
        start = time.time_ns() // 1_000_000 - len(events)
        for number, event in enumerate(events):
            event.ts = start + number
    return events


def _interaction(row: Row, timed: bool) -> Interaction:
    cells = row.cells
    for needed in ("user", "item"):
        if needed not in cells:
            raise _Refused(needed, "is empty")
    value = number(cells["value"]) if "value" in cells else None
    if timed and "timestamp" not in cells:
        raise _Refused("timestamp", "is empty")
    return Interaction(
        event_id=cells.get("event_id") or f"{row.file}:{row.line}",
        user_id=cells["user"],
        type=cells.get("type") or (InteractionType.CLICK if value is None else InteractionType.RATING).value,
        ts=milliseconds(cells["timestamp"]) if timed else 0,
        item_id=cells["item"],
        value=value,
        session_id=cells.get("session_id"),
    )


def _items(path: Path, refused: list[str], notes: list[str]) -> list[Item]:
    columns, rows = read_table(path, needed=("item",), refused=refused, notes=notes)
    fields = {"item", "title", "categories", "description", "language"}
    found: dict[str, Item] = {}
    repeated = 0
    for row in rows:
        cells = row.cells
        if "item" not in cells:
            refused.append(f"{row.file}, line {row.line}, column item: is empty")
            continue
        repeated += cells["item"] in found
        found[cells["item"]] = Item(
            cells["item"],
            title=cells.get("title", "") if "title" in columns else cells["item"],
            description=cells.get("description", ""),
            language=cells.get("language", ""),
            categories=several(cells.get("categories", "")),
            attributes={name: _attribute(text) for name, text in cells.items() if name not in fields},
        )
    if repeated:
        notes.append(f"{path.name}: {repeated:,} rows repeat an item; the last one counts")
    if not found:
        raise DatasetError(f"{path.name} holds no item")
    return list(found.values())


def _attribute(text: str) -> str | list[str]:
    return several(text) if "|" in text else text


def several(text: str) -> list[str]:
    """The parts of a cell that holds several values, separated by `|`, else `;`, else `,`.

    >>> several("Sci-Fi|Action, Adventure")
    ['Sci-Fi', 'Action, Adventure']
    """
    separator = next((s for s in "|;," if s in text), ",")
    return [part.strip() for part in text.split(separator) if part.strip()]


def number(text: str) -> float:
    """A finite number; a decimal comma is understood.

    Raises:
        ValueError: it is none.

    """
    try:
        found = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        raise _Refused("value", f"{text[:40]!r} is not a number") from None
    if not math.isfinite(found):
        raise _Refused("value", f"{text[:40]!r} is not a finite number")
    return found


def milliseconds(text: str) -> int:
    """Unix time in ms from seconds, ms, us, ns (told apart by size) or ISO 8601.

    >>> milliseconds("881250949"), milliseconds("881250949000"), milliseconds("1997-12-04T15:55:49Z")
    (881250949000, 881250949000, 881250949000)

    Raises:
        ValueError: it is none of them.

    """
    try:
        found = float(text)
    except ValueError:
        pass
    else:
        for below, factor in _EPOCH_UNITS:
            if abs(found) < below:
                return round(found * factor)
        raise _Refused("timestamp", f"{text[:40]!r} is beyond any time")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Refused(
            "timestamp",
            f"{text[:40]!r} is neither seconds or milliseconds since 1970 nor ISO 8601 (2024-01-31T12:00:00)",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def read_table(
    path: Path, *, needed: Sequence[str], refused: list[str], notes: list[str]
) -> tuple[list[str], Iterator[Row]]:
    """Canonical column names, and the rows that fit the header; others are told in `refused` as the rows are read.

    Raises:
        DatasetError: no CSV file with the columns needed; with file, line and column.

    """
    text = _text(path, notes)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    if not header_line:
        raise DatasetError(f"{path.name} is empty: expected a header line with the columns {', '.join(needed)}, …")
    separator = max(SEPARATORS, key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header = next(row for row in _records(reader, path) if any(cell.strip() for cell in row))
    columns = _canonical(header)
    for name in needed:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            raise DatasetError(
                f"{path.name}, line {reader.line_num}: no column {name}; the header names "
                f"{', '.join(header) or 'nothing'}" + (f" (is it {close[0]}?)" if close else "")
            )
    for name in set(columns):
        if columns.count(name) > 1:
            raise DatasetError(f"{path.name}, line {reader.line_num}: two columns are {name}")

    def rows() -> Iterator[Row]:
        for record in _records(reader, path):
            if not any(cell.strip() for cell in record):
                continue
            if len(record) > len(columns):
                refused.append(
                    f"{path.name}, line {reader.line_num}, column {len(columns) + 1}: {len(record)} values for "
                    f"{len(columns)} columns; a value that holds the separator needs quotes"
                )
                continue
            cells = {name: cell.strip() for name, cell in zip(columns, record, strict=False) if cell.strip()}
            yield Row(path.name, reader.line_num, cells)

    return columns, rows()


def _records(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = getattr(reader, "line_num", 0)
            raise DatasetError(f"{path.name}, line {line}: {error}; is a quote left open above?") from None


def _canonical(header: Sequence[str]) -> list[str]:
    """Column names with aliases resolved; an alias beside the name that it stands for is a column of its own."""
    columns = [name.strip() for name in header]
    plain = [name.lower().replace(" ", "_") for name in columns]
    for column, others in ALIASES.items():
        found = next((name for name in (column, *others) if name in plain), None)
        if found is not None:
            columns = [column if name == found else shown for name, shown in zip(plain, columns, strict=True)]
    return columns


def _text(path: Path, notes: list[str]) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{path.name} starts like UTF-16 but is not ({error.reason} at byte {error.start})"
            ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        notes.append(f"{path.name} is not UTF-8 (line {line}); read as Windows-1252")
        # Five byte values mean nothing in Windows-1252; Latin-1 takes them as control characters, which are dead-lettered.
        try:
            return raw.decode("cp1252")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
