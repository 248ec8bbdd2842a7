"""`upwell bench generate`: how fast and how well the text generator writes, on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.evaluation.generator_bench import Variant

VARIANTS = ("bf16", "int8", "layers-27", "neurons-90")
"""The last two are pruned: 27 of 30 layers, 9 of 10 inner neurons."""
FAILED = 1
SEED = 11


def generate(
    variants: Annotated[str, typer.Option(help="Which ones, comma-separated; the first is the measure.")] = "bf16,int8",
    url: Annotated[
        str | None, typer.Option(help="A Triton on this machine, host:port. [default: one is started, and ended]")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measurements of each; their median counts.", min=1)] = 5,
    texts: Annotated[int, typer.Option(help="Texts that are checked, of each variant.", min=16)] = 96,
    held_out: Annotated[int, typer.Option(help="Pairs of facts and text for the perplexity.", min=8)] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure the text generator on Triton: batch 1 and 8, precisions and pruned ones, quality beside speed.

    Films that it never learned from are written about. Exit code 1: batch 8 gives less than 4 times the tokens a second
    of batch 1, or the 8-bit variant is not faster.

    \b
    Examples:
        upwell bench generate
        upwell bench generate --variants bf16,int8,layers-27,neurons-90 --rounds 3
        upwell bench generate --url localhost:8001 --json
    """
    wanted = [name.strip() for name in variants.split(",") if name.strip()]
    if unknown := sorted(set(wanted) - set(VARIANTS)):
        exits.fail(exits.CONFIG, f"unknown variant {', '.join(unknown)}: choose from {', '.join(VARIANTS)}")
    from upwell.cli.bench import ticking
    from upwell.evaluation import generator_bench
    from upwell.evaluation.machine import machine

    about = machine()
    with exits.mapped("bench"), ticking(generator_bench.steps(len(wanted), rounds) + 3) as tick:
        found, streamed = _measured(url, wanted, rounds, texts, held_out, tick)
    targets = _targets(found)
    if as_json:
        shown = {"machine": about, "rounds": rounds, "generators": found, "stream": streamed, "targets": targets}
        print(json.dumps(shown))
    else:
        _table(found, streamed, targets, about)
    if not all(targets.values()):
        raise typer.Exit(FAILED)


def _measured(
    url: str | None, wanted: list[str], rounds: int, texts: int, held_out: int, tick: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    from upwell.cli.bench import serving
    from upwell.evaluation import generator_bench
    from upwell.local import assets
    from upwell.local.errors import StackError
    from upwell.local.paths import default_cache, models_dir
    from upwell.training import examine, pairs

    cache = default_cache()
    try:
        tick("looking at the weights")
        packages = assets.fetch_weights(cache, lambda _: None)
        assets.prepare_models(cache, models_dir(cache), lambda _: None)
        films = pairs.read_films(packages / "bokeh_sampledata" / "_data" / "movies.db")
        shown = pairs.shown_titles(packages / "recbole" / "dataset_example" / "ml-100k" / "ml-100k.item")
        _, unseen = pairs.split(films, shown)
        tick("starting Triton" if url is None else f"looking at {url}")
        with serving(url, ["text_generator", "text_generator_stream"]) as address:
            tick("first words of streams")
            asked = examine.questions(unseen, shown, texts, SEED)
            streamed = generator_bench.first_piece(address, asked[:8])
            with _variants(address, wanted, models_dir(cache)) as made:
                lessons = pairs.lessons(unseen, held_out, SEED)
                return generator_bench.measure(address, made, asked, lessons, rounds, tick), streamed
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))


@contextmanager
def _variants(url: str, wanted: list[str], models: Path) -> Iterator[list[Variant]]:
    """The variants, loaded beside `text_generator`."""
    from upwell import resources
    from upwell.evaluation.generator_bench import Variant
    from upwell.inference.repository import loaded_as

    adapter = resources.folder("triton_models") / "text_generator" / "adapter"
    plain = str(models / "text_generator")
    made = []
    with ExitStack() as stack:
        for name in wanted:
            precision, folder, merged = name, plain, str(adapter)
            if name not in ("bf16", "int8"):
                precision, merged = "bf16", "none"
                folder = str(_pruned(name, plain, adapter, stack))
            parameters = {"variant": precision, "model_dir": folder, "adapter_dir": merged, "prefix_dir": "none"}
            served = "text_generator"
            if name != "bf16":
                served = stack.enter_context(
                    loaded_as(url, "text_generator", f"text_generator_{name.replace('-', '_')}", parameters)
                )
            own = {"model_dir": folder, "variant": precision, "adapter": None if merged == "none" else adapter}
            made.append(Variant(name, served, own))
        yield made


def _pruned(name: str, plain: str, adapter: Path, stack: ExitStack) -> Path:
    from upwell.training import pruning, writer

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upwell-pruned-")))
    folder.chmod(0o755)
    model, tokenizer = writer.load(Path(plain), adapter)
    kind, _, number = name.partition("-")
    if kind == "layers":
        said = "Recommend this item to the reader in one or two sentences. Use only these facts."
        batch = tokenizer(writer.chat(tokenizer, said), return_tensors="pt", add_special_tokens=False)["input_ids"]
        model = pruning.without_layers(model, [batch], model.config.num_hidden_layers - int(number))
    else:
        model = pruning.without_neurons(model, 1 - int(number) / 100)
    return pruning.save(model, tokenizer, folder / "model")


def _targets(found: list[dict[str, Any]]) -> dict[str, bool]:
    """What should be reached, and whether it was."""
    targets = {f"{row['variant']}: batch 8 >= 4 x batch 1": row["ratio"] >= 4 for row in found[:1]}
    for row in found[1:]:
        if row["variant"] == "int8":
            targets["int8: faster at batch 1"] = row["speedup_1"] > 1
            targets["int8: faster at batch 8"] = row["speedup_8"] > 1
    return targets


def _table(
    found: list[dict[str, Any]], streamed: dict[str, float], targets: dict[str, bool], about: dict[str, Any]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "variant", "batch 1 /s", "batch 8 /s", "ratio", "per CPU s", "speedup", "ended /s", "perplexity", "faithful"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found:
        table.add_row(
            row["variant"], f"{row['batch_1_per_s']:,.1f}", f"{row['batch_8_per_s']:,.1f}", f"{row['ratio']:.2f}",
            f"{row['batch_1_per_cpu_s']:,.0f} / {row['batch_8_per_cpu_s']:,.0f}",
            f"{row['speedup_1']:.2f} / {row['speedup_8']:.2f}", f"{row['batch_8_ended_per_s']:,.1f}",
            f"{row['perplexity']:.3f} ({row['perplexity_loss']:+.1%})", f"{row['faithful']:.0%} of {row['texts']}",
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"Tokens, of texts of fixed length; ended: as they end by themselves, at batch 8. Streamed: the first piece after"
        f" {streamed['first_ms']:.0f} ms, the whole text after {streamed['whole_ms']:.0f} ms."
    )
    console.print(
        f"{about['cpu']}, {about['cores']} cores, load {about['load']}; instructions for 8 bits:"
        f" {', '.join(about['int8']) or 'none'}; for bfloat16: {', '.join(about['bf16']) or 'none'}"
    )
    for target, reached in targets.items():
        console.print(f"{'reached' if reached else 'MISSED ':<8} {target}", markup=False)
