"""Old media go, and none that an item or a young content needs, on a real database and store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment import Deployment, deployed
from upwell.events.codec import encode
from upwell.events.contracts import Content, Item, Media
from upwell.local.stack import Stack
from upwell.media.store import MediaStore, Stored
from upwell.store import database
from upwell.store.contents import ContentStore, Result
from upwell.store.items import Embedding, ItemRow, ItemStore, Place

pytestmark = pytest.mark.integration


def prune(own: Deployment, *more: str) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | own.environment
    command = [sys.executable, "-m", "upwell.cli.main", "media", "prune", "--older-than", "30", "--json", *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def item(item_id: str, stored: Stored) -> ItemRow:
    row = Item(item_id, title=item_id, media=[Media("image", uri=stored.uri)], ts=1)
    return ItemRow(row, Place(0, 1), Embedding(np.ones(3, np.float32), {"image": 1.0}, {}), {}, 1.0)


def content(name: str, stored: Stored) -> Result:
    made = Content(
        name, f"trigger-{name}", "u", ["there"], "poster", "en", "A \0 text.", "model", "m@1", "passed", "", "head", 1,
        uri=stored.uri, sha256=stored.sha256, mime=stored.mime, size=stored.size,
    )  # fmt: skip
    return Result(f"trigger-{name}", name, "u", "model", encode(made), "t", 0, 1)


def test_what_is_old_and_not_in_use_goes(stack: Stack, prefix: str, tmp_path: Path) -> None:
    with deployed(stack, prefix, media={"store": f"file://{tmp_path}/store"}) as own:
        store = MediaStore(own.settings.media)
        names = ("there", "deleted", "just deleted", "old content", "young content", "nobody's", "young")
        files = {name: store.put(name.encode(), "image/png") for name in names}
        for name in names[:-1]:
            os.utime(files[name].uri.removeprefix("file://"), (1e9, 1e9))
        with database.pool(own.settings.postgres) as connections:
            items = ItemStore(connections, "topic")
            items.write([item(name, files[name]) for name in names[:3]], {}, "m@1")
            items.write([], {name: Place(0, 2) for name in names[1:3]}, "")
            ContentStore(connections).insert([content(name, files[name]) for name in names[3:5]])
        own.execute("UPDATE items SET updated_at = now() - interval '40 days' WHERE item_id IN ('there', 'deleted')")
        own.execute("UPDATE contents SET created_at = now() - interval '40 days' WHERE content_id = 'old content'")

        gone = {"deleted", "old content", "nobody's"}
        size = sum(files[name].size for name in gone)
        assert prune(own, "--dry-run") == {"files": 3, "bytes": size, "in_use": 3, "dry_run": True}
        assert prune(own) == {"files": 3, "bytes": size, "in_use": 3, "dry_run": False}
        left = {name for name in names if Path(files[name].uri.removeprefix("file://")).exists()}
        assert left == set(names) - gone
        assert prune(own)["files"] == 0
