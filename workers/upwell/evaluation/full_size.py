"""The full-size figures that the project claims: which commands show each, and what their reports must say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Report = dict[str, Any]
Target = Callable[[Report], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the real command. `{home}`, `{scratch}` are the demo's home, and a folder that is removed afterwards."""

    arguments: str
    targets: Mapping[str, Target] = field(default_factory=dict)
    """In words, to whether the step's report reaches it. What a report says of `targets` by itself counts besides."""


@dataclass(frozen=True, slots=True)
class Measurement:
    name: str
    minutes: int
    """About how long it takes on two quiet cores."""
    steps: tuple[Step, ...]
    after: str = ""
    """A command that cleans up, also after steps that failed."""


def _at_least(name: str, least: float, *path: str) -> dict[str, Target]:
    return {f"{name} >= {least:g}": lambda report: _at(report, path or (name,)) >= least}


def _at(report: Report, path: tuple[str, ...]) -> float:
    found: Any = report
    for key in path:
        found = found[key]
    return float(found)


def _ahead_of_peers(report: Report) -> bool:
    return bool(report["hr_at_10"] > max(peer["hr_at_10"] for peer in report["peers"].values()))


def _new_items(report: Report) -> bool:
    together = report["new_items"]["peers"]["item_knn"]["hr_at_10"]
    return bool(report["new_items"]["hr_at_10"] >= 3 * together)


def _as_offline(within: float) -> Target:
    def reached(report: Report) -> bool:
        through = report["through_stack"]
        return bool(abs(through["hr_at_10"] - through["replay"]["hr_at_10"]) <= within)

    return reached


NOTHING_LOST: Final[dict[str, Target]] = {
    "lost = 0": lambda report: report["lost"] == 0,
    "duplicated = 0": lambda report: report["duplicated"] == 0,
}
NOTHING_LOST_THROUGH: Final[dict[str, Target]] = {
    name: lambda report, reached=reached: reached(report["through_stack"])  # type: ignore[misc]
    for name, reached in NOTHING_LOST.items()
}
RANKING: Final = {
    "ahead of every peer": _ahead_of_peers,
    "new items: HR@10 >= 3 x co-occurrence's": _new_items,
    "reasons that hold >= 99%": lambda report: report["reasons"]["share"] >= 0.99,
}
MEASUREMENTS: Final = (
    Measurement(
        "throughput",
        2,
        (
            Step(
                "demo --events 100000 --speed max --json",
                NOTHING_LOST
                | {"events = 100000": lambda report: report["events"] == 100_000}
                | _at_least("events_per_second", 5_000),
            ),
        ),
    ),
    Measurement(
        "latency",
        3,
        (
            Step(
                "demo --events 60000 --speed 500 --json",
                NOTHING_LOST | {"latency p99 < 500 ms": lambda report: (report["latency_ms"]["p99"] or 1e9) < 500},
            ),
        ),
    ),
    Measurement(
        "texts",
        3,
        (
            Step(
                "demo --events 20000 --speed 200 --json",
                NOTHING_LOST
                | {
                    "share of contents with source model >= 0.7": lambda report: (
                        report["contents_by_source"].get("model", 0) >= 0.7 * max(1, report["contents"])
                    )
                },
            ),
        ),
    ),
    Measurement("encoders", 5, (Step("bench encoders --json"),)),
    Measurement("generate", 3, (Step("bench generate --json"),)),
    Measurement("items", 5, (Step("bench items --json"),)),
    Measurement(
        "contents",
        16,
        (
            Step(
                "demo --dataset stamps --events 1400 --speed 1.8 --set content.judge=models --keep --json",
                NOTHING_LOST,
            ),
            Step(
                "evaluate content --json",
                _at_least("texts by the model", 200, "measures", "model_texts", "n")
                | _at_least("triggers ended by the model", 0.7, "measures", "triggers_ended_by_model", "value")
                | _at_least("texts without an unsupported fact", 0.95, "measures", "faithful", "value")
                | _at_least("texts closer to their own user", 0.7, "measures", "closer_to_own", "value"),
            ),
        ),
        after="down --home {home} --wipe",
    ),
    Measurement(
        "fusion",
        6,
        (
            Step(
                "train fusion --out {scratch} --json",
                {
                    "the best strategy is ahead of the mean": lambda report: (
                        report["strategies"][report["best_on_validation"]]["against_mean"]["ndcg@10"] > 0
                    )
                },
            ),
        ),
    ),
    Measurement(
        "vae",
        22,
        (
            Step(
                "train vae --out {scratch} --json",
                _at_least(
                    "condition among ten", 0.4, "retrieval_among_ten", "held_out_conditions", "spread_1", "centred"
                )
                | {
                    "SSIM of reconstructions > mean image, nearest neighbour": lambda report: (
                        report["ssim_held_out"]["reconstruction"]
                        > max(report["ssim_held_out"]["mean_image"], report["ssim_held_out"]["nearest_neighbour"])
                    )
                },
            ),
        ),
    ),
    Measurement(
        "gan",
        22,
        (
            Step(
                "train gan --out {scratch} --json",
                _at_least(
                    "condition among ten", 0.4, "retrieval_among_ten", "held_out_conditions", "spread_1", "centred"
                ),
            ),
        ),
    ),
    Measurement(
        "prefix",
        16,
        (
            Step(
                "train prefix --out {scratch}/prefix --json",
                _at_least("right text among ten, by gain", 0.4, "with", "gain"),
            ),
        ),
    ),
    Measurement(
        "ranking-movielens",
        4,
        (
            Step(
                "evaluate ranking --reasons 1000 --json",
                _at_least("hr_at_10", 0.216)
                | _at_least("ndcg_at_10", 0.113)
                | _at_least("cold hr_at_10", 0.44, "cold", "hr_at_10")
                | {"us_per_event <= 15": lambda report: report["us_per_event"] <= 15}
                | RANKING,
            ),
        ),
    ),
    *(
        Measurement(
            f"ranking-{stream}",
            4,
            (Step(f"evaluate ranking --stream {stream} --reasons 1000 --json", RANKING),),
        )
        for stream in ("shop", "news")
    ),
    *(
        Measurement(
            f"through-stack-{workers}",
            7,
            (
                Step(
                    f"evaluate ranking --no-peers --no-new-items --through-stack --workers {workers} --json",
                    NOTHING_LOST_THROUGH | {f"within {within} of the replay": _as_offline(within)},
                ),
            ),
        )
        for workers, within in (("1", 0.003), ("4", 0.006))
    ),
    Measurement(
        "scale",
        30,
        (
            Step(
                "bench ranking --json",
                {
                    "ahead of popularity": lambda report: (
                        report["on_sample"]["hr_at_10"] > report["popularity"]["hr_at_10"]
                    )
                },
            ),
        ),
    ),
    Measurement(
        "redrive",
        2,
        (
            Step(
                "bench redrive --letters 10000 --json",
                NOTHING_LOST | {"letters = 10000": lambda report: report["letters"] == 10_000},
            ),
        ),
    ),
    Measurement("estimators", 10, (Step("evaluate estimators --json"),)),
)
