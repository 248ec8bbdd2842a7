"""`upwell verify`: the full-size figures that the project claims, measured on this machine; JSON with its date comes out.

Resumable: what has been measured on this day from this commit is not measured again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell import __version__
from upwell.cli import exits
from upwell.evaluation.full_size import MEASUREMENTS, Measurement, Report
from upwell.evaluation.machine import machine
from upwell.local.paths import default_home

FAILED = 1
"""Exit code where a figure misses its target."""
NAMES = ",".join(measurement.name for measurement in MEASUREMENTS)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(rich_help_panel="Local stack")(verify)


def verify(
    only: Annotated[str, typer.Option(help="Which measurements, comma-separated.")] = NAMES,
    again: Annotated[bool, typer.Option("--again", help="Measure again what has been measured.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of the dated JSON files.")] = Path("docs/results"),
) -> None:
    """Measure the project's full-size figures on this machine, and write them to a dated JSON file. Takes hours.

    Each measurement runs the real commands on real servers and models. Interrupted, it goes on where it was. One that
    fails is said, and the others go on. Exit code 1: a figure misses its target, or a command failed.

    \b
    Examples:
        upwell verify
        upwell verify --only throughput,latency
        upwell verify --only contents --again
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
    to_do = [name for name in wanted if again or name not in measured]
    print(f"{len(to_do)} to measure, about {sum(known[name].minutes for name in to_do)} minutes", file=sys.stderr)
    for name in wanted:
        if name in to_do:
            try:
                measured[name] = _measure(known[name])
            except Failed as error:
                print(f"FAILED   {name}: {error}", flush=True)
                missed.append(name)
                continue
            _write(file, record)
        for target, reached in measured[name]["targets"].items():
            print(f"{'reached' if reached else 'MISSED ':<8} {name}: {target}", flush=True)
            missed += [] if reached else [target]
    print(f"written to {file}")
    if missed:
        raise typer.Exit(FAILED)


class Failed(Exception):
    """A command of a measurement ended without a report."""


def _measure(measurement: Measurement) -> dict[str, Any]:
    began, started, load = time.monotonic(), datetime.now(UTC), round(os.getloadavg()[0], 2)
    home = default_home() / "demo"
    reports: dict[str, Report] = {}
    targets: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="upwell-verify-") as scratch:

        def command(arguments: str) -> list[str]:
            words = shlex.split(arguments.format(home=shlex.quote(str(home)), scratch=shlex.quote(scratch)))
            return [sys.executable, "-m", "upwell.cli.main", *words]

        try:
            for step in measurement.steps:
                shown = f"upwell {step.arguments}"
                print(f"{measurement.name}: {shown}", file=sys.stderr, flush=True)
                # Later steps look at what the first one left running.
                report = reports[shown] = _report(
                    command(step.arguments), os.environ | (_kept(home) if reports else {})
                )
                targets |= {target: bool(reached(report)) for target, reached in step.targets.items()}
                targets |= {target: bool(reached) for target, reached in (report.get("targets") or {}).items()}
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            if measurement.after:
                subprocess.run(command(measurement.after), stdout=subprocess.DEVNULL, check=False)
    return {
        "started": started.isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began, 1),
        "load_before": load,
        "targets": targets,
        "reports": reports,
    }


def _report(command: list[str], environment: dict[str, str]) -> Report:
    """The JSON object that a command prints last.

    Raises:
        Failed: it printed none.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    # Where a figure misses its target, a command ends with an exit code of its own; its report says so.
    text = done.stdout[max(0, done.stdout.rfind("\n{") + 1) :].strip()
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        raise Failed(f"exit code {done.returncode}, and no report") from None
    if not isinstance(found, dict):
        raise Failed(f"exit code {done.returncode}, and no report")
    return found


def _kept(home: Path) -> dict[str, str]:
    """Where the servers are that `demo --keep` left, as environment variables; without such, none."""
    file = home / "demo.env"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line.removeprefix("export ")))


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
