"""`upwell ask`: one text for one user, as it is written."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.content.explicit import Told
    from upwell.events.contracts import Request
    from upwell.settings import Settings


def register(app: typer.Typer) -> None:
    """Add `upwell ask` to an app."""
    app.command()(ask)


def ask(
    user: Annotated[str, typer.Argument(help="For whom.")],
    item: Annotated[str | None, typer.Argument(help="About which item. [default: the user's best one]")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="recommendation, subject, description, answer or summary. [default: what is given asks for]"),
    ] = None,
    question: Annotated[str, typer.Option("--question", "-q", help="Answer this from the item's facts.")] = "",
    review: Annotated[list[str] | None, typer.Option(help="Sum up this review; may be repeated, up to six.")] = None,
    language: Annotated[str, typer.Option(help="Of a recommendation; the others are English.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Last line: one JSON object; the pieces go to stderr.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
) -> None:
    """Have a text written for a user now, and watch it being written. Nothing is stored or published.

    Facts come from Postgres, and so does what the user liked: the liked item nearest to this one is the reason. The
    whole text is checked against facts and for safety once it is there; where it is refused, the line after it says why,
    and the template answers. Reads a running deployment with the model `text_generator_stream`: `upwell up` has it.

    \b
    Examples:
        upwell ask 259 50 --config upwell.toml
        upwell ask 259 50 --question "Who directed it?"
        upwell ask 259 --kind subject --json
        upwell ask 259 50 --review "Too long." --review "The cast is superb, but it is too long."
    """
    from upwell.cli.settings import load
    from upwell.events import validate
    from upwell.events.codec import encode
    from upwell.events.contracts import Request, TextKind

    settings = load(config, sets)
    given = TextKind.ANSWER if question else TextKind.SUMMARY if review else TextKind.RECOMMENDATION
    now = time.time_ns()
    request = Request(
        f"ask-{now}", user, now // 1_000_000, item_id=item, language=language, text_kind=kind or given.value,
        question=question, reviews=review or [],
    )  # fmt: skip
    rules = validate.Rules.of(settings)
    try:
        request = validate.request(None, encode(request), rules, rules.latest())
    except validate.InvalidRecord as error:
        exits.fail(exits.CONFIG, str(error))
    show = sys.stderr if as_json else sys.stdout
    with exits.mapped("ask"):
        found, first_s = _told(settings, request, lambda piece: print(piece, end="", file=show, flush=True))
    if found.written:
        print(file=show)
    if as_json:
        print(json.dumps(_as_dict(found, request, first_s, (time.time_ns() - now) / 1e9), ensure_ascii=False))
    elif found.refused:
        print(f"REFUSED, so not to be told: {'; '.join(found.refused)}\nInstead: {found.text}")
    else:
        print("passed: facts and safety")


def _told(settings: Settings, request: Request, show: Callable[[str], None]) -> tuple[Told, float | None]:
    """What became of a request, and the seconds to its first piece; None where there was none."""
    from upwell.content import explicit
    from upwell.content.asking import trigger_of
    from upwell.content.served import gate_of, writer_of
    from upwell.store import database
    from upwell.store.contents import ContentStore

    started, first = time.monotonic(), None
    generator, gate = writer_of(settings), gate_of(settings)
    with database.pool(settings.postgres) as connections, closing(generator), closing(gate):
        store = ContentStore(connections)
        try:
            pieces = explicit.tell(trigger_of(request, request.ts), store, generator, gate, settings.content)
            while True:
                show(next(pieces))
                first = first or time.monotonic() - started
        except explicit.NothingToTell as error:
            exits.fail(exits.CONFIG, str(error))
        except StopIteration as ended:
            told: Told = ended.value
            return told, first


def _as_dict(told: Told, request: Request, first_s: float | None, seconds: float) -> dict[str, object]:
    return {
        "user_id": request.user_id,
        "item_id": told.item_id,
        "text_kind": request.text_kind,
        "text": told.text,
        "language": told.language,
        "source": told.source,
        "refused": list(told.refused),
        "written": told.written,
        "because": list(told.asked.because),
        "first_piece_s": first_s,
        "seconds": seconds,
    }
