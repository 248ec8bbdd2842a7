"""The demo as a newcomer runs it: the real command in a process of its own, on a stack of its own, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import eventually
from upwell.local.processes import mentioning
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration


def reachable(folder: Path) -> Path:
    """Postgres, which does not run as root, must be able to walk there."""
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield reachable(tmp_path)
    Stack(tmp_path / "demo").wipe()


@contextmanager
def demo(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "upwell.cli.main", "demo", *arguments]
    with (home / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command, env=os.environ | {"UPWELL_HOME": str(home)}, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(home: Path) -> str:
    return (home / "stderr").read_text()


def finished(home: Path, *arguments: str) -> dict[str, Any]:
    """The last line of a run's output, parsed."""
    with demo(home, *arguments, "--json") as process:
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said(home)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def nothing_is_left(home: Path) -> None:
    eventually(lambda: not mentioning(home / "demo"), message="every process of the demo has ended")
    assert not (home / "demo" / "stack.json").exists()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A run that left its servers, and its report."""
    home = reachable(tmp_path_factory.mktemp("kept"))
    yield home, finished(home, "--events", "3000", "--speed", "max", "--keep")
    Stack(home / "demo").wipe()


def test_movielens_from_start_to_end(kept: tuple[Path, dict[str, Any]]) -> None:
    home, report = kept

    assert (report["events"], report["lost"], report["duplicated"], report["dead_letters"]) == (3000, 0, 0, 0)
    assert report["items"] == 1682
    assert 0 < report["users"] <= report["rankings"]
    assert report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["seconds"] > 0
    assert report["contents"] <= report["triggers"]
    assert "upwell down --home" in said(home)
    assert "UPWELL_KAFKA__TOPIC_PREFIX=demo-" in (home / "demo" / "demo.env").read_text()


def test_own_files_with_everything_that_people_get_wrong(kept: tuple[Path, dict[str, Any]]) -> None:
    home, _ = kept
    supervisor = Stack(home / "demo").status()["supervisor"]
    rows = ["user,item,value,timestamp,type,event_id"]
    rows += [f"u{n % 7},b{n % 5},{n % 5 + 1},{1_700_000_000 + n},rating,e{n}" for n in range(200)]
    rows += ["u1,b1,4,1700000500,rating,e8"]  # an event that came before
    rows += ["u1,b1,,1700000501,teleport,x1", "u1,b2,,1700000502,rating,x2", "u2,b2,1,99999999999,rating,x3"]
    rows += ["u1,,3,1700000503,rating,x4", "u1,b1,much,1700000504,rating,x5"]
    ratings = home / "ratings.csv"
    ratings.write_text("\n".join(rows))
    books = home / "books.csv"
    books.write_text(
        "item,title,categories,author\nb0,Emma,Novel,Jane Austen\nb1,The Sea,Novel|Sea,\nb2,Ulysses,,\nb3,,,\n"
    )

    report = finished(home, "--interactions", str(ratings), "--items", str(books), "--speed", "max")

    assert (report["lost"], report["duplicated"]) == (0, 0), report["details"]
    assert report["events"] == 204
    assert report["repeats"] == 1
    # Three interactions and the book without a title.
    assert report["dead_letters"] == 4
    assert (report["users"], report["items"], report["unread_rows"]) == (7, 3, 2)
    assert "refused: ratings.csv, line 206, column item: is empty" in said(home)
    assert "are not in books.csv" in said(home)
    # The servers that were there are used, and left there.
    assert Stack(home / "demo").status()["supervisor"] == supervisor


@pytest.mark.parametrize(("when", "number"), [("ready after", signal.SIGINT), ("streaming", signal.SIGTERM)])
def test_interrupted_it_leaves_nothing_behind(home: Path, when: str, number: signal.Signals) -> None:
    with demo(home, "--events", "100000", "--speed", "50", "--json") as process:
        eventually(lambda: when in said(home), timeout=240)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)

    assert process.returncode == 130, said(home)
    assert output == ""
    assert "Traceback" not in said(home)
    assert "Interrupted" in said(home)
    nothing_is_left(home)


def test_killed_it_takes_everything_with_it(home: Path) -> None:
    with demo(home, "--events", "100000", "--speed", "50", "--json") as process:
        eventually(lambda: "topics and tables are ready" in said(home), timeout=240)
        process.kill()
        process.wait()
        nothing = eventually(lambda: mentioning(home / "demo") == [], timeout=60)
    assert nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speed", "fast"), "--speed fast: a number of interactions a second above 0, or `max`"),
        (("--items", "x.csv"), "--items needs --interactions"),
        (("--interactions", "nowhere.csv"), "nowhere.csv cannot be read: No such file"),
        (("--set", "ranking.slat=3"), "did you mean ranking.slate?"),
    ],
)
def test_mistakes_are_said_before_anything_is_started(home: Path, arguments: tuple[str, ...], message: str) -> None:
    with demo(home, *arguments) as process:
        process.communicate(timeout=60)

    assert process.returncode == 2
    assert message in said(home)
    assert not (home / "demo").exists()
