"""The short form of `make faults`: one fault of each kind under a stream, and an independent verifier's verdict."""

from __future__ import annotations

import pytest

from faults.plan import SHORT
from faults.run import run

pytestmark = pytest.mark.faults
SEED = 20_261_125


def test_every_kind_of_fault_costs_time_only() -> None:
    """Three brokers, Postgres, Triton, nine workers: each is killed, and stopped for longer than its session lasts."""
    outcome = run(SEED, 12_000, 200, SHORT, 0.5, print)
    report = outcome.report()
    assert outcome.passed, (report, [str(violation) for violation in outcome.findings.shown])
    assert (report["lost"], report["doubled"]) == (0, 0)
    assert report["faults"] == len(SHORT)
    assert report["takeovers"] >= 4
    # Which comes first is a race: a zombie's write, or the broker's word that its partitions are another's.
    assert report["zombies_refused"] + report["zombies_dropped"] >= 1
    assert report["checked"]["distinct_events"] >= 10_000
    assert report["checked"]["contents"] >= 50
