"""`upwell evaluate policy` and `estimators`: what another policy would have earned, and how far such estimates go wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.off_policy import Estimate, Log, Support
    from upwell.evaluation.off_policy_world import Figures
    from upwell.settings import Settings

FAILED = 1
LEAST_EFFECTIVE = 100
"""Slates; below it intervals hold the truth too seldom (`upwell evaluate estimators`)."""
MOST_OFF = 4.0
"""Standard errors; a mean weight farther from 1 is no chance."""
LEAST_COVERAGE = 0.9
"""Of 95% intervals, where the assumption holds and the effective sample is large enough."""


def policy(
    log: Annotated[
        Path | None, typer.Option(help="CSV of shown positions; see below.", exists=True, dir_okay=False)
    ] = None,
    from_topics: Annotated[
        bool, typer.Option("--from-topics", help="Instead of a file, what a running deployment showed.")
    ] = False,
    share: Annotated[
        float, typer.Option(help="... judged: the same with this share of explored slates.", min=0, max=1)
    ] = 0,
    last: Annotated[int, typer.Option(help="... of the latest events and rankings, so many.", min=1)] = 200_000,
    hours: Annotated[
        float | None, typer.Option(help="... of what the broker took in these last hours. [default: all]", min=0)
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="... and write it to this CSV file, to judge other policies.")
    ] = None,
    assume: Annotated[
        str, typer.Option(help="What a position's reward depends on: independence, cascade or slate.")
    ] = "independence",
    clip: Annotated[float, typer.Option(help="Largest importance weight; 0 clips none.", min=0)] = 0,
    level: Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.9999)] = 0.95,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap; 0 leaves it out.", min=0)] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
) -> None:
    """Estimate the reward per slate of a policy that did not run, from slates that another one showed.

    Columns: propensity, target (the probability under the policy that is judged) and reward; slate, position and user
    where slates have several positions and users several slates; predicted and expected for the estimators with
    predictions. Under the assumptions cascade and slate, propensity_prefix and target_prefix: the probability of all
    that the slate shows down to the position.

    With --from-topics, a reward is a first liking of what stands there, and the judged policy is the deployment's own with
    another share of explored slates: what does exploring cost? The file that --write makes holds these columns, and the
    items; put another policy's probabilities into `target`, and give it as --log.

    \b
    Examples:
        upwell evaluate policy --from-topics --config upwell.toml
        upwell evaluate policy --from-topics --hours 24 --share 0.05 --write shown.csv
        upwell evaluate policy --log shown.csv
        upwell evaluate policy --log shown.csv --assume cascade --clip 20 --json
    """
    from upwell.cli.settings import load
    from upwell.evaluation.datasets import DatasetError
    from upwell.evaluation.off_policy import Assumption, estimates, support
    from upwell.evaluation.off_policy_log import read_log

    if (log is None) != from_topics:
        exits.fail(exits.CONFIG, "give either --log or --from-topics")
    if assume not in set(Assumption):
        exits.fail(exits.CONFIG, f"--assume {assume}: choose from {', '.join(Assumption)}")
    assumption, most = Assumption(assume), clip or math.inf
    if log is None and assumption is not Assumption.INDEPENDENCE:
        exits.fail(
            exits.CONFIG, f"--assume {assume}: rankings carry propensities of single positions: independence alone"
        )
    with exits.mapped("evaluate policy"):
        try:
            shown = (
                _from_topics(load(config, sets), share, last, hours, write)
                if log is None
                else read_log(log, assumption)
            )
        except DatasetError as error:
            exits.fail(exits.CONFIG, str(error))
        found = estimates(shown, assumption, most, level, resamples, seed)
        carried = support(shown, assumption, most)
    slates = int(shown.slate.max()) + 1
    notes = _notes(carried)
    if as_json:
        print(json.dumps({
            "slates": slates, "assumption": assumption, "level": level,
            "logged": float(shown.reward.sum()) / slates,
            "estimates": {each.estimator: each.as_dict() for each in found},
            "support": [each.as_dict() for each in carried], "notes": notes,
        }))  # fmt: skip
    else:
        _policy_table(found, carried, float(shown.reward.sum()) / slates, notes)


def _from_topics(settings: Settings, judged: float, last: int, hours: float | None, write: Path | None) -> Log:
    """A running deployment's log.

    Raises:
        DatasetError: there are no rankings, or their propensities are of another share of exploration.
        Unavailable, Inconsistent: see `served_log.read`.
    """
    import time

    from upwell.evaluation import off_policy_served, served_log
    from upwell.evaluation.recorded import Stretch

    since = None if hours is None else int((time.time() - 3600 * hours) * 1000)
    served = served_log.read(settings, Stretch(since, None, last), [])
    found = off_policy_served.policy_log(served, settings.exploration.share, judged)
    if write is not None:
        off_policy_served.write(served, found, write)
    return found


def estimators(
    logs: Annotated[int, typer.Option(help="Logs drawn in each world.", min=20)] = 100,
    slates: Annotated[int, typer.Option(help="Slates of each log.", min=500)] = 2_000,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.", min=10)] = 200,
    seed: Annotated[int, typer.Option(help="Of worlds, logs and bootstraps.")] = 11,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare off-policy estimates with the truth, in made-up worlds where it is known: errors, and interval coverage.

    Slates are drawn by the product's own exploration. Exit code 1: where an assumption holds and weights are not
    clipped, an estimate is off by more than chance, or (with an effective sample of at least 100 slates) its 95% intervals
    hold the truth less often than in 90% of the logs, by more than chance.

    \b
    Examples:
        upwell evaluate estimators
        upwell evaluate estimators --logs 40 --slates 500 --json
    """
    from upwell.cli.bench import ticking
    from upwell.evaluation.off_policy_world import Judged, Nature, measure

    found: list[Figures] = []
    with exits.mapped("evaluate estimators"), ticking(len(Judged) * len(Nature)) as tick:
        for judged in Judged:
            for nature in Nature:
                tick(f"{judged}, {nature}")
                found += measure(nature, judged, logs, slates, resamples, seed)
    targets = _targets(found, logs)
    if as_json:
        print(json.dumps({
            "logs": logs, "slates": slates, "resamples": resamples, "seed": seed,
            "figures": [each.as_dict() for each in found], "targets": targets,
        }))  # fmt: skip
    else:
        _estimators_table(found, targets)
    if not all(targets.values()):
        raise typer.Exit(FAILED)


def _notes(carried: list[Support]) -> list[str]:
    notes = []
    for each in carried:
        if each.effective < LEAST_EFFECTIVE and each.effective < each.slates:
            notes.append(
                f"position {each.position}: {each.slates} slates carry no more than {each.effective:.0f} of the judged"
                " policy; intervals are too narrow below 100"
            )
        if abs(each.off_by) > MOST_OFF:
            notes.append(
                f"position {each.position}: the mean weight is {each.mean_weight:.3f}, {abs(each.off_by):.0f} standard errors"
                " from 1: propensities are wrong, or the judged policy shows what the logged one cannot"
            )
    return notes


def _targets(found: list[Figures], logs: int) -> dict[str, bool]:
    """What should be reached, and whether it was; of estimates that have an excuse, nothing is asked."""
    from upwell.evaluation.content_measures import wilson
    from upwell.evaluation.off_policy_world import HOLDS

    targets = {}
    for each in found:
        if each.estimator == "dm" or math.isfinite(each.clip) or each.assumption not in HOLDS[each.nature]:
            continue
        name = f"{each.judged}, {each.nature}, {each.assumption}: {each.estimator}"
        slack = 0.01 * each.truth if each.estimator in {"snips", "sndr"} else 0.0  # their bias vanishes with the slates
        targets[f"{name} is not off"] = abs(each.bias) <= MOST_OFF * each.bias_error + slack
        if each.effective >= LEAST_EFFECTIVE:
            worst = min(each.coverage, each.coverage_bootstrap)
            targets[f"{name}'s intervals hold"] = wilson(worst * logs, logs)[1] >= LEAST_COVERAGE
    return targets


def _policy_table(found: list[Estimate], carried: list[Support], logged: float, notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("estimator", "reward per slate", "standard error", "normal", "bootstrap", box=None, pad_edge=False)
    for each in found:
        table.add_row(
            each.estimator, f"{each.value:.4f}", f"{each.error:.4f}", _span(each.normal), _span(each.bootstrap)
        )
    support = Table("position", "slates", "effective", "mean weight", "largest", "clipped", box=None, pad_edge=False)
    for one in carried:
        support.add_row(
            str(one.position), f"{one.slates:,}", f"{one.effective:,.0f}", f"{one.mean_weight:.3f}", f"{one.largest:,.1f}",
            f"{one.clipped:.1%}",
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"what was shown earned {logged:.4f} per slate", "", table, "", support, sep="\n")
    for note in notes:
        console.print(note, markup=False)


def _estimators_table(found: list[Figures], targets: dict[str, bool]) -> None:
    from rich.console import Console
    from rich.table import Table

    from upwell.cli.tables import whole
    from upwell.evaluation.off_policy_world import HOLDS

    table = Table(
        "judged",
        "world",
        "assumption",
        "",
        "estimator",
        "truth",
        "bias",
        "RMSE",
        "normal",
        "bootstrap",
        "effective",
        box=None,
    )
    for each in found:
        clipped = f" <= {each.clip:.0f}" if math.isfinite(each.clip) else ""
        table.add_row(
            each.judged, each.nature, each.assumption, "" if each.assumption in HOLDS[each.nature] else "broken",
            each.estimator + clipped, f"{each.truth:.4f}", f"{each.bias:+.4f} ± {each.bias_error:.4f}", f"{each.rmse:.4f}",
            f"{each.coverage:.0%}", f"{each.coverage_bootstrap:.0%}", f"{each.effective:,.0f}",
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    whole(table)
    for target, reached in targets.items():
        if not reached:
            console.print(f"MISSED {target}", markup=False)
    console.print(f"{sum(targets.values())} of {len(targets)} targets reached", markup=False)


def _span(interval: tuple[float, float]) -> str:
    return "" if math.isnan(interval[0]) else f"{interval[0]:.4f} to {interval[1]:.4f}"
