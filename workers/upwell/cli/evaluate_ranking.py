"""`upwell evaluate ranking`: recorded interactions, ranked and learned from one by one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.datasets import Dataset
    from upwell.evaluation.new_items import Content
    from upwell.evaluation.ranking import RankingEvaluation, Replayed
    from upwell.evaluation.ranking_log import RankingLog
    from upwell.local.demo import Demo
    from upwell.settings import Settings

STREAMS = ("movielens", "shop", "news")
KEYS = ("hr_at_10", "ndcg_at_10", "map", "mrr")
DRAWING = ("jinja2", "matplotlib")
"""Libraries that a report needs."""


def ranking(
    interactions: Annotated[
        Path | None, typer.Option(help="CSV file: user, item, and where you have them value, timestamp, type.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="CSV file: item, title, categories, anything else.")] = None,
    stream: Annotated[
        str | None, typer.Option(help=f"Instead of files: {', '.join(STREAMS)}. [default: movielens]")
    ] = None,
    events: Annotated[int | None, typer.Option(help="Only the earliest events.", min=1)] = None,
    peers: Annotated[bool, typer.Option(help="Run the built-in peers on the same events (minutes).")] = True,
    ablation: Annotated[bool, typer.Option(help="Run without each scorer as well.")] = False,
    sharing: Annotated[
        bool, typer.Option(help="What it costs to learn from a share of the events, or to hold a shard of the items.")
    ] = False,
    exploration: Annotated[
        bool, typer.Option(help="What exploring takes off the hit rate, as the settings `exploration` have it.")
    ] = False,
    reasons: Annotated[
        int, typer.Option(help="Check so many reasons: rank again without the event that each one names.", min=0)
    ] = 0,
    new_items: Annotated[bool, typer.Option(help="Look at items that nobody has had yet, with vectors.")] = True,
    users: Annotated[
        Path | None,
        typer.Option(help="CSV file of users' attributes: user, anything else. Looks at new users with segments."),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(help="... of these attributes, by comma; all of the file's where left out. MovieLens has some."),
    ] = None,
    elicitation: Annotated[
        bool,
        typer.Option(help="What new users' answers to items that are asked about are worth, against the most popular."),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    stack: Annotated[
        bool, typer.Option("--through-stack", help="Send the same events through Kafka and the workers as well.")
    ] = False,
    speed: Annotated[
        float, typer.Option(help="... so many a second. What is learned lags by what is on its way.", min=1)
    ] = 300.0,
    workers: Annotated[int, typer.Option(help="... ranked by so many workers.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
) -> None:
    """Test, then learn: how well rankings, learned event by event, foresee what users like next.

    Ratings of 4 and more are targets, or events without value as they come; every item that the user has not had is a
    candidate; events of the same time are in an order by hash. `shop` and `news` are generated, with the oracle's
    ceiling beside them.

    \b
    Examples:
        upwell evaluate ranking --interactions ratings.csv --items films.csv --json
        upwell evaluate ranking --stream shop --ablation --report shop.html
        upwell evaluate ranking --no-peers --reasons 1000 --json
        upwell evaluate ranking --no-peers --sharing
        upwell evaluate ranking --no-peers --segments age,gender,occupation
        upwell evaluate ranking --no-peers --through-stack --speed 500 --workers 4
    """
    from upwell.cli.settings import load

    settings = load(config, sets)
    if items is not None and interactions is None:
        exits.fail(exits.CONFIG, "--items needs --interactions: what happened to those items?")
    if interactions is not None and stream is not None:
        exits.fail(exits.CONFIG, "--interactions and --stream exclude each other")
    stream = stream or "movielens"
    if users is None and segments is not None and (interactions is not None or stream != "movielens"):
        exits.fail(exits.CONFIG, "--segments needs --users: whose attributes?")
    if stream not in STREAMS:
        exits.fail(exits.CONFIG, f"no stream is called {stream}: {', '.join(STREAMS)}")
    with exits.mapped("evaluate ranking"):
        from upwell.cli.bars import telling
        from upwell.evaluation.peers import PEERS
        from upwell.evaluation.ranking import evaluate
        from upwell.evaluation.ranking_log import ranking_log
        from upwell.evaluation.streams import STREAMS as GENERATED

        oracle = None
        if interactions is None and stream in GENERATED:
            made = GENERATED[stream]()
            data, oracle = made.dataset, made.oracle
        else:
            data = _data(interactions, items)
        log = ranking_log(data, settings.events)
        if not log.events:
            exits.fail(exits.CONFIG, f"{data.name} holds no event that says what a user prefers")
        if oracle is not None:
            oracle = oracle[log.order]
        if events is not None:
            log, oracle = log.first(events), None if oracle is None else oracle[:events]
        if report is not None and (lacking := [name for name in DRAWING if importlib.util.find_spec(name) is None]):
            exits.fail(exits.CONFIG, f"--report: {', '.join(lacking)} missing: pip install 'upwell[evaluation]'")
        with telling() as tell:
            found = evaluate(
                log,
                peers=PEERS if peers else (),
                ablation=ablation,
                content=_content(data, log, settings) if new_items else None,
                say=_say,
                tell=tell,
            )
        found.oracle = oracle
        if sharing:
            from upwell.evaluation.sharing import sharing as costs

            found.sharing = costs(log, _say)
        if exploration:
            found.exploration = _exploration(log, settings)
        if reasons:
            from upwell.evaluation import reasons_check

            _say(f"{reasons:,} reasons")
            found.reasons = reasons_check.check(log, reasons)
        if users is not None or segments is not None:
            found.segments = _segments(data, log, users, segments, settings)
        if elicitation:
            from upwell.evaluation import asking

            _say("new users are asked")
            found.elicitation = asking.compare(log)
        if stack:
            found.through_stack = _through_stack(
                data, log, found.replayed, speed, workers, dict(text.split("=", 1) for text in sets or [])
            )
        if report is not None:
            from upwell.evaluation import ranking_report

            ranking_report.write(found, report)
            _say(f"report: {report}")
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        _table(found)


def _content(data: Dataset, log: RankingLog, settings: Settings) -> Content | None:
    """Vectors of a log's items; None where the library that makes them is missing."""
    from upwell.evaluation.content_vectors import METHOD, content_vectors
    from upwell.evaluation.new_items import Content

    try:
        return Content(content_vectors(data, log.items), METHOD, settings)
    except ImportError as missing:
        _say(f"new items are not looked at, {missing.name} is missing: pip install 'upwell[evaluation]'")
        return None


def _exploration(log: RankingLog, settings: Settings) -> dict[str, Any]:
    from upwell.cli.bars import telling
    from upwell.evaluation.exploration_cost import cost
    from upwell.ranking.exploration import Budget

    own = settings.exploration
    with telling() as tell:
        found = cost(
            log,
            Budget(own.share, own.positions, own.floor),
            settings.ranking.candidates,
            lambda done, total: tell("exploration", done, total),
        )
    return {**own.model_dump(), **found.as_dict(own.share)}


def _data(interactions: Path | None, items: Path | None) -> Dataset:
    from upwell.evaluation.datasets import DatasetError, movielens
    from upwell.evaluation.own_data import own_data
    from upwell.local import assets
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache

    try:
        if interactions is not None:
            return own_data(interactions, items)
        return movielens(assets.fetch_weights(default_cache(), _say, media=False))
    except DatasetError as problem:
        exits.fail(exits.CONFIG, str(problem))
    except StackError as problem:
        exits.fail(exits.INFRASTRUCTURE, str(problem))


def _segments(
    data: Dataset, log: RankingLog, users: Path | None, names: str | None, settings: Settings
) -> dict[str, Any]:
    """New users with segments and without."""
    from upwell.cli.bars import telling
    from upwell.evaluation import cold_users
    from upwell.evaluation.datasets import MOVIELENS_DIR, DatasetError
    from upwell.local import assets
    from upwell.local.paths import default_cache

    try:
        if users is not None:
            people = cold_users.read_users(users, log.notes)
        else:
            people = cold_users.movielens_users(assets.weights_dir(default_cache()) / MOVIELENS_DIR / "ml-100k.user")
    except DatasetError as problem:
        exits.fail(exits.CONFIG, str(problem))
    known = sorted({name for told in people.values() for name in told if name != "user"})
    wanted = names.split(",") if names else known
    if unknown := [name for name in wanted if name not in known]:
        exits.fail(exits.CONFIG, f"--segments: no user has {', '.join(unknown)}; known are {', '.join(known)}")
    own = cold_users.segments_of(data, log, people, wanted)
    with telling() as tell:
        return cold_users.compare(log, own, settings.cold_start, lambda done, of: tell("segments", done, of))


class _Lines:
    """What goes on in the stack, a line each."""

    def say(self, line: str) -> None:
        _say(line)

    def tick(self, demo: Demo) -> None:
        pass


def _through_stack(
    data: Dataset, log: RankingLog, replayed: Replayed, speed: float, workers: int, sets: dict[str, str]
) -> dict[str, Any]:
    """Figures of the published rankings, and of the replay's slates on the same events."""
    import numpy as np

    from upwell.evaluation.ranking import PLACES, figures
    from upwell.local.demo import DemoError
    from upwell.local.errors import StackError
    from upwell.local.paths import default_home
    from upwell.local.through_stack import through_stack

    _say(f"{log.events:,} events through Kafka and {workers} interactions workers, {speed:g} a second")
    try:
        rank, report = through_stack(data, log, speed, _Lines(), default_home() / "evaluate", sets, workers)
    except (DemoError, StackError) as problem:
        exits.fail(exits.INFRASTRUCTURE, str(problem))
    offline = np.where(rank >= 0, np.minimum(replayed.rank, PLACES), -1)
    keys = ("targets", "hr_at_10", "ndcg_at_10")
    return {
        **{key: figures(rank)[key] for key in keys},
        "replay": {key: figures(offline)[key] for key in keys},
        "speed": speed,
        "workers": workers,
        "events": report.events,
        "lost": report.lost,
        "duplicated": report.duplicated,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(found: RankingEvaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from upwell.cli.tables import whole

    shown = found.as_dict()
    table = Table("", "HR@10", "NDCG@10", "MAP@10", "MRR", "targets", "us per event", box=None, pad_edge=False)

    def row(name: str, of: dict[str, Any]) -> None:
        if of.get("not_measured"):
            table.add_row(name, str(of["not_measured"]))
            return
        figures = [f"{of[key]:.4f}" if of.get(key) is not None else "" for key in KEYS]
        table.add_row(name, *figures, f"{of['targets']:,}", f"{of['us_per_event']:.1f}" if "us_per_event" in of else "")

    row(shown["dataset"], shown)
    for name, of in zip(("  first half", "  second half"), shown["halves"], strict=True):
        row(name, of)
    row("  first five events of a user", shown["cold"])
    row("  later events", shown["warm"])
    for scorer, of in shown.get("ablation", {}).items():
        row(f"  without {scorer}", of)
    for name, of in shown.get("peers", {}).items():
        row(name, of)
    if "through_stack" in shown:
        row("through the stack", shown["through_stack"])
        row("  the replay on the same", shown["through_stack"]["replay"])
    if told := shown.get("segments"):
        row("new users, without segments", told["without"])
        row("  with segments", told["with"])
    if "oracle" in shown:
        row("oracle", shown["oracle"])
    if new := shown.get("new_items"):
        row("new items' first five likings", new)
        for name, of in new["peers"].items():
            row(f"  {name}", of)
        row("all likings, slates with vectors", new["all_targets"])
    console = Console(highlight=False, soft_wrap=True)
    whole(table)
    console.print(
        f"coverage {shown['coverage']}, novelty {shown['novelty_bits']} bits, diversity {shown['diversity']}",
        markup=False,
    )
    if told and told["difference"] is not None:
        console.print(
            f"segments of {', '.join(told['attributes'])}: HR@10 {told['difference']:+.4f} ± {told['standard_error']:.4f}"
        )
    if asked := shown.get("elicitation"):
        console.print(
            f"{asked['users']:,} new users' answers to ten items: precision@10 {asked['elicited']['precision_at_10']}, "
            f"to the most popular {asked['most_popular']['precision_at_10']}"
        )
    if checked := shown.get("reasons"):
        console.print(
            f"{checked['hold']:,} of {checked['checked']:,} reasons hold: without the event that they name the item falls"
        )
    if explored := shown.get("exploration"):
        for way in ("none", "uniform", "thompson"):
            of = explored[way]
            console.print(
                f"exploration, {way}: HR@10 {of['hr_at_10']:.4f}, NDCG@10 {of['ndcg_at_10']:.4f}, {of['other_items']:.3f} other"
                " items a slate"
            )
    for note in shown["notes"]:
        console.print(note, markup=False)
