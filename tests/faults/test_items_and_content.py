"""Items and content workers while servers are killed and while they are: nothing is lost, nothing doubles."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from deployment import deployed
from support import eventually
from upwell.bus import topics
from upwell.content.progress import outcomes
from upwell.local.stack import Stack
from upwell.local.supervisor import Supervisor

pytestmark = pytest.mark.faults

TOPICS = (*topics.TRIGGERS.values(), "requests")


@pytest.mark.parametrize("server", ["kafka", "postgres", "triton"])
def test_a_server_is_killed_under_the_items_and_the_content_worker(
    full_stack: Stack, prefix: str, tmp_path: Path, server: str
) -> None:
    now = int(time.time() * 1000)
    count = 40
    with deployed(full_stack, prefix, content={"max_tokens": 16, "max_wait_s": 3}) as own:

        def feed(first: int) -> None:
            for n in range(first, first + count):
                own.produce("items", f"i{n}", {"item_id": f"i{n}", "title": f"Film {n}", "ts": now})
                if n < count:
                    own.produce(
                        "requests", f"u{n}", {"request_id": "q", "user_id": f"u{n}", "ts": now, "item_id": f"i{n}"}
                    )
            own.flush()

        for n in range(count):
            own.execute(
                "INSERT INTO items (item_id, topic_id, partition, log_offset, title) VALUES (%s, 'before', 0, 0, %s)",
                f"i{n}", f"Film {n}",
            )  # fmt: skip
        feed(0)
        with Supervisor() as supervisor:
            for name in ("items", "content"):
                command = [sys.executable, "-m", "upwell.cli.main", "worker", name]
                supervisor.start(name, command, {**os.environ, **own.environment}, tmp_path / f"{name}.log")
            eventually(lambda: own.rows("SELECT 1 FROM contents HAVING count(*) > 4"), 90, "some are answered")
            full_stack.restart(server, kill=True)
            feed(count)
            own.drained("items", "items", timeout=120)
            own.drained("content", *TOPICS, timeout=120)
        features = own.read_json("item-features")
        assert {f["item_id"] for f in features} == {f"i{n}" for n in range(2 * count)}
        assert len(features) == 2 * count
        answered = Counter(c["user_id"] for c in own.read_json("contents"))
        assert answered == {f"u{n}": 1 for n in range(count)}
        ended: Counter[str] = Counter()
        for _, text in own.committed("content", *TOPICS).values():
            ended.update(outcomes(text))
        assert sum(ended.values()) == count
