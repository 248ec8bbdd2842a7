"""`upwell media`: what lies in the media store, and for how long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from upwell.cli import exits

media_app = typer.Typer(help="The media store.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(media_app, name="media")


@media_app.callback()
def media() -> None:
    """The media store."""


@media_app.command()
def prune(
    older_than: Annotated[float, typer.Option(help="Days since a file was written, at least.", min=1)],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and let it be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Delete old media that nobody needs: made for contents, or of items that are deleted, longer ago than this.

    What stays: media of items that are there, and whatever was written, made for a content, or lost with its item's
    deletion within these days. Media that an item had before it was given others are nobody's. Readers of `contents` find the media of a content for so long at least. Workers may run meanwhile.

    \b
    Examples:
        upwell media prune --older-than 30 --dry-run
        upwell media prune --older-than 30 --config upwell.toml
    """
    from datetime import UTC, datetime, timedelta

    from upwell.cli.settings import load
    from upwell.media.errors import MediaUnavailable
    from upwell.media.store import MediaStore
    from upwell.store import database
    from upwell.store.contents import ContentStore

    settings = load(config, sets)
    moment = datetime.now(UTC) - timedelta(days=older_than)
    files = size = 0
    with exits.mapped("media"), database.pool(settings.postgres) as connections:
        store = MediaStore(settings.media)
        used = ContentStore(connections).media_in_use(moment)
        try:
            for uri, length in store.written_before(moment):
                # Looked at once more: a worker may have put the same bytes again meanwhile.
                if uri in used or not store.was_written_before(uri, moment):
                    continue
                if not dry_run:
                    store.delete(uri)
                files, size = files + 1, size + length
        except MediaUnavailable as error:
            exits.fail(exits.INFRASTRUCTURE, f"{error}; {files:,} files were deleted so far")
    if as_json:
        print(json.dumps({"files": files, "bytes": size, "in_use": len(used), "dry_run": dry_run}))
        return
    print(f"{files:,} files, {size / 1e6:,.1f} MB {'would be' if dry_run else 'are'} deleted; {len(used):,} are in use")
