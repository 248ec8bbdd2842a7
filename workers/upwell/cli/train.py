"""`upwell train …`: what learns offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits, train_fusion, train_pictures, train_prefix

if TYPE_CHECKING:
    from upwell.training.examine import Answer, Marks
    from upwell.training.writer import Recipe

train_app = typer.Typer(help="Teach what learns offline.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `upwell train` to an app."""
    train_fusion.register(train_app)
    train_pictures.register(train_app)
    train_prefix.register(train_app)
    app.add_typer(train_app, name="train")


@train_app.callback()
def train() -> None:
    """Teach what learns offline."""


@train_app.command()
def writer(
    out: Annotated[Path, typer.Option(help="Folder of the LoRA adapter.")] = Path("adapter"),
    weights: Annotated[Path | None, typer.Option(help="Folder of fetched packages. [default: the set-up's]")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of converted models. [default: the set-up's]")] = None,
    lessons: Annotated[int, typer.Option(help="Pairs of facts and text to learn from.", min=1)] = 6400,
    seed: Annotated[int, typer.Option(help="Decides the lessons, their order and the first weights.")] = 7,
    resume: Annotated[Path | None, typer.Option(help="An adapter to go on from. [default: begin anew]")] = None,
    learning_rate: Annotated[float, typer.Option(help="Highest step size.", min=1e-6)] = 8e-4,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    questions: Annotated[int, typer.Option(help="Unseen films to write about, before and after.", min=0)] = 96,
    temperature: Annotated[float, typer.Option(help="Sampling temperature of the examination.", min=0, max=2)] = 0.7,
    kinds_share: Annotated[
        float,
        typer.Option(help="Share of lessons about subject lines, descriptions, answers and summaries.", min=0, max=1),
    ] = 0.0,
    show: Annotated[int, typer.Option(help="Texts to print.", min=0)] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: one JSON object.")] = False,
) -> None:
    """Teach the text generator to write faithful recommendations: a LoRA adapter, in minutes on a CPU.

    Learns from facts and sentences made of the film table; the films that the demo shows are never among them, and the
    examination asks about those. `upwell setup` must have fetched and converted the weights.

    \b
    Examples:
        upwell train writer --out triton_models/text_generator/adapter
        upwell train writer --out adapter-small --lessons 400 --questions 16 --json
        upwell train writer --out adapter-kinds --resume adapter --kinds-share 0.6 --lessons 3200
    """
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import convert
    from upwell.training.writer import Recipe

    cache = default_cache()
    packages, folder = weights or cache / "weights", (models or models_dir(cache)) / convert.GENERATOR
    table = packages / "bokeh_sampledata" / "_data" / "movies.db"
    shown_file = packages / "recbole" / "dataset_example" / "ml-100k" / "ml-100k.item"
    for needed in (table, shown_file, folder / "config.json"):
        if not needed.is_file():
            exits.fail(exits.CONFIG, f"{needed} is missing: `upwell setup` fetches weights and data, and converts them")

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    try:
        recipe = Recipe(lessons=lessons, seed=seed, threads=threads, learning_rate=learning_rate)
        found = _teach(table, shown_file, folder, out, recipe, resume, questions, temperature, kinds_share, show, say)
    except KeyboardInterrupt:
        say(f"stopped; {out} holds what was learned by the last 50th step, if any")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(found))


def _teach(
    table: Path,
    shown_file: Path,
    folder: Path,
    out: Path,
    recipe: Recipe,
    resume: Path | None,
    questions: int,
    temperature: float,
    kinds_share: float,
    show: int,
    say: Any,
) -> dict[str, Any]:
    from upwell.training import examine, pairs
    from upwell.training import writer as teacher

    films, shown = pairs.read_films(table), pairs.shown_titles(shown_file)
    learn, unseen = pairs.split(films, shown)
    asked = examine.questions(unseen, shown, questions, recipe.seed, kinds=kinds_share > 0)
    say(f"{len(learn)} films to learn from; {len(unseen)} kept unseen, the demo's among them")
    model, tokenizer = teacher.load(folder, resume)

    def test(model: Any) -> list[Answer]:
        return examine.examine(
            asked, lambda prompts: teacher.write(model, tokenizer, prompts, temperature=temperature, seed=recipe.seed)
        )

    earlier = test(model)
    before = examine.marks(earlier)
    say(f"before: {_line(before)}")
    lessons = pairs.lessons(learn, recipe.lessons, recipe.seed, kinds_share=kinds_share)
    taught = teacher.teach(teacher.load(folder)[0], tokenizer, lessons, out, recipe, say, resume)
    answers = test(teacher.merged(taught))
    after = examine.marks(answers)
    for answer in answers[:show]:
        say(f"  {answer.text}" + (f"  [refused: {'; '.join(answer.problems)}]" if answer.problems else ""))
    say(f"after:  {_line(after)}")
    say(f"adapter: {out}")
    found = {"adapter": str(out), "lessons": len(lessons), "before": before.as_dict(), "after": after.as_dict()}
    if kinds_share > 0:
        for name, written in (("before", earlier), ("after", answers)):
            found[f"{name}_by_kind"] = {kind: one.as_dict() for kind, one in examine.by_kind(written).items()}
            for kind, one in examine.by_kind(written).items():
                say(f"{name}, {kind}: {_line(one)}")
    return found


def _line(found: Marks) -> str:
    refused = ", ".join(f"{kind} {n}" for kind, n in sorted(found.refused.items())) or "none"
    return (
        f"{found.faithful:.0%} of {found.texts} texts on unseen films are faithful (refused: {refused}),"
        f" {found.shapes} sentence shapes, distinct-2 {found.distinct_2:.2f}, distinct-3 {found.distinct_3:.2f},"
        f" {found.tokens_per_text:.0f} tokens a text"
    )
