"""Debian's stamps catalogue in (as `local/debian.py` unpacks it), items with all their media and synthetic users out.

Pictures, sounds and names are the catalogue's own; the users are made up, and the data set says so in its name. The same
files and seed always give the same events, ids included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from upwell.evaluation.datasets import Dataset, DatasetError
from upwell.evaluation.tastes import Habits, interactions
from upwell.events.contracts import Item, Media

TITLE_CHARACTERS: Final = 60
MOST_LANGUAGES: Final = 64
"""What one object in an event's attributes may hold (`events/validate.py`)."""

_ARTICLE = re.compile(r"^(?:A|An|The|Some) (?=\S)")
_SENTENCE_END = re.compile(r"(?<=[^.][.!?])\s+(?=[A-Z])")
_ASIDE = re.compile(r"\s*[—(].*$")
_ORDER = re.compile(r"^\d+_")
_NOT_LETTERS = re.compile(r"[_\-\d]+")
_NAME = re.compile(r"^(?P<language>[A-Za-z]{2,3})(?P<region>_[A-Z]{2})?(?P<variant>@\w+)?\.utf8=(?P<name>.*)$")
_MIME: Final = {".png": "image/png", ".ogg": "audio/ogg", ".wav": "audio/wav"}
_MEDIA: Final = (("image", "", (".png",)), ("audio", "", (".ogg", ".wav")), ("speech", "_desc", (".ogg", ".wav")))
"""Kind, what follows the item's name in the file's, endings."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One entry of the catalogue."""

    item: Item
    files: dict[str, Path] = field(default_factory=dict)
    """By kind of media, those that it has: `image`, `audio`, `speech` (its English name, spoken)."""
    marks: frozenset[str] = frozenset()
    """What the catalogue forbids or allows: `nomirror` (a mirrored one would be wrong), `colorable`, …"""


def stamps(folder: Path, *, habits: Habits = Habits(), inline: bool = False) -> Dataset:
    """The catalogue's 952 items, and 20,000 synthetic interactions with them by 300 synthetic users.

    Args:
        folder: the unpacked catalogue.
        habits: of the users; see `tastes.interactions` for how they behave.
        inline: media travel in the events; otherwise as `file:` URIs of this machine.

    Raises:
        DatasetError: the folder holds no catalogue.

    """
    found = catalogue(folder, inline=inline)
    have = {kind: sum(kind in stamp.files for stamp in found) for kind, _, _ in _MEDIA}
    held = (
        f"{len(found)} stamps: {have['image']} with a picture, {have['audio']} with a sound, "
        f"{have['speech']} with their English name spoken"
    )
    made = f"The users are synthetic: {habits.users} tastes that drift over {habits.days:g} days, seed {habits.seed}"
    items = [stamp.item for stamp in found]
    return Dataset("Stamps, with synthetic users", items, interactions(items, habits), notes=[held, made])


def catalogue(folder: Path, *, inline: bool = False) -> list[Stamp]:
    """All entries, in the order of their ids.

    Raises:
        DatasetError: there are none, or one cannot be read.

    """
    found = [_stamp(path, folder, inline) for path in sorted(folder.rglob("*.txt"))]
    if not found:
        raise DatasetError(f"no stamps are in {folder}: `upwell demo --dataset stamps` fetches them")
    return found


def _stamp(path: Path, folder: Path, inline: bool) -> Stamp:
    bare = path.with_suffix("")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path.name}: {error}") from None
    if not lines or not lines[0].strip():
        raise DatasetError(f"{path.name}, line 1: the English name is missing")
    title, description = natural_name(lines[0], bare.name)
    files = {
        kind: file
        for kind, tail, endings in _MEDIA
        if (file := next((f for e in endings if (f := bare.with_name(bare.name + tail + e)).is_file()), None))
    }
    place = bare.relative_to(folder)
    item = Item(
        place.as_posix(),
        title=title,
        description=description,
        language="en",
        categories=list(dict.fromkeys(_ORDER.sub("", part) for part in place.parts[:-1])),
        attributes=_attributes(lines[1:]),
        media=[_media(kind, file, inline) for kind, file in files.items()],
    )
    return Stamp(item, files, _marks(bare.with_name(f"{bare.name}.dat")))


def natural_name(line: str, file: str) -> tuple[str, str]:
    """Title and description out of a stamp's English line; where it is a sentence about it, the file's name is the title.

    >>> natural_name("A pig.", "pig")
    ('Pig', '')
    >>> natural_name("Saturn—the second largest planet in our solar system—and the one with the most rings.", "6_saturn")
    ('Saturn', 'Saturn—the second largest planet in our solar system—and the one with the most rings.')
    """
    text = line.strip()
    first, *rest = _SENTENCE_END.split(text, maxsplit=1)
    if len(first) > TITLE_CHARACTERS:
        first = _ASIDE.sub("", first)
        if len(first) > TITLE_CHARACTERS or first == text:
            first = _NOT_LETTERS.sub(" ", file).strip() or file
        rest = [text]
    title = _ARTICLE.sub("", first.rstrip(" .!"))
    return title[:1].upper() + title[1:], text if rest else ""


def _attributes(lines: list[str]) -> dict[str, Any]:
    """`names`: language (BCP 47) to name. Regional forms are left out where the language itself has a name."""
    names, regional = {}, {}
    for line in lines:
        found = _NAME.match(line.strip())
        if not found or found["variant"] or not (name := found["name"].strip().strip(".,|।").strip()):
            continue
        if found["region"]:
            regional[found["language"] + found["region"].replace("_", "-")] = name
        else:
            names[found["language"]] = name
    names |= {code: name for code, name in regional.items() if code.partition("-")[0] not in names | {"en": ""}}
    return {"names": dict(sorted(names.items())[:MOST_LANGUAGES])} if names else {}


def _marks(path: Path) -> frozenset[str]:
    return frozenset(path.read_text(encoding="latin-1").split()) if path.is_file() else frozenset()


def _media(kind: str, file: Path, inline: bool) -> Media:
    mime = _MIME[file.suffix]
    return Media(kind, data=file.read_bytes(), mime=mime) if inline else Media(kind, uri=file.as_uri(), mime=mime)
