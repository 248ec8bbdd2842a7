"""Business rules from a file or from records of `rules` in; valid rules out, or what is wrong with which field of which.

    [[rules]]
    rule_id = "two-horror-films-at-most"
    kind = "cap"
    categories = ["horror"]
    most = 2

TOML, or JSON with the same names. Times are milliseconds since 1970, or dates with time and offset in TOML.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from math import isfinite
from pathlib import Path
from typing import Any, Final

import msgspec

from upwell.events.contracts import Rule, RuleKind
from upwell.events.validate import INT64, MAX_CATEGORY, InvalidRecord, Rules, _decode, _identifier, _key, _text

MAX_SELECTED: Final = 10_000
"""Items, categories or facts of one rule."""
MAX_AMOUNT: Final = 10.0
MAX_COUNT: Final = 2**31 - 1
TAKES: Final[Mapping[RuleKind, frozenset[str]]] = {
    RuleKind.AVAILABLE: frozenset(),
    RuleKind.BLOCK: frozenset(),
    RuleKind.BOOST: frozenset({"amount"}),
    RuleKind.CAP: frozenset({"most", "per"}),
    RuleKind.FREQUENCY: frozenset({"most", "window_s"}),
    RuleKind.REPEAT: frozenset({"window_s"}),
}
"""Fields beside those that say which items and when."""

_HEADER = re.compile(r"^\s*\[\[\s*rules\s*\]\]")


class InvalidRules(ValueError):
    """The rules file cannot be used; a line of the message per mistake: file, line where it is known, rule and field."""


class InvalidRule(ValueError):
    """A rule breaks its contract; `field` is where."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


def check(rule: Rule) -> None:
    """Whether a rule says something that can be done.

    Raises:
        InvalidRule: with the field.
    """
    _named("rule_id", _identifier, rule.rule_id)
    if rule.kind not in set(RuleKind):
        raise InvalidRule("kind", f"{rule.kind[:64]!r} is none of {', '.join(RuleKind)}")
    kind = RuleKind(rule.kind)
    for name, chosen in (("items", rule.items), ("categories", rule.categories), ("facts", rule.facts)):
        if len(chosen) > MAX_SELECTED:
            raise InvalidRule(name, f"{len(chosen)} of them: at most {MAX_SELECTED}")
    for item in rule.items:
        _named("items", _identifier, item)
    for category in rule.categories:
        _named("categories", lambda name, text: _text(name, text, MAX_CATEGORY), category)
    for fact in rule.facts:
        for text in (fact.predicate, fact.object):
            _named("facts", _identifier, text)
    for name, moment in (("since", rule.since), ("until", rule.until)):
        if not 0 <= moment < INT64.stop:
            raise InvalidRule(name, f"{moment} is not a time: milliseconds since 1970, 0 for none")
    if rule.until and rule.until <= rule.since:
        raise InvalidRule("until", f"{rule.until} is not after since = {rule.since}: it is never in force")
    for name in ("amount", "most", "per", "window_s"):
        if getattr(rule, name) and name not in TAKES[kind]:
            raise InvalidRule(name, f"means nothing to a rule of kind {kind}")
    everything = not (rule.items or rule.categories or rule.facts)
    if kind in (RuleKind.AVAILABLE, RuleKind.BLOCK) and everything:
        raise InvalidRule("items", f"neither items nor categories nor facts: a rule of kind {kind} says which")
    if kind is RuleKind.AVAILABLE and not (rule.since or rule.until):
        raise InvalidRule("since", "neither since nor until: items are available without a rule")
    if kind is RuleKind.BOOST and not (isfinite(rule.amount) and 0 < abs(rule.amount) <= MAX_AMOUNT):
        raise InvalidRule("amount", f"{rule.amount!r} is not a number within ±{MAX_AMOUNT:g} other than 0")
    if "most" in TAKES[kind] and not 1 <= rule.most <= MAX_COUNT:
        raise InvalidRule("most", f"{rule.most} is not 1 or more; what is not to be shown at all is blocked")
    if not (kind is RuleKind.FREQUENCY) <= rule.window_s <= MAX_COUNT:
        raise InvalidRule("window_s", f"{rule.window_s} is not a number of seconds")
    if rule.per:
        _named("per", _identifier, rule.per)


def record(key: bytes | None, value: bytes | None, limits: Rules) -> tuple[str, Rule | None]:
    """One record of `rules`: the rule's id, and the rule, None where it is taken back.

    Raises:
        InvalidRecord: with the reason.
    """
    if value is None:
        if key is None:
            raise InvalidRecord("null value without a key: nothing says which rule is taken back")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise InvalidRecord("the key is not UTF-8", "decode") from None
        _identifier("the key", name)
        return name, None
    if len(value) > limits.max_record_bytes:
        raise InvalidRecord(f"{len(value)} bytes: kafka.max_record_bytes allows {limits.max_record_bytes}", "decode")
    found = _decode(Rule, value)
    try:
        check(found)
    except InvalidRule as error:
        raise InvalidRecord(str(error)) from None
    _key("rule_id", found.rule_id, key, required=True)
    return found.rule_id, found


def read(path: Path) -> list[Rule]:
    """All rules of a `.toml` or `.json` file, in its order.

    Raises:
        InvalidRules: with every mistake in it.
    """
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InvalidRules(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRules(f"{path}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("rules", []), list):
        raise InvalidRules(f"{path}: not a list of rules under the name `rules`")
    if unknown := document.keys() - {"rules"}:
        raise InvalidRules(f"{path}: unknown name {min(unknown)}: rules stand under `rules`")
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)] if path.suffix != ".json" else []
    given = document.get("rules", [])
    found: list[Rule] = []
    mistakes = []
    first: dict[str, int] = {}
    for number, raw in enumerate(given):
        try:
            rule = _rule(raw)
            if rule.rule_id in first:
                raise InvalidRule("rule_id", f"{rule.rule_id!r} is that of rule {first[rule.rule_id] + 1} already")
            first[rule.rule_id] = number
            found.append(rule)
        except InvalidRule as error:
            line = _line(lines, heads, number, error.field) if len(heads) == len(given) else None
            name = raw.get("rule_id") if isinstance(raw, dict) else None
            named = f" ({name[:64]})" if isinstance(name, str) else ""
            mistakes.append(f"{path}{f':{line}' if line else ''}: rule {number + 1}{named}: {error}")
    if mistakes:
        raise InvalidRules("\n".join(mistakes))
    return found


class RulesFile:
    """A rules file that is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> list[Rule] | None:
        """The rules, where the file is new or another one than at the last call; else None.

        Raises:
            InvalidRules: the file is not there or is not valid. Said once per change: the rules of before stay in force.
        """
        try:
            stat = self.path.stat()
        except OSError as error:
            if self._seen == (0, 0, 0):
                return None
            self._seen = (0, 0, 0)
            raise InvalidRules(f"{self.path}: {error.strerror or error}") from None
        signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if signature == self._seen:
            return None
        self._seen = signature
        return read(self.path)


def _rule(raw: Any) -> Rule:
    if not isinstance(raw, dict):
        raise InvalidRule("rule", "not a table of names and values")
    known = Rule.__struct_fields__
    for name in raw:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
            raise InvalidRule(
                str(name), f"unknown; did you mean {close[0]}?" if close else f"is none of {', '.join(known)}"
            )
    plain = {name: _moment(name, value) if name in ("since", "until") else value for name, value in raw.items()}
    try:
        rule = msgspec.convert(plain, Rule)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        missing = re.search(r"missing required field `(\w+)`", reason)
        raise InvalidRule(missing[1] if missing else path.rstrip("`") or "rule", reason) from None
    check(rule)
    return rule


def _moment(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidRule(name, f"{value.isoformat()} has no offset: write {value.isoformat()}Z for UTC")
        return round(value.timestamp() * 1000)
    if isinstance(value, date | time):
        raise InvalidRule(name, f"{value.isoformat()} is not a date with time and offset, such as 2026-11-27T00:00:00Z")
    return value


def _named(field: str, checked: Callable[[str, str], None], text: str) -> None:
    """Run a check of a text, with the field as its place."""
    try:
        checked("it", text)
    except InvalidRecord as error:
        raise InvalidRule(field, str(error)) from None


def _line(lines: list[str], heads: list[int], number: int, field: str) -> int:
    """The line of a rule's field, else of the rule's header; from 1."""
    head = heads[number]
    end = heads[number + 1] - 1 if number + 1 < len(heads) else len(lines)
    name = re.match(r"\w+", field)
    begins = re.compile(rf'^\s*"?{re.escape(name[0] if name else field)}"?\s*=')
    return next((line for line in range(head + 1, end + 1) if begins.match(lines[line - 1])), head)
