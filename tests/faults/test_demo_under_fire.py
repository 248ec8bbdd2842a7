"""The whole demo while its workers are killed and its servers restarted: it ends by itself, and every event counts once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import eventually
from upwell.local.stack import Stack

pytestmark = pytest.mark.faults


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    yield tmp_path
    Stack(tmp_path / "demo").wipe()


def worker(demo: psutil.Process, name: str) -> psutil.Process | None:
    for child in demo.children(recursive=True):
        try:
            if ["worker", name] == child.cmdline()[3:5]:
                return child
        except psutil.Error:
            continue
    return None


def test_killed_workers_and_restarted_servers_lose_and_double_nothing(home: Path) -> None:
    command = [sys.executable, "-m", "upwell.cli.main", "demo", "--events", "12000", "--speed", "300", "--json"]
    log = home / "stderr"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, env=os.environ | {"UPWELL_HOME": str(home)}, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        demo = psutil.Process(process.pid)
        stack = Stack(home / "demo")
        eventually(lambda: "streaming" in log.read_text(), timeout=240)
        for name in ("interactions", "content", "trends", "items"):
            victim = eventually(lambda name=name: worker(demo, name), timeout=30)
            victim.kill()
            eventually(lambda name=name, victim=victim: (found := worker(demo, name)) and found != victim, timeout=60)
        for server, kill in (("postgres", False), ("kafka", True), ("triton", True)):
            stack.restart(server, kill=kill)
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0, log.read_text()
    report = json.loads(output.splitlines()[-1])
    assert (report["events"], report["lost"], report["duplicated"]) == (12_000, 0, 0), report["details"]
    assert report["dead_letters"] == 0
    assert {"worker-interactions", "worker-content", "worker-trends", "worker-items"} <= report["restarts"].keys()
    assert {"kafka", "postgres", "triton"} <= report["restarts"].keys()
