"""`upwell verify`: the full-size figures that the project claims, measured on this machine; JSON with its date comes out.

Resumable: what has been measured on this day from this commit is not measured again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell import __version__
from upwell.cli import exits
from upwell.evaluation.machine import machine

Report = dict[str, Any]
FAILED = 1
"""Exit code where a figure misses its target."""


@dataclass(frozen=True)
class Measurement:
    """A run of the real command, and what its report must say."""

    name: str
    arguments: tuple[str, ...]
    targets: dict[str, Callable[[Report], bool]]
    """Target in words to whether the report reaches it."""


NOTHING_LOST: dict[str, Callable[[Report], bool]] = {
    "lost = 0": lambda report: report["lost"] == 0,
    "duplicated = 0": lambda report: report["duplicated"] == 0,
}
MEASUREMENTS = (
    Measurement(
        "throughput",
        ("demo", "--events", "100000", "--speed", "max", "--json"),
        NOTHING_LOST
        | {
            "events = 100000": lambda report: report["events"] == 100_000,
            "events_per_second >= 5000": lambda report: report["events_per_second"] >= 5_000,
        },
    ),
    Measurement(
        "latency",
        ("demo", "--events", "60000", "--speed", "500", "--json"),
        NOTHING_LOST | {"latency p99 < 500 ms": lambda report: (report["latency_ms"]["p99"] or 1e9) < 500},
    ),
    Measurement(
        "texts",
        ("demo", "--events", "20000", "--speed", "200", "--json"),
        NOTHING_LOST
        | {
            "share of contents with source model >= 0.7": lambda report: (
                report["contents_by_source"].get("model", 0) >= 0.7 * max(1, report["contents"])
            )
        },
    ),
)
NAMES = ",".join(measurement.name for measurement in MEASUREMENTS)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(rich_help_panel="Local stack")(verify)


def verify(
    only: Annotated[str, typer.Option(help="Which measurements, comma-separated.")] = NAMES,
    again: Annotated[bool, typer.Option("--again", help="Measure again what has been measured.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of the dated JSON files.")] = Path("docs/results"),
) -> None:
    """Measure the project's full-size figures on this machine, and write them to a dated JSON file. Takes minutes.

    Each measurement is a run of the real demo on real servers. Interrupted, it goes on where it was. Exit code 1: a
    figure misses its target.

    \b
    Examples:
        upwell verify
        upwell verify --only throughput --again
    """
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    known = {measurement.name: measurement for measurement in MEASUREMENTS}
    if unknown := sorted(set(wanted) - set(known)):
        exits.fail(exits.CONFIG, f"unknown measurement {', '.join(unknown)}: choose from {', '.join(known)}")
    commit = _commit()
    file = results / f"{datetime.now(UTC).date()}-{commit}.json"
    # Files that differ from the commit may have changed since.
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() and not commit.endswith("-dirty") else {}
    record |= {"commit": commit, "version": __version__, "machine": machine()}
    measured: dict[str, Any] = record.setdefault("measurements", {})
    missed = []
    for name in wanted:
        if again or name not in measured:
            print(f"{name}: upwell {' '.join(known[name].arguments)}", file=sys.stderr, flush=True)
            measured[name] = _measure(known[name])
            _write(file, record)
        for target, reached in measured[name]["targets"].items():
            print(f"{'reached' if reached else 'MISSED ':<8} {name}: {target}")
            missed += [] if reached else [target]
    print(f"written to {file}")
    if missed:
        raise typer.Exit(FAILED)


def _measure(measurement: Measurement) -> dict[str, Any]:
    began, started, load = time.monotonic(), datetime.now(UTC), round(os.getloadavg()[0], 2)
    command = [sys.executable, "-m", "upwell.cli.main", *measurement.arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    lines = done.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        exits.fail(
            exits.INFRASTRUCTURE, f"{measurement.name}: the run ended with code {done.returncode} and without a report"
        )
    report: Report = json.loads(lines[-1])
    return {
        "command": f"upwell {' '.join(measurement.arguments)}",
        "started": started.isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began, 1),
        "load_before": load,
        "targets": {target: bool(reached(report)) for target, reached in measurement.targets.items()},
        "report": report,
    }


def _write(file: Path, record: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(record, indent=2) + "\n")
    draft.replace(file)


def _commit() -> str:
    """The checkout's commit, with `-dirty` where files but the results differ; the version outside a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)docs/results"]
        changed = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return __version__
    return commit.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
