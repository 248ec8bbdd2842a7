"""`upwell bench …`: how fast the models are, on this machine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli import bench_generate, bench_items, bench_ranking, bench_redrive, bench_slate, exits

bench_app = typer.Typer(help="Measure how fast the models are on this machine.", no_args_is_help=True)
FAILED = 1
"""Exit code where a figure misses its target."""
ENCODERS = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer")


def register(app: typer.Typer) -> None:
    """Add `upwell bench` to an app."""
    bench_app.command()(bench_generate.generate)
    bench_app.command()(bench_items.items)
    bench_app.command()(bench_slate.slate)
    bench_app.command()(bench_ranking.ranking)
    bench_app.command()(bench_redrive.redrive)
    app.add_typer(bench_app, name="bench")


@bench_app.callback()
def bench() -> None:
    """Measure how fast the models are on this machine."""


@bench_app.command()
def encoders(
    only: Annotated[str, typer.Option(help="Which encoders, comma-separated.")] = ",".join(ENCODERS),
    url: Annotated[
        str | None, typer.Option(help="A Triton on this machine, host:port. [default: one is started, and ended]")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measurements of each encoder; their median counts.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Length of one measurement.", min=0.1)] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare the encoders on Triton with the very same models called directly: throughput and cosine.

    Same batches, same threads, in turn. Exit code 1: Triton costs more than a tenth, or MiniLM's low precision is not as
    fast or as near to full precision as it should be (where the processor has the instructions for it).

    \b
    Examples:
        upwell bench encoders
        upwell bench encoders --only text_encoder --rounds 9 --json
        upwell bench encoders --url localhost:8001
    """
    # Before numpy loads: the served models have one thread for it, too.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = os.environ.get("UPWELL_ENCODER_THREADS") or "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := sorted(set(wanted) - set(ENCODERS)):
        exits.fail(exits.CONFIG, f"unknown encoder {', '.join(unknown)}: choose from {', '.join(ENCODERS)}")
    from upwell.evaluation.machine import machine

    about = machine()
    with exits.mapped("bench"), ticking(2 * _count(wanted) * (rounds + 1) + 2) as tick:
        tick("starting Triton" if url is None else f"looking at {url}")
        found = _measured(url, wanted, rounds, seconds, tick)
    targets = _targets(found, about)
    if as_json:
        print(json.dumps({"machine": about, "rounds": rounds, "encoders": found, "targets": targets}))
    else:
        _table(found, targets, about)
    if not all(targets.values()):
        raise typer.Exit(FAILED)


def _measured(
    url: str | None, wanted: list[str], rounds: int, seconds: float, tick: Callable[[str], None]
) -> list[dict[str, Any]]:
    from upwell.evaluation import encoder_bench
    from upwell.local import assets
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache, models_dir

    cache = default_cache()
    try:
        weights = assets.fetch_weights(cache, tick)
        assets.prepare_models(cache, models_dir(cache), lambda _: None)
        with serving(url, _served(wanted)) as address:
            tick("loading the models here")
            with encoder_bench.cases(address, weights, models_dir(cache), wanted) as cases:
                return encoder_bench.measure(cases, rounds, seconds, tick)
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))


@contextmanager
def serving(url: str | None, models: list[str]) -> Iterator[str]:
    """A Triton with these models: that at `url`, or one that is started here and ends with the block.

    This process then runs at its priority, so that neither side has the processor first.
    """
    from upwell.local.stack import Stack
    from upwell.local.triton import NICE

    if url is not None:
        yield url
        return
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder:
        stack = Stack(Path(folder) / "stack", ephemeral=True)
        try:
            yield stack.start(("triton",), models=sorted(models)).triton
        finally:
            stack.stop()


def _served(wanted: list[str]) -> list[str]:
    """Models that comparing these encoders takes."""
    models = {*wanted} | ({"text_encoder_int8"} if "text_encoder" in wanted else set())
    if "speech_recognizer" in wanted:
        models |= {"speech_synthesizer", "text_encoder"}
    return sorted(models)


def _count(wanted: list[str]) -> int:
    """Cases: the text encoder comes in three precisions."""
    return sum(3 if name == "text_encoder" else 1 for name in wanted)


def _targets(found: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, bool]:
    """What should be reached, and whether it was; factors only where the processor has the instructions for them."""
    targets = {f"{row['name']} {row['variant']}: ratio >= 0.9": row["ratio"] >= 0.9 for row in found}
    for variant, factor, cosine in (("bf16", 2.5, 0.999), ("int8", 4.0, 0.985)):
        for row in found:
            if (row["name"], row["variant"]) == ("text_encoder", variant):
                targets[f"text_encoder {variant}: cosine >= {cosine}"] = row["cosine"] >= cosine
                if about[variant]:
                    targets[f"text_encoder {variant}: speedup >= {factor}"] = row["speedup"] >= factor
    return targets


def _table(found: list[dict[str, Any]], targets: dict[str, bool], about: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("encoder", "", "batch of", "direct/s", "Triton/s", "ratio", "cosine", "x fp32", box=None)
    table.columns[0].no_wrap = True
    for column in table.columns[3:]:
        column.justify = "right"
    for row in found:
        table.add_row(
            row["name"], row["variant"], f"{row['batch']} {row['unit']}", f"{row['direct_per_s']:,.1f}",
            f"{row['triton_per_s']:,.1f}", f"{row['ratio']:.2f}", f"{row['cosine']:.4f}",
            f"{row['speedup']:.1f}" if "speedup" in row else "",
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"{about['cpu']}, {about['cores']} cores, load {about['load']}; instructions for 8 bits:"
        f" {', '.join(about['int8']) or 'none'}; for bfloat16: {', '.join(about['bf16']) or 'none'}"
    )
    for target, reached in targets.items():
        console.print(f"{'reached' if reached else 'MISSED ':<8} {target}", markup=False)


@contextmanager
def ticking(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, at a terminal, with what is done at the moment."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)

        def tick(doing: str) -> None:
            progress.update(task, advance=1, description=doing)

        yield tick
