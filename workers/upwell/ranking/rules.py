"""Business rules and the catalogue in; masks over candidates, additions to relevance and caps out. Pure.

A `Book` is made when rules or items change. `Book.at` gives what is in force at a time, and until when: it is asked
again only then. `admitted` then costs a few array operations per user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from upwell.ranking.compiled import compiled
from upwell.ranking.groups import Groups, none
from upwell.ranking.slate import Caps
from upwell.ranking.slate import warm as compile_slate

FOREVER: Final = np.iinfo(np.int64).max
CATEGORY: Final = "category"


class Fact(Protocol):
    @property
    def predicate(self) -> str: ...
    @property
    def object(self) -> str: ...


class Rule(Protocol):
    """What a rule is, wherever it comes from; its fields' meaning is that of the contract of `rules`."""

    @property
    def kind(self) -> str: ...
    @property
    def items(self) -> Sequence[str]: ...
    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def facts(self) -> Sequence[Fact]: ...
    @property
    def since(self) -> int: ...
    @property
    def until(self) -> int: ...
    @property
    def amount(self) -> float: ...
    @property
    def most(self) -> int: ...
    @property
    def per(self) -> str: ...
    @property
    def window_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Rules on how often an item is shown."""

    about: NDArray[np.bool_]
    """[rules, items] bool."""
    most: NDArray[np.int64]
    """[rules] int64; `window_ms` likewise."""
    window_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class InForce:
    """Rules in force from the time they were asked for until `until`, ms, over catalogue rows."""

    open: NDArray[np.bool_]
    """[items] bool: available and not blocked."""
    raised: NDArray[np.float32]
    """[items] float32, added to relevance."""
    back_ms: NDArray[np.int64]
    """[items] int64: a consumed item is a candidate again so long after; `FOREVER` where no rule lets it return."""
    frequencies: Frequencies
    caps: Caps
    until: int


class Book:
    """Rules, each with the items that it is about."""

    def __init__(
        self,
        rules: Sequence[Rule],
        rows: Mapping[str, int],
        categories: Groups,
        facts: Mapping[str, Groups] | None = None,
    ) -> None:
        """Find every rule's items. Ids, categories and facts that no item has are about nothing, and no mistake.

        Args:
            rows: catalogue row by item id.
            categories: over catalogue rows.
            facts: by predicate, over catalogue rows (`knowledge.Facts.predicates`).
        """
        self.rules = list(rules)
        self.categories = categories
        self.facts = dict(facts or {})
        self.about = [self._about(rule, rows) for rule in self.rules]
        """Per rule [items] bool."""

    def at(self, now: int) -> InForce:
        """What is in force at a time, ms."""
        items = len(self.categories)
        windowed, within, blocked = np.zeros(items, bool), np.zeros(items, bool), np.zeros(items, bool)
        raised = np.zeros(items, np.float32)
        back = np.full(items, FOREVER)
        frequencies: list[tuple[NDArray[np.bool_], int, int]] = []
        capped: list[tuple[int, Groups]] = []
        for rule, about in zip(self.rules, self.about, strict=True):
            if rule.kind == "available":
                windowed |= about
            if not rule.since <= now < (rule.until or FOREVER):
                continue
            match rule.kind:
                case "available":
                    within |= about
                case "block":
                    blocked |= about
                case "boost":
                    raised += np.float32(rule.amount) * about
                case "repeat":
                    # Of two rules about an item the longer wait holds: a rule cannot be undercut by another.
                    waits = np.where(back == FOREVER, 0, back)
                    back = np.where(about, np.maximum(waits, 1000 * rule.window_s), back)
                case "frequency":
                    frequencies.append((about, rule.most, 1000 * rule.window_s))
                case "cap":
                    capped.append((rule.most, self._capped(rule, about)))
        changes = [moment for rule in self.rules for moment in (rule.since, rule.until) if moment > now]
        return InForce(
            ~blocked & (within | ~windowed),
            raised,
            back,
            Frequencies(
                np.array([about for about, _, _ in frequencies], bool).reshape(-1, items),
                np.array([most for _, most, _ in frequencies], np.int64),
                np.array([window for _, _, window in frequencies], np.int64),
            ),
            _caps(items, capped),
            min(changes, default=FOREVER),
        )

    def _about(self, rule: Rule, rows: Mapping[str, int]) -> NDArray[np.bool_]:
        about = np.ones(len(self.categories), bool)
        if rule.items:
            about &= _mask(len(about), np.array([rows[item] for item in rule.items if item in rows], np.int64))
        if rule.categories:
            about &= _having(self.categories, set(rule.categories))
        if rule.facts:
            known = np.zeros(len(about), bool)
            for predicate in {fact.predicate for fact in rule.facts} & self.facts.keys():
                objects = {fact.object for fact in rule.facts if fact.predicate == predicate}
                known |= _having(self.facts[predicate], objects)
            about &= known
        return about

    def _capped(self, rule: Rule, about: NDArray[np.bool_]) -> Groups:
        """The groups of which a cap allows so many each."""
        if not rule.per:
            inside = np.flatnonzero(about)
            return Groups.of_pairs([""], len(about), inside, np.zeros_like(inside))
        groups = self.categories if rule.per == CATEGORY else self.facts.get(rule.per, none(len(about)))
        rows, members = groups.pairs()
        kept = about[rows]
        if rule.per == CATEGORY and rule.categories:
            kept &= np.isin(members, [n for n, name in enumerate(groups.names) if name in set(rule.categories)])
        return Groups.of_pairs(groups.names, len(about), rows[kept], members[kept])


def admitted(
    rules: InForce,
    rows: NDArray[np.int64],
    now: int,
    consumed: NDArray[np.int64],
    consumed_at: NDArray[np.int64],
    shown: NDArray[np.int64],
    shown_at: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which candidates one user may be shown.

    Args:
        rows: [n] int64 catalogue rows.
        now: ms.
        consumed: [h] int64 rows that the user had; `consumed_at` when, ms.
        shown: [s] int64 rows that the user was shown, a row for each time; `shown_at` when, ms.

    Returns:
        [n] bool.
    """
    often = rules.frequencies
    return _admitted(
        rules.open,
        rows,
        now,
        rules.back_ms,
        consumed,
        consumed_at,
        shown,
        shown_at,
        often.about,
        often.most,
        often.window_ms,
    )


def warm() -> None:
    """Compile what rules need, or read what was compiled before."""
    open_, none_ = np.ones(1, bool), np.zeros(0, np.int64)
    often = Frequencies(np.zeros((0, 1), bool), none_, none_)
    force = InForce(open_, np.zeros(1, np.float32), np.full(1, FOREVER), often, _caps(1, []), FOREVER)
    compile_slate()
    admitted(force, np.zeros(1, np.int64), 0, none_, none_, none_, none_)


@compiled
def _admitted(
    open_: NDArray[np.bool_],
    rows: NDArray[np.int64],
    now: int,
    back_ms: NDArray[np.int64],
    consumed: NDArray[np.int64],
    consumed_at: NDArray[np.int64],
    shown: NDArray[np.int64],
    shown_at: NDArray[np.int64],
    about: NDArray[np.bool_],
    most: NDArray[np.int64],
    window_ms: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """The cost is that of the candidates and the history, whatever the size of the catalogue: a table of the candidates,
    open addressing, at most a quarter full."""
    n = len(rows)
    bits = 3
    while (1 << bits) < 4 * n:
        bits += 1
    last = (1 << bits) - 1
    table = np.full(1 << bits, -1, np.int32)
    keep = np.empty(n, np.bool_)
    for i in range(n):
        keep[i] = open_[rows[i]]
        slot = _slot(rows[i], bits)
        while table[slot] >= 0:
            slot = (slot + 1) & last
        table[slot] = i
    for h in range(len(consumed)):
        # A difference, not a sum: FOREVER has nothing above it.
        if now - consumed_at[h] < back_ms[consumed[h]]:
            at = _find(table, rows, consumed[h], bits)
            if at >= 0:
                keep[at] = False
    if len(most):
        times = np.zeros((len(most), n), np.int32)
        for s in range(len(shown)):
            at = _find(table, rows, shown[s], bits)
            if at >= 0:
                for rule in range(len(most)):
                    if about[rule, rows[at]] and now - shown_at[s] < window_ms[rule]:
                        times[rule, at] += 1
                        if times[rule, at] >= most[rule]:
                            keep[at] = False
    return keep


@compiled
def _slot(row: np.int64, bits: int) -> np.int64:
    """Fibonacci hashing (Knuth 1973, section 6.4): neighbouring rows lie far apart."""
    return np.int64((np.uint64(row) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))


@compiled
def _find(table: NDArray[np.int32], rows: NDArray[np.int64], row: np.int64, bits: int) -> np.int32:
    """The index of a row among the candidates, -1 where it is none."""
    slot = _slot(row, bits)
    while table[slot] >= 0 and rows[table[slot]] != row:
        slot = (slot + 1) & ((1 << bits) - 1)
    found: np.int32 = table[slot]
    return found


def _mask(items: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros(items, bool)
    found[rows] = True
    return found


def _having(groups: Groups, names: set[str]) -> NDArray[np.bool_]:
    """[items] bool, those in one of the named groups."""
    wanted = np.array([name in names for name in groups.names], bool)
    rows, members = groups.pairs()
    return _mask(len(groups), rows[wanted[members]] if len(members) else rows)


def _caps(items: int, capped: list[tuple[int, Groups]]) -> Caps:
    """One set of groups out of several, each with its own limit."""
    names: list[str] = []
    most: list[int] = []
    rows, members = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for limit, groups in capped:
        row, member = groups.pairs()
        rows.append(row)
        members.append(member + len(names))
        names += groups.names
        most += [limit] * len(groups.names)
    merged = Groups.of_pairs(names, items, np.concatenate(rows), np.concatenate(members))
    return Caps(merged, np.array(most, np.int32))
