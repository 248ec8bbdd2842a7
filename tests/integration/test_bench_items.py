"""A small flood of items on the shared servers: what the bench reports is counted from outside, and adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from upwell.evaluation.made_items import made_clicks, made_items
from upwell.local import flood
from upwell.local.stack import Stack
from upwell.settings import Settings
from upwell.store import database

pytestmark = pytest.mark.integration
MODELS = flood.MODELS


def test_a_small_flood(full_stack: Stack, prefix: str) -> None:
    said: list[str] = []
    name = prefix.rstrip("_")
    plan = flood.Plan(items=96, rate=20, quiet_s=2, rounds=1, round_items=64, sets={"kafka.partitions": "2"})
    with flood.Flood(plan, said.append, full_stack, name) as run:
        report = run.run()
        found = report.as_dict()
    assert (found["features"], found["refused"], found["unranked"]) == (96, 0, 0)
    assert found["items_per_s"] > 0
    (compared,) = found["rounds"]
    assert found["ratio"] == pytest.approx(compared["whole"] / compared["encoder"], rel=0.01)
    assert found["worker_mb"]["peak"] >= found["worker_mb"]["before"] > 0
    assert all(found["latency_ms"][when]["events"] > 0 for when in ("before", "during"))
    assert any(line.startswith("96 items at once") for line in said)
    settings = Settings(postgres={"dsn": full_stack.endpoints().postgres, "db_schema": name})  # type: ignore[arg-type]
    with database.connect(settings.postgres) as connection:
        (kept,) = connection.execute(b"SELECT count(*) FROM items WHERE modalities ? 'image'").fetchone() or (0,)
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())
    assert kept == 96 + 64 + flood.SETTLED_ITEMS


def test_the_same_seed_makes_the_same_items(tmp_path: Path) -> None:
    def made(folder: str) -> tuple[list[object], list[bytes]]:
        (tmp_path / folder).mkdir()
        items = list(made_items(3, tmp_path / folder, 5))
        pictures = [(tmp_path / folder / f"{item.item_id}.jpg").read_bytes() for item in items]
        return [(item.item_id, item.title, item.description, item.categories) for item in items], pictures

    assert made("one") == made("two")
    assert len(set(made("three")[1])) == 3
    clicks = [list(made_clicks(50, ["a", "b"], 7, 1_000, 1)) for _ in range(2)]
    assert clicks[0] == clicks[1]
    assert {click.item_id for click in clicks[0]} == {"a", "b"}
