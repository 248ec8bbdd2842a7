"""A CSV file of shown positions in, a log for off-policy evaluation out. A row that cannot be read stops it: a log that
lacks rows has other propensities than it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.off_policy import Assumption, Log
from upwell.evaluation.own_data import Row, read_table

ROUNDING: Final = 1e-9
"""Probabilities may exceed 1 by so much."""


def read_log(path: Path, assumption: Assumption) -> Log:
    """A log from a file with a row for each shown position.

    Columns: `propensity`, `target` (the judged policy's probability) and `reward`. `slate` (any id; without it each row is
    a slate), `position` (from 0 or 1; without it 0) and `user` (whose slates are one observation) may be there, as may
    `predicted` and `expected`, for the estimators with predictions. Except for independent positions the probabilities
    are those of everything down to the position: `propensity_prefix` and `target_prefix`.

    Raises:
        DatasetError: with file, line and column.

    """
    suffix = "" if assumption is Assumption.INDEPENDENCE else "_prefix"
    chances = ("propensity" + suffix, "target" + suffix)
    refused: list[str] = []
    columns, rows = read_table(path, needed=(*chances, "reward"), refused=refused, notes=[])
    if ("predicted" in columns) != ("expected" in columns):
        raise DatasetError(f"{path.name}: predicted and expected belong together; one of them is missing")
    wanted = [*chances, "reward", *(name for name in ("predicted", "expected") if name in columns)]
    values: dict[str, list[float]] = {name: [] for name in wanted}
    slates: dict[str, int] = {}
    users: dict[str, int] = {}
    slate: list[int] = []
    position: list[int] = []
    owner: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for row in _whole(rows, refused):
        for name in wanted:
            values[name].append(_number(row, name))
        _probabilities(row, *chances)
        number = slates.setdefault(_cell(row, "slate") if "slate" in columns else str(row.line), len(slates))
        place = int(_number(row, "position")) if "position" in columns else 0
        if place < 0:
            raise DatasetError(f"{row.file}, line {row.line}, column position: {place} is below 0")
        if (number, place) in seen:
            raise DatasetError(f"{row.file}, line {row.line}, column position: the slate has position {place} already")
        seen.add((number, place))
        slate.append(number)
        position.append(place)
        if "user" in columns:
            user = users.setdefault(_cell(row, "user"), len(users))
            if owner.setdefault(number, user) != user:
                raise DatasetError(f"{row.file}, line {row.line}, column user: the slate has another user above")
    if not slate:
        raise DatasetError(f"{path.name} holds no row")
    arrays = {name: np.array(several) for name, several in values.items()}
    return Log(
        np.array(slate), np.array(position), arrays["reward"], arrays[chances[0]], arrays[chances[1]],
        arrays.get("predicted"), arrays.get("expected"),
        np.array([owner[number] for number in range(len(slates))]) if users else None,
    )  # fmt: skip


def _whole(rows: Iterator[Row], refused: list[str]) -> Iterator[Row]:
    for row in rows:
        if refused:
            break
        yield row
    if refused:
        raise DatasetError(refused[0])


def _cell(row: Row, column: str) -> str:
    if column not in row.cells:
        raise DatasetError(f"{row.file}, line {row.line}, column {column}: is empty")
    return row.cells[column]


def _number(row: Row, column: str) -> float:
    text = _cell(row, column)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DatasetError(f"{row.file}, line {row.line}, column {column}: {text[:40]!r} is not a finite number")
    return found


def _probabilities(row: Row, propensity: str, target: str) -> None:
    where = f"{row.file}, line {row.line}, column"
    if not 0 < float(row.cells[propensity]) <= 1 + ROUNDING:
        raise DatasetError(
            f"{where} {propensity}: {row.cells[propensity]} is no probability of what was shown; it lies within (0, 1]"
        )
    if not 0 <= float(row.cells[target]) <= 1 + ROUNDING:
        raise DatasetError(f"{where} {target}: {row.cells[target]} is no probability; it lies within [0, 1]")
