"""`make faults`: about ten minutes; `HOURS=1` for longer, `SEED=` for the same again. The last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.plan import MIX, SHORT
from faults.run import Outcome, run

RATE, GAP_S = 400, 4.0
"""Interactions a second, and mean pause between faults."""
FAULTS_PER_HOUR = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0, help="about so long; default: about ten minutes")
    parser.add_argument("--seed", type=int, help="of input and schedule; default: one is drawn and printed")
    parser.add_argument("--rate", type=int, default=RATE, help="interactions a second")
    parser.add_argument("--events", type=int, help="interactions; default: as the time needs, at least 200,000")
    parser.add_argument("--short", action="store_true", help="one fault of each kind")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    times = 1 if chosen.short else max(1, round(chosen.hours * FAULTS_PER_HOUR / sum(MIX.values())))
    mix = SHORT if chosen.short else {kind: count * times for kind, count in MIX.items()}
    events = chosen.events or (40_000 if chosen.short else max(200_000, int(chosen.hours * 3600 * chosen.rate)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {line}", flush=True)

    print(f"seed {seed}: {events} events at {chosen.rate}/s, {sum(mix.values())} faults", flush=True)
    try:
        outcome = run(seed, events, chosen.rate, mix, 2.0 if chosen.short else GAP_S, say)
    except KeyboardInterrupt:
        print("interrupted; everything is stopped", file=sys.stderr)
        return 130
    show(outcome)
    return 0 if outcome.passed else 1


def show(outcome: Outcome) -> None:
    """The table, what is wrong, and the JSON object."""
    print(f"\n{'fault':24}{'count':>7}{'p50 s':>8}{'max s':>8}")
    for kind, row in outcome.kinds().items():
        print(f"{kind:24}{row['count']:7.0f}{row['p50_s']:8.1f}{row['max_s']:8.1f}")
    for violation in outcome.findings.shown:
        print(violation)
    for fault in outcome.unrecovered:
        print(f"not recovered: {fault}")
    print(json.dumps(outcome.report()))


if __name__ == "__main__":
    sys.exit(main())
