"""The built-in data: titles, joins, order, ids."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from upwell.evaluation.datasets import FACTS_FILE, MOVIELENS_DIR, DatasetError, movielens, natural_title


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / MOVIELENS_DIR
    folder.mkdir(parents=True)
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "12\tUsual Suspects, The\t1995\tCrime Thriller\n"
        "14\tPostino, Il (Postman, The)\t1994\tDrama\n"
        "141\tHamlet\t1996\tDrama\n"
        "267\tunknown\t\tunknown\n"
    )
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t12\t5\t20\n2\t14\t3\t10\n2\t12\t1\t20\n"
    )
    facts = tmp_path / FACTS_FILE
    facts.parent.mkdir(parents=True)
    with sqlite3.connect(facts) as database:
        database.execute('CREATE TABLE omdb (ID, Title, "Year", Director, "Cast", Runtime, Country, Language)')
        database.executemany(
            "INSERT INTO omdb VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    1,
                    "The Usual Suspects",
                    1995,
                    "Bryan Singer",
                    "Kevin Spacey, Kevin Pollak",
                    106.0,
                    "United States",
                    "English",
                ),
                (2, "The Postman", 1995, "Michael Radford", None, 108.0, "Italy, France", "N/A"),
                (3, "Hamlet", 1996, "Kenneth Branagh", None, 242.0, None, None),
                (4, "Hamlet", 1996, "Somebody Else", None, 90.0, None, None),
            ],
        )
    database.close()
    return tmp_path


def test_films_have_the_facts_that_are_surely_theirs(data: Path) -> None:
    usual, postino, hamlet, unknown = movielens(data).items

    assert usual.title == "The Usual Suspects"
    assert usual.categories == ["Crime", "Thriller"]
    assert usual.attributes == {
        "year": 1995,
        "director": ["Bryan Singer"],
        "cast": ["Kevin Spacey", "Kevin Pollak"],
        "country": ["United States"],
        "language": ["English"],
        "runtime": 106,
    }
    # Found by its other title, a year off.
    assert (postino.title, postino.attributes["director"]) == ("Il Postino", ["Michael Radford"])
    assert postino.attributes["also_known_as"] == "The Postman"
    assert "language" not in postino.attributes
    # Two films of that name and year by different directors: neither is claimed.
    assert hamlet.attributes == {"year": 1996}
    assert (unknown.categories, unknown.attributes) == ([], {})


def test_ratings_come_in_time_order_and_keep_the_files_order_where_times_are_equal(data: Path) -> None:
    dataset = movielens(data)

    assert [(e.user_id, e.item_id, e.ts, e.value) for e in dataset.interactions] == [
        ("2", "14", 10_000, 3.0),
        ("1", "12", 20_000, 5.0),
        ("2", "12", 20_000, 1.0),
    ]
    assert dataset.interactions == movielens(data).interactions
    assert len({e.event_id for e in dataset.interactions}) == 3
    assert dataset.users == 2
    assert dataset.first(1).users == 1
    assert dataset.titles()["12"] == "The Usual Suspects (1995)"


def test_missing_data_says_what_fetches_it(data: Path) -> None:
    (data / FACTS_FILE).unlink()

    with pytest.raises(DatasetError, match=r"movies\.db is missing .*make setup"):
        movielens(data)


@pytest.mark.parametrize(
    ("listed", "title", "also"),
    [
        ("Toy Story", "Toy Story", []),
        ("Horseman on the Roof, The (Hussard sur le toit, Le)", "The Horseman on the Roof", ["Le Hussard sur le toit"]),
        ("L'Argent", "L'Argent", []),
        ("Enfer, L'", "L'Enfer", []),
        ("To Wong Foo, Thanks for Everything! Julie Newmar", "To Wong Foo, Thanks for Everything! Julie Newmar", []),
        ("(500) Days", "(500) Days", []),
    ],
)
def test_natural_title(listed: str, title: str, also: list[str]) -> None:
    assert natural_title(listed) == (title, also)


def test_newcomers_take_turns_in_the_order_of_their_arrival(data: Path) -> None:
    all_ = movielens(data)
    events = all_.beginnings(2, 1, 7).interactions
    assert [(event.user_id, event.item_id) for event in events] == [("2", "14"), ("1", "12")]
    events = all_.beginnings(9, 2, 7).interactions
    assert [(event.user_id, event.item_id) for event in events] == [("2", "14"), ("1", "12"), ("2", "12")]
    assert all_.beginnings(1, 5, 7).users == 1
