"""`make faults`: about ten minutes; `HOURS=1` for longer, `SEED=` for the same again. The last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.plan import MIX, SHORT
from faults.run import Outcome, run

RATE, GAP_S = 400, 2.0
"""Interactions a second, and mean pause between faults."""
MINUTES = 10.0
MIXES = 10
"""In an hour no machine does more: the whole schedule is drawn, and what there is no time for is left out."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument(
        "--hours", type=float, default=0.0, help="no new fault begins after so long; default: ten minutes"
    )
    parser.add_argument("--seed", type=int, help="of input and schedule; default: one is drawn and printed")
    parser.add_argument("--rate", type=int, default=RATE, help="interactions a second")
    parser.add_argument("--events", type=int, help="interactions at least; default: 200,000 in ten minutes")
    parser.add_argument("--short", action="store_true", help="one fault of each kind")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    limit_s = chosen.hours * 3600 if chosen.hours else MINUTES * 60
    times = max(1, round(MIXES * limit_s / 3600))
    mix = SHORT if chosen.short else {kind: count * times for kind, count in MIX.items()}
    events = chosen.events or (12_000 if chosen.short else int(limit_s / 3600 * 1_200_000))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {line}", flush=True)

    print(f"seed {seed}: {events} events at {chosen.rate}/s, at most {sum(mix.values())} faults", flush=True)
    try:
        outcome = run(seed, events, chosen.rate, mix, GAP_S, say, math.inf if chosen.short else limit_s)
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
