"""What the writer is taught: faithful, varied, the same every time, and never the films that the demo shows."""

from __future__ import annotations

import sqlite3

import pytest

from upwell.content.check import check
from upwell.training import examine, pairs

GENRES = ("Drama", "Comedy, Romance", "Horror, Sci-Fi", "Crime, Thriller", "Documentary", "Family, Animation")
FIRST = ("Amber", "Silent", "Northern", "Broken", "Golden", "Hidden", "Last", "Winter", "Distant", "Iron")
SECOND = ("Harbour", "Garden", "Letter", "River", "Orchard", "Signal", "Mountain", "Station", "Season", "Bridge")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A film table as bokeh-sampledata has it, with invented films."""
    table = tmp_path_factory.mktemp("films") / "movies.db"
    with sqlite3.connect(table) as database:
        database.execute(
            "CREATE TABLE omdb (ID INTEGER, Title TEXT, Year INTEGER, Genre TEXT, Director TEXT, Writer TEXT,"
            ' "Cast" TEXT, Runtime REAL, Country TEXT, Language TEXT)'
        )
        rows = []
        for i, (a, b) in enumerate((a, b) for a in FIRST for b in SECOND):
            cast = f"Ana {a}, Bo {b}son, Cy Lind" if i % 4 else ""
            director = f"{b} Vane" if i % 5 else None
            rows.append(
                (
                    i,
                    f"{a} {b}",
                    1930 + i % 90,
                    GENRES[i % 6],
                    director,
                    "Ida Hall",
                    cast,
                    80.0 + i,
                    "France, Italy",
                    "French",
                )
            )
        rows.append((999, "", 2000, "Drama", None, None, None, None, None, None))
        database.executemany("INSERT INTO omdb VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
    database.close()
    return pairs.read_films(table)


def test_films_are_read_with_what_the_table_has(films):
    assert len(films) == 100
    assert films[0].title == "Amber Harbour"
    assert "director" not in films[0].attributes
    assert films[6].attributes["director"] == "Mountain Vane"


def test_shown_films_are_never_learned_from(films, tmp_path):
    items = tmp_path / "ml.item"
    items.write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tAMBER  Harbour\t1930\tDrama\n2\tLast Signal, The\t1931\tDrama\n3\tIron Bridge\t1990\tComedy\n"
    )
    shown = pairs.shown_titles(items)
    learn, unseen = pairs.split(films, shown)
    assert {"Amber Harbour", "Iron Bridge"} <= {f.title for f in unseen}
    assert not {pairs.title_key(f.title) for f in learn} & {pairs.title_key(f.title) for f in unseen}
    assert len(learn) > 70
    asked = examine.questions(unseen, shown, 50, seed=1)
    assert asked
    assert {q.facts.title for q in asked} <= {f.title for f in unseen}


def test_every_lesson_passes_the_check_that_the_content_worker_applies(films):
    for lesson in pairs.lessons(films, 1500, seed=3):
        problems = check(lesson.text, lesson.facts, lesson.because, reason=lesson.reason, taste=lesson.taste)
        assert problems == [], (lesson.text, lesson.prompt())


def test_lessons_are_the_same_for_the_same_seed(films):
    assert pairs.lessons(films, 50, seed=5) == pairs.lessons(films, 50, seed=5)
    assert pairs.lessons(films, 50, seed=5) != pairs.lessons(films, 50, seed=6)


def test_lessons_are_varied(films):
    lessons = pairs.lessons(films, 1000, seed=9)
    shapes = {examine.shape(lesson.text, lesson) for lesson in lessons}
    openings = {" ".join(shape.split()[:2]) for shape in shapes}
    assert len(shapes) > 400
    assert len(openings) > 100
    assert {lesson.reason for lesson in lessons} == {"similar", "taste", "popular", "new", ""}
    lengths = [len(lesson.text.split()) for lesson in lessons]
    assert min(lengths) < 10
    assert max(lengths) > 25
    bare = sum(1 for lesson in lessons if not lesson.facts.attributes)
    assert bare > 100


def test_marks_count_what_the_check_refuses(films):
    asked = examine.questions(films, set(), 4, seed=2)

    def write(prompts):
        good = f"Since you liked {asked[0].because[0]}, try {asked[0].facts.title}."
        return [(good, 9), *[("Try The Godfather, won 3 awards.", 7)] * (len(prompts) - 1)]

    answers = examine.examine(asked, write)
    found = examine.marks(answers)
    assert found.texts == 4
    assert found.faithful == 0.25
    assert found.tokens_per_text == 7.5
    assert sum(found.refused.values()) == 3
    assert found.shapes == 2
    assert examine.distinct(["a b a b"], 2) == pytest.approx(2 / 3)
