"""Every valid record of an item ends in `item-features` and in the table `items`; a deletion as a tombstone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faults.verifier.records import Findings, Place, Record


@dataclass(frozen=True, slots=True)
class Item:
    """A row of `items`; `vector` None where it never got one."""

    partition: int
    offset: int
    deleted: bool
    model_version: str
    vector: list[float] | None


@dataclass(slots=True)
class Life:
    """Of one item: valid records in, records of `item-features` out."""

    came: int = 0
    last: Place | None = None
    deleted: bool = False
    time: int = 0
    """Event time of the last upsert."""
    told: int = 0
    told_last: Place | None = None
    told_deleted: bool = False
    told_time: int = 0


class Items:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.lives: dict[str, Life] = {}
        self._vectors: dict[tuple[str, str], str] = {}
        """(item, model version) to the vector as published."""

    def item(self, place: Place, item: dict[str, Any]) -> None:
        """The item's next valid record."""
        life = self.lives.setdefault(item["item_id"], Life())
        life.came += 1
        life.last, life.deleted = place, item["op"] == "delete"
        life.time = item.get("ts") or life.time

    def feature(self, record: Record) -> None:
        """The item's next record of `item-features`."""
        name = (record.key or b"").decode()
        life = self.lives.setdefault(name, Life())
        life.told += 1
        life.told_last, life.told_deleted = record.place, record.value is None
        if record.value is None:
            return
        found = json.loads(record.value)
        life.told_time = found["ts"]
        held = self._vectors.setdefault((name, found["model_version"]), found["vector"])
        if held != found["vector"]:
            self.findings.add("item", record.place, f"{name}: another vector of the same model version")

    def finish(self, stored: Mapping[str, Item]) -> None:
        for name, life in self.lives.items():
            if life.told > life.came:
                words = f"{name}: {life.came} records in, {life.told} in item-features"
                self.findings.add("item", life.told_last, words, doubled=life.told - life.came)
            if life.last is None:
                continue
            if not life.told:
                self.findings.add("item", life.last, f"{name}: neither embedded nor in the dead letters", lost=1)
                continue
            if life.told_deleted != life.deleted:
                words = f"{name}: deleted {life.deleted} in the end, {life.told_deleted} in item-features"
                self.findings.add("item", life.told_last, words, lost=1)
            elif not life.deleted and life.told_time != life.time:
                words = f"{name}: the newest record of item-features is of {life.told_time}, not of {life.time}"
                self.findings.add("item", life.told_last, words, lost=1)
            self._row(name, life, life.last, stored.get(name))

    def _row(self, name: str, life: Life, last: Place, row: Item | None) -> None:
        if row is None:
            self.findings.add("item", last, f"{name}: no row", lost=1)
        elif (row.partition, row.offset, row.deleted) != (last.partition, last.offset, life.deleted):
            words = f"{name}: the row is of {row.partition} @{row.offset}, deleted {row.deleted}"
            self.findings.add("item", last, words, lost=1)
