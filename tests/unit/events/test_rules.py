"""Rules from files and records: what is valid, and that a mistake is told with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from upwell.events.codec import encode
from upwell.events.contracts import Fact, Rule
from upwell.events.rules import InvalidRules, RulesFile, read, record
from upwell.events.validate import InvalidRecord, Rules

LIMITS = Rules(10_000, 0, frozenset())
TOML = """
[[rules]]
rule_id = "night"
kind = "available"
categories = ["horror"]
since = 2026-11-27T22:00:00+01:00
until = 1795_903_200_000

[[rules]]
rule_id = "one-per-director"
kind = "cap"
per = "director"
facts = [["language", "English"]]
most = 1
"""


def written(folder: Path, text: str, name: str = "rules.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    expected = [
        Rule("night", "available", categories=["horror"], since=1_795_813_200_000, until=1_795_903_200_000),
        Rule("one-per-director", "cap", facts=[Fact("language", "English")], most=1, per="director"),
    ]
    assert read(written(tmp_path, TOML)) == expected
    as_json = '{"rules": [' + ", ".join(encode(rule).decode() for rule in expected) + "]}"
    assert read(written(tmp_path, as_json, "rules.json")) == expected
    assert read(written(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('kind = "blok"', ":3: rule 1 (r): kind: 'blok' is none of available, block"),
        ('kind = "block"', ":1: rule 1 (r): items: neither items nor categories nor facts"),
        ('kind = "block"\nitems = ["a", 1]', ":4: rule 1 (r): items[1]: Expected `str`, got `int`"),
        ('kind = "block"\nitem = ["a"]', ":4: rule 1 (r): item: unknown; did you mean items?"),
        ('kind = "block"\nitems = ["a"]\nmost = 2', ":5: rule 1 (r): most: means nothing to a rule of kind block"),
        ('kind = "cap"\nmost = 0', ":4: rule 1 (r): most: 0 is not 1 or more"),
        ('kind = "boost"\namount = 1e9', ":4: rule 1 (r): amount: 1000000000.0 is not a number within ±10"),
        ('kind = "boost"\namount = nan', ":4: rule 1 (r): amount: nan is not"),
        ('kind = "frequency"\nmost = 1', ":1: rule 1 (r): window_s: 0 is not a number of seconds"),
        ('kind = "repeat"\nsince = 9\nuntil = 9', ":5: rule 1 (r): until: 9 is not after since = 9"),
        ('kind = "repeat"\nsince = 2026-11-27', ":4: rule 1 (r): since: 2026-11-27 is not a date with time and offset"),
        ('kind = "repeat"\nsince = 2026-11-27T10:00:00', "write 2026-11-27T10:00:00Z for UTC"),
        ('kind = "block"\nitems = ["a\\u0000"]', ":4: rule 1 (r): items: it holds the character U+0000"),
        ("", ":1: rule 1 (r): kind: Object missing required field `kind`"),
        (
            'kind = "repeat"\n[[rules]]\nrule_id = "r"\nkind = "repeat"',
            ":5: rule 2 (r): rule_id: 'r' is that of rule 1",
        ),
        ("kind = ", "rules.toml: Invalid value (at line 3"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path, f'[[rules]]\nrule_id = "r"\n{line}\n')
    with pytest.raises(InvalidRules) as caught:
        read(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRules) as caught:
        read(written(tmp_path, '{"rules": [{"rule_id": "a", "kind": "b"}, 3, {"kind": "repeat"}]}', "rules.json"))
    assert [line.partition(": ")[2].partition(":")[0] for line in str(caught.value).splitlines()] == [
        "rule 1 (a)", "rule 2", "rule 3",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["rules = 3", "rule = []", "[[rules]]\n[settings]\nx = 1"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRules, match="rules"):
        read(written(tmp_path, text))


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = RulesFile(tmp_path / "rules.toml")
    with pytest.raises(InvalidRules, match="No such file"):
        file.changed()
    assert file.changed() is None
    written(tmp_path, TOML)
    assert [rule.rule_id for rule in file.changed() or []] == ["night", "one-per-director"]
    assert file.changed() is None
    written(tmp_path, "[[rules]]")
    with pytest.raises(InvalidRules, match="rule_id"):
        file.changed()
    assert file.changed() is None
    os.replace(written(tmp_path, TOML, "new"), file.path)
    assert len(file.changed() or []) == 2


def test_records_put_and_take_back() -> None:
    rule = Rule("r", "block", items=["alien"])
    assert record(b"r", encode(rule), LIMITS) == ("r", rule)
    assert record(b"r", None, LIMITS) == ("r", None)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (None, None, "null value without a key"),
        (b"\xff", None, "not UTF-8"),
        (b"r", b"{", "malformed|truncated"),
        (b"r", b'{"rule_id": "r", "kind": "block"}', "items: neither"),
        (b"s", b'{"rule_id": "r", "kind": "repeat"}', "is not its rule_id"),
        (None, b'{"rule_id": "r", "kind": "repeat"}', "no key"),
        (b"r", b" " * 20_000, "max_record_bytes"),
    ],
)
def test_a_record_that_breaks_the_contract_is_refused(key: bytes | None, value: bytes | None, said: str) -> None:
    with pytest.raises(InvalidRecord, match=said):
        record(key, value, LIMITS)
