"""`upwell train prefix`: the generator learns to say what an item's vector shows where no words describe it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli import exits
from upwell.cli.train_material import Source, bar, material


def register(app: typer.Typer) -> None:
    """Add the command to `upwell train`."""
    app.command()(prefix)


def prefix(
    out: Annotated[Path, typer.Option(help="Folder of the mapper.")] = Path("prefix"),
    adapter: Annotated[
        Path | None, typer.Option(help="The generator's LoRA adapter. [default: the shipped one]")
    ] = None,
    fusion: Annotated[
        Path | None, typer.Option(help="Folder of `upwell train fusion`. [default: the mean, as it is served]")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Read the items' features from this file; made and kept there if missing.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Batches of 16 texts that pass the generator.", min=0)] = 900,
    bar_words: Annotated[
        bool, typer.Option("--bar-words", help="Leave words of held-out titles out of the names without pictures.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides the lessons, their order and the first weights.")] = 7,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    show: Annotated[int, typer.Option(help="Texts to print.", min=0)] = 8,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Last line: one JSON object.")] = False,
) -> None:
    """Teach soft prompt tokens: from the vectors of the stamps' pictures and sounds to their names.

    A quarter of an hour on one core.

    Names that no picture is needed for are taught besides: words of the text encoder's vocabulary that are like names of
    things, classes of the image encoder, titles with a word exchanged. One stamp in six is held out. Their words, written
    and spoken, are withheld; of ten names, theirs should be found.

    \b
    Examples:
        upwell train prefix --out triton_models/text_generator/prefix
        upwell train prefix --steps 60 --bar-words --json
    """
    import os
    import time

    from transformers import AutoTokenizer

    from upwell import resources
    from upwell.cli.settings import load
    from upwell.content.prompt import SHOWN_PROMPT
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import fusion as fusions
    from upwell.training import prefix as teacher
    from upwell.training import prefix_words, shown, writer
    from upwell.training.fusion_features import FeaturesError
    from upwell.training.prefix_judge import found_among
    from upwell.training.served import module

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    models = models_dir(default_cache())
    os.environ["UPWELL_MODEL_DIR"] = str(models)
    beside = adapter or resources.folder("triton_models") / "text_generator" / "adapter"
    try:
        with bar() as tick:
            data, found = material(Source("stamps", features=features), load(config, sets), tick)
        encoder = module("text_encoder", "encoder").Encoder(threads=threads)
        width = found.layout["text"][0].size
        strategy = fusions.load(fusion) if fusion else fusions.create("mean", found.layout, width)
        given = shown.material(data.items, found, strategy, seed, encoder.embed)
    except (fusions.FusionError, FeaturesError, ValueError) as error:
        exits.fail(exits.CONFIG, str(error))
    classes = json.loads((models / "image_encoder" / "labels" / "names.json").read_text())
    vocabulary = prefix_words.whole_words(AutoTokenizer.from_pretrained(models / "text_encoder").get_vocab())
    say(f"{len(vocabulary):,} words of the text encoder to choose from")
    words = prefix_words.Words(seed=seed)
    alone = shown.alone(data.items, classes, vocabulary, encoder.embed, words, bar=bar_words)
    say(f"{len(given.lessons):,} lessons with vectors, {len(alone):,} names alone")
    say(f"{len(given.examination)} stamps held out, their words withheld")
    recipe = teacher.Recipe(steps=steps, seed=seed, threads=threads)
    began = time.monotonic()
    try:
        teacher.teach(*writer.load(models / "text_generator", beside), given.lessons, alone, out, recipe, say)
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        raise typer.Exit(130) from None
    seconds = time.monotonic() - began
    generator = module("text_generator", "generator").Generator(adapter=beside, prefix=out, threads=threads)
    report: dict[str, Any] = {
        "prefix": str(out), "lessons": len(given.lessons), "alone": len(alone), "bar_words": bar_words,
        "held_out": len(given.examination), "steps": steps, "seconds": round(seconds), "version": generator.version,
        "with": found_among(generator, given.examination, seed=seed),
        "without": found_among(generator, given.examination, vectors=False, seed=seed),
        "personal": found_among(generator, given.personal, seed=seed),
    }  # fmt: skip
    part = given.examination[:show]
    if part:
        texts, _ = generator.generate([generator.row(SHOWN_PROMPT, 24, item=one.item) for one in part])
        report["told"] = [{"is": one.text, "told": text} for one, text in zip(part, texts, strict=True)]
        for told in report["told"]:
            say(f"  {told['is']}  was told as: {told['told']}")
    for name in ("with", "without", "personal"):
        rates = report[name]
        say(
            f"{name + ':':<9} found among ten by likelihood {rates['likelihood']:.1%} ± {rates['error']:.1%},"
            f" by its gain {rates['gain']:.1%}"
        )
    if as_json:
        print(json.dumps(report))
