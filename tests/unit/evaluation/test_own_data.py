"""A user's own CSV files: variants that are understood, and what is said about those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.own_data import milliseconds, own_data


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_columns_as_documented(tmp_path: Path) -> None:
    events = write(tmp_path, "ratings.csv", "user,item,value,timestamp\nann,b1,4.5,1700000002\nbob,b2,,1700000001\n")
    items = write(
        tmp_path,
        "books.csv",
        "item,title,categories,author,pages,tags\n"
        'b1,"Sea, The",Novel|Sea,Iris Murdoch,502,a|b\n'
        "b2,Emma,Novel; Classic,Jane Austen,,\n",
    )

    data = own_data(events, items)

    assert [(e.user_id, e.item_id, e.type, e.value, e.ts) for e in data.interactions] == [
        ("bob", "b2", "click", None, 1_700_000_001_000),
        ("ann", "b1", "rating", 4.5, 1_700_000_002_000),
    ]
    assert [i.title for i in data.items] == ["Sea, The", "Emma"]
    assert [i.categories for i in data.items] == [["Novel", "Sea"], ["Novel", "Classic"]]
    assert data.items[0].attributes == {"author": "Iris Murdoch", "pages": "502", "tags": ["a", "b"]}
    assert data.items[1].attributes == {"author": "Jane Austen"}
    assert not data.refused


def test_items_are_the_ids_seen_where_no_file_says_more(tmp_path: Path) -> None:
    events = write(tmp_path, "clicks.csv", "user,item\nu1,x\nu2,y\nu1,x\n")

    data = own_data(events)

    assert [(i.item_id, i.title) for i in data.items] == [("x", "x"), ("y", "y")]
    assert [e.type for e in data.interactions] == ["click"] * 3
    assert [e.ts for e in data.interactions] == sorted(e.ts for e in data.interactions)
    assert len({e.event_id for e in data.interactions}) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfuser,item,value\r\nzo\xc3\xab,x,3\r\n\r\n",
        "user,item,value\nzoë,x,3\n".encode("utf-16"),
        "user;item;value\nzoë;x;3,0\n".encode("cp1252"),
        "User\tItem\tRating\nzoë\tx\t3\n\n\n".encode(),
        b'"user","item","value"\r"zo\xc3\xab","x","3"\r',
    ],
)
def test_spreadsheets_and_their_ways(tmp_path: Path, content: bytes) -> None:
    (event,) = own_data(write(tmp_path, "e.csv", content)).interactions

    assert (event.user_id, event.item_id, event.value, event.type) == ("zoë", "x", 3.0, "rating")


def test_a_bad_row_is_refused_with_line_and_column_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = (
        "user,item,value,timestamp\n"
        "u,,3,1700000000\n"  # 2
        ",i,3,1700000000\n"  # 3
        "u,i,many,1700000000\n"  # 4
        "u,i,nan,1700000000\n"  # 5
        "u,i,3,yesterday\n"  # 6
        "u,i,3,\n"  # 7
        "u,i,3,1700000000,more\n"  # 8
        "u,i,3,1e30\n"  # 9
        "u,i,3,1700000000\n"
    )

    data = own_data(write(tmp_path, "e.csv", rows))

    assert len(data.interactions) == 1
    assert [line.split(":")[0] for line in data.refused] == [
        "e.csv, line 2, column item",
        "e.csv, line 3, column user",
        "e.csv, line 4, column value",
        "e.csv, line 5, column value",
        "e.csv, line 6, column timestamp",
        "e.csv, line 7, column timestamp",
        "e.csv, line 8, column 5",
        "e.csv, line 9, column timestamp",
    ]


def test_what_breaks_the_contract_is_published_for_the_dead_letters(tmp_path: Path) -> None:
    rows = "user,item,type,value,timestamp\nu,i,teleport,,1700000000\nu,i,rating,,1700000000\nu,i,click,,-5\n"

    data = own_data(write(tmp_path, "e.csv", rows))

    assert [e.type for e in data.interactions] == ["click", "teleport", "rating"]
    assert data.interactions[0].ts == -5000
    assert not data.refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "e.csv is empty: expected a header"),
        ("usr,item\nu,i\n", r"e.csv, line 1: no column user; the header names usr, item \(is it usr\?\)"),
        ("user,item,user\nu,i,u\n", "e.csv, line 1: two columns are user"),
        ("user,item\n", "e.csv holds no interaction"),
        ("user,item\n,i\n", "e.csv holds no interaction: all 1 rows were refused, first e.csv, line 2, column user"),
        ('user,item\nu,"' + "x" * 200_000, "e.csv, line 2: field larger .*quote left open"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        own_data(write(tmp_path, "e.csv", content))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        own_data(tmp_path / "nowhere.csv")


def test_repeated_and_unknown_items_are_said(tmp_path: Path) -> None:
    events = write(tmp_path, "e.csv", "user,item\nu,a\nu,c\n")
    items = write(tmp_path, "i.csv", "item,title\na,Old\na,New\n,none\n")

    data = own_data(events, items)

    assert [i.title for i in data.items] == ["New"]
    assert any("repeat an item" in note for note in data.notes)
    assert any("1 items of e.csv are not in i.csv" in note for note in data.notes)
    assert data.refused == ["i.csv, line 4, column item: is empty"]


@given(st.integers(min_value=200_000_000_000, max_value=4_000_000_000_000))
def test_every_unit_of_time_means_the_same_moment(ms: int) -> None:
    assert milliseconds(str(ms)) == ms
    assert milliseconds(f"{ms / 1000:.3f}") == ms
    assert milliseconds(str(ms * 1000)) == ms


@given(st.binary(max_size=400))
def test_any_bytes_give_events_or_a_clear_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), "any.csv", b"user,item,value,timestamp\n" + content)
    said = ""
    try:
        events = own_data(path).interactions
    except DatasetError as error:
        said = str(error)
    assert "any.csv" in said or events
