"""`upwell train vae` and `upwell train gan`: picture generators, taught on the stamps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits
from upwell.cli.train_material import Source, bar, material

if TYPE_CHECKING:
    from upwell.training.fitting import Limits, Say, Trainee
    from upwell.training.generators import Kind, Material

MODEL = "image_generator"

Out = Annotated[Path | None, typer.Option(help="Folder of the generator. [default: where Triton looks for it]")]
Report = Annotated[Path | None, typer.Option(help="Folder of the report. [default: KIND-report in --out]")]
Conditions = Annotated[
    Path | None,
    typer.Option(
        help="safetensors of conditions, float32 [n, d], with metadata `ids`, as `upwell models vectors` writes them. "
        "[default: fused vectors of the stamps, by the mean, as it is served]"
    ),
]
Minutes = Annotated[float, typer.Option(help="Train no longer than this.", min=0.01)]
Steps = Annotated[int, typer.Option(help="... and no more steps than these.", min=1)]
Seed = Annotated[int, typer.Option(help="Decides the first weights and the order of everything.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Batch = Annotated[int, typer.Option(help="Pictures a step.", min=2)]
Augment = Annotated[
    float, typer.Option(help="How far pictures are turned, scaled, cropped and coloured.", min=0, max=1)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last run's checkpoint, for as long again.")]
AsJson = Annotated[bool, typer.Option("--json", help="Last line: the report as one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `upwell train`."""
    app.command()(vae)
    app.command()(gan)


def vae(
    out: Out = None,
    report: Report = None,
    conditions: Conditions = None,
    minutes: Minutes = 25,
    steps: Steps = 4000,
    seed: Seed = 7,
    threads: Threads = 1,
    batch: Batch = 32,
    augment: Augment = 0.5,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Teach a conditional VAE to paint items at 64 pixels, in minutes on a CPU, and serve it as `image_generator`.

    Learns from the stamps' pictures, six of seven; the seventh is held out and judged on. Writes the generator as
    safetensors, and a report: loss curves, grids before and after, likeness and retrieval. Ctrl-C keeps a checkpoint.

    \b
    Examples:
        upwell train vae
        upwell train vae --minutes 20 --resume --json
    """
    limits = (steps, seed, threads, batch)
    _run("vae", out, report, conditions, minutes, limits, augment, resume=resume, as_json=as_json)


def gan(
    out: Out = None,
    report: Report = None,
    conditions: Conditions = None,
    minutes: Minutes = 25,
    steps: Steps = 4000,
    seed: Seed = 7,
    threads: Threads = 1,
    batch: Batch = 32,
    augment: Augment = 0.5,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Teach a conditional GAN to paint items at 64 pixels, in minutes on a CPU, and serve it as `image_generator`.

    As `upwell train vae`, with a spectrally normalised projection discriminator instead of a likelihood.

    \b
    Examples:
        upwell train gan
        upwell train gan --conditions fused.safetensors --seed 3
    """
    limits = (steps, seed, threads, batch)
    _run("gan", out, report, conditions, minutes, limits, augment, resume=resume, as_json=as_json)


def _run(
    kind: Kind,
    out: Path | None,
    report: Path | None,
    conditions: Path | None,
    minutes: float,
    numbers: tuple[int, int, int, int],
    augment: float,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import fitting, generators, painter
    from upwell.training.fitting import Limits

    cache = default_cache()
    models = models_dir(cache)
    folder = out or models / MODEL
    checkpoint = folder / f"{kind}-checkpoint.safetensors"
    steps, seed, threads, batch = numbers
    limits = Limits(steps, minutes, seed, threads, batch)
    if resume and not checkpoint.is_file():
        exits.fail(exits.CONFIG, f"there is nothing to resume: {checkpoint} is missing")

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    given = _material(cache, models, conditions, threads, augment, say)
    trainee = generators.start(kind, given, limits)
    before = generators.shown(generators.generator(trainee), given)
    if resume:
        try:
            fitting.resume(trainee, checkpoint)
        except ValueError as error:
            exits.fail(exits.CONFIG, f"{error}; leave --resume out to begin anew")
        say(f"going on from step {trainee.step}")
    with _progress(kind, trainee, limits, as_json) as tell:
        interrupted = generators.train(kind, trainee, given, limits, checkpoint, tell)
    if interrupted:
        say(f"stopped at step {trainee.step}: `upwell train {kind} --resume` goes on from there")
        raise typer.Exit(130)
    version = painter.save(generators.generator(trainee), folder / f"{kind}.safetensors", f"stamps-{kind}", kind)
    say("judging it on what it has not seen")
    into = report or folder / f"{kind}-report"
    found = generators.examine(kind, trainee, given, models, into, before, threads)
    say(_summary(found, version, folder, into))
    if as_json:
        print(json.dumps({"version": version, "folder": str(folder), "report": str(into), **found}))


def _material(cache: Path, models: Path, file: Path | None, threads: int, strength: float, say: Any) -> Material:
    from upwell.cli.settings import load
    from upwell.evaluation.datasets import DatasetError
    from upwell.evaluation.stamps import catalogue
    from upwell.local import debian
    from upwell.local.errors import StackError
    from upwell.training import conditions, generators
    from upwell.training.fusion_features import FeaturesError
    from upwell.training.pictures import pictures

    try:
        found = pictures(catalogue(debian.fetch_package(cache, say)))
        blind = None
        if file is not None:
            told, rows = file.name, conditions.read(file, found.ids)
        else:
            told = "fused vector of text, picture, sound and speech, their mean"
            with bar() as tick:
                _, features = material(Source("stamps"), load(None, None), tick)
            rows, blind = (conditions.fused(features, found.ids, withheld) for withheld in ("", "image"))
        say(f"looking at {len(found.ids)} pictures")
        seen = conditions.ImageFeatures(models, threads).of(found.pixels)
        return generators.Material(found, rows, blind, seen, told, strength)
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))
    except (DatasetError, FeaturesError, conditions.ConditionsError) as error:
        exits.fail(exits.CONFIG, str(error))


@contextmanager
def _progress(kind: str, trainee: Trainee, limits: Limits, as_json: bool) -> Iterator[Say]:
    """A bar of whichever ends sooner, time or steps, where there is a terminal; else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=as_json, highlight=False)
    began, earlier = trainee.step, trainee.seconds

    def done(step: int) -> float:
        time = (trainee.seconds - earlier) / (limits.minutes * 60)
        return min(1.0, max(time, (step - began) / max(1, limits.steps - began)))

    if not console.is_terminal:
        last = [-1]

        def tell_lines(step: int, _steps: int, losses: Mapping[str, float]) -> None:
            if (tenth := int(10 * done(step))) != last[0]:
                last[0] = tenth
                console.print(f"{kind} step {step}  {_line(losses)}", soft_wrap=True)

        yield tell_lines
        return
    columns = (TextColumn(f"{kind} step {{task.fields[step]}}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[losses]}"), console=console) as bar:
        task = bar.add_task(kind, total=1.0, step=began, losses="")

        def tell_bar(step: int, _steps: int, losses: Mapping[str, float]) -> None:
            bar.update(task, completed=done(step), step=step, losses=_line(losses))

        yield tell_bar


def _line(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in losses.items())


def _summary(found: dict[str, Any], version: str, folder: Path, into: Path) -> str:
    likeness = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found["ssim_held_out"].items())
    lines = [f"{version}: {found['steps']} steps in {found['seconds']:.0f} s", f"SSIM on held-out pictures: {likeness}"]
    for name, by_spread in found["retrieval_among_ten"].items():
        shares = ", ".join(
            f"{by['centred']:.0%} ({by['raw']:.0%} uncentred, {by['by_pixels']:.0%} by pixels) {at}"
            for at, by in by_spread.items()
        )
        lines.append(f"found among ten, {name.replace('_', ' ')}: {shares}")
    return (
        "\n".join([*lines, f"generator in {folder}; report in {into}"])
        .replace(" spread_", " with z times ")
        .replace(" lookup", "")
    )
