"""The stamps: names, media, marks as the catalogue's files say; users that are synthetic, seeded, and drift."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from PIL import Image

from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.stamps import catalogue, natural_name, stamps
from upwell.evaluation.tastes import BEGIN_MS, DAY_MS, Habits, interactions
from upwell.events import validate
from upwell.events.codec import encode
from upwell.events.contracts import Item
from upwell.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small catalogue, laid out as Debian's."""
    pigs, planets = tmp_path / "animals" / "mammals", tmp_path / "space" / "01_planets"
    pigs.mkdir(parents=True)
    planets.mkdir(parents=True)
    (pigs / "pig.txt").write_text(
        "A pig.\nfr.utf8=Un cochon.\nhi.utf8=एक सुअर|\nzh_CN.utf8=一只猪。\npt.utf8=Um porco.\npt_BR.utf8=Um porco.\n"
        "ca@valencia.utf8=Un porc\nen_GB.utf8=A pig.\nnonsense\nde.utf8=\n"
    )
    Image.new("RGBA", (20, 11), (200, 100, 100, 255)).save(pigs / "pig.png")
    (pigs / "pig.dat").write_text("noflip\nnomirror\n")
    (pigs / "pig.ogg").write_bytes(b"OggS oink")
    (pigs / "pig_desc.ogg").write_bytes(b"OggS a pig")
    (planets / "6_saturn.txt").write_text("Saturn—the second largest planet in our solar system—and the ringed one.\n")
    return tmp_path


def test_what_an_item_is_made_of(folder):
    pig, saturn = catalogue(folder)
    assert (pig.item.item_id, pig.item.title, pig.item.description) == ("animals/mammals/pig", "Pig", "")
    assert pig.item.categories == ["animals", "mammals"]
    assert pig.item.attributes == {"names": {"fr": "Un cochon", "hi": "एक सुअर", "pt": "Um porco", "zh-CN": "一只猪。"}}
    assert [(m.kind, m.mime) for m in pig.item.media] == [
        ("image", "image/png"),
        ("audio", "audio/ogg"),
        ("speech", "audio/ogg"),
    ]
    assert Path(unquote(urlparse(pig.item.media[1].uri).path)).read_bytes() == b"OggS oink"
    assert "nomirror" in pig.marks
    assert (saturn.item.title, saturn.item.media, saturn.marks) == ("Saturn", [], frozenset())
    assert saturn.item.categories == ["space", "planets"]
    assert saturn.item.description.startswith("Saturn—the second")


def test_media_can_travel_in_the_events(folder):
    pig = stamps(folder, habits=Habits(events=0), inline=True).items[0]
    assert [(m.uri, m.data[:4]) for m in pig.media[1:]] == [(None, b"OggS"), (None, b"OggS")]


@pytest.mark.parametrize(
    ("line", "file", "title", "described"),
    [
        ("An apple.", "apple", "Apple", False),
        ("King. Can move one step in any direction. Protect him!", "b_1_king", "King", True),
        ("A Canadian dollar ($1.00) called a loonie. It’s named after a bird.", "x", "Canadian dollar ($1.00) called a loonie", True),
        ("The yellow light means you should stop if it is safe to do so, or so.", "stoplight_02_yellow", "Stoplight yellow", True),
        ("A.", "a", "A", False),
    ],
)  # fmt: skip
def test_titles(line, file, title, described):
    assert natural_name(line, file) == (title, line if described else "")


def test_unreadable_catalogues_are_named(folder, tmp_path_factory):
    (folder / "space" / "empty.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"empty.txt, line 1: the English name is missing"):
        catalogue(folder)
    with pytest.raises(DatasetError, match="no stamps are in"):
        catalogue(tmp_path_factory.mktemp("nothing"))


CATALOGUE = [Item(f"{group}-{n}", title="x", categories=[group]) for group in "abcdefgh" for n in range(5)]


def test_synthetic_users_are_named_so_and_repeat(folder):
    habits = Habits(users=10, events=200, seed=3)
    first, again = stamps(folder, habits=habits), stamps(folder, habits=habits)
    assert first.interactions == again.interactions
    assert interactions(CATALOGUE, habits) != interactions(CATALOGUE, Habits(users=10, events=200, seed=4))
    assert len(first.interactions) == 200
    assert len({event.event_id for event in first.interactions}) == 200
    assert all(event.user_id.startswith("synthetic-") for event in first.interactions)
    assert "synthetic" in first.name
    assert any("synthetic" in note for note in first.notes)
    times = [event.ts for event in first.interactions]
    assert times == sorted(times)


def test_events_pass_the_contract(folder):
    rules = validate.Rules.of(Settings())
    data = stamps(folder, habits=Habits(users=5, events=50))
    latest = data.interactions[-1].ts
    for event in data.interactions:
        assert validate.interaction(event.user_id.encode(), encode(event), rules, latest) == event
    for item in data.items:
        assert validate.item(item.item_id.encode(), encode(item), rules, latest) == item


def early_and_late(drift):
    """How alike users' tastes are in the first and the last fifth of the time: cosine, 0 for strangers."""
    habits = Habits(users=20, events=10_000, days=100, drift=drift)
    found = interactions(CATALOGUE, habits)
    tables = np.zeros((2, habits.users, 8))
    for event in found:
        day = (event.ts - BEGIN_MS) / DAY_MS
        if (day < 20 or day >= 80) and event.type != "dislike":
            user = int(event.user_id.rpartition("-")[2]) - 1
            tables[int(day >= 80), user, "abcdefgh".index(event.item_id[0])] += 1
    tables = tables[:, (tables.sum(2) >= 15).all(0)]
    shares = tables / tables.sum(2, keepdims=True)
    shares -= shares.mean(1, keepdims=True)
    one, other = shares / np.linalg.norm(shares, axis=2, keepdims=True)
    return float((one * other).sum(1).mean())


def test_users_have_tastes_that_drift():
    steady, drifting = early_and_late(0.0), early_and_late(0.05)
    assert steady > 0.7
    assert drifting < steady - 0.3


def test_what_users_do():
    found = interactions(CATALOGUE, Habits(events=5_000))
    counts = Counter(event.type for event in found)
    assert counts.keys() == {"view", "click", "like", "share", "dislike"}
    assert counts["view"] > counts["like"] > counts["share"] > 0
    assert all(re.fullmatch(r"s11-\d+", event.session_id) for event in found)
    assert interactions([], Habits()) == []
