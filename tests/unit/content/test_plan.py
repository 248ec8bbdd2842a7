"""Who is answered, in which order, and who is skipped for which reason."""

from hypothesis import given
from hypothesis import strategies as st

from upwell.bus.consumer import Partition
from upwell.content.plan import Budget, Outcome, Pending, Waiting
from upwell.events.contracts import ContentTrigger

NOW = 1_000_000
WAIT = 5_000


def pending(user: str, kind: str = "head_changed", created: int = NOW, priority: int = 1, offset: int = 0) -> Pending:
    trigger = ContentTrigger(f"{user}-{kind}-{created}-{offset}", kind, "cause", user, "item", created)
    return Pending(trigger, Partition("t", 0), offset, priority, NOW)


def test_a_newer_trigger_supersedes_the_older_one_of_its_user_and_kind() -> None:
    waiting = Waiting(WAIT)
    first, second, other = pending("u"), pending("u", created=NOW + 1), pending("u", "new_item")
    assert waiting.add(first, NOW) == []
    assert waiting.add(other, NOW) == []
    assert waiting.add(second, NOW) == [(first, Outcome.SUPERSEDED)]
    older = pending("u", created=NOW - 1)
    assert waiting.add(older, NOW) == [(older, Outcome.SUPERSEDED)]
    assert set(waiting.take(9)) == {second, other}


def test_requests_are_all_kept_and_come_first_in_the_order_of_asking() -> None:
    waiting = Waiting(WAIT)
    first, second = pending("u", "request", NOW - 90_000, 0), pending("u", "request", NOW, 0)
    for one in (pending("v", priority=0), second, first):
        assert waiting.add(one, NOW) == []
    assert waiting.requests() == 2
    assert waiting.take(2) == [first, second]


def test_priority_comes_before_freshness_and_freshness_before_age() -> None:
    waiting = Waiting(WAIT)
    low, old, new, high = (
        pending("a", priority=2),
        pending("b", created=NOW - 9),
        pending("c"),
        pending("d", priority=0),
    )
    for one in (low, old, new, high):
        waiting.add(one, NOW)
    assert waiting.take(3) == [high, new, old]
    assert waiting.take(3) == [low]
    assert len(waiting) == 0


def test_what_waits_too_long_is_taken_out_once() -> None:
    waiting = Waiting(WAIT)
    late = pending("a", created=NOW - WAIT)
    assert waiting.add(late, NOW) == [(late, Outcome.EXPIRED)]
    one, taken = pending("b", created=NOW - 10), pending("c", created=NOW - 20)
    waiting.add(one, NOW)
    waiting.add(taken, NOW)
    waiting.take(0)
    assert waiting.overdue(NOW) == []
    assert waiting.overdue(NOW + WAIT - 20) == [taken]
    assert waiting.overdue(NOW + WAIT) == [one]
    assert waiting.overdue(NOW + 2 * WAIT) == []


def test_the_budget_bounds_tokens_per_second_and_learns_the_cost() -> None:
    budget = Budget(tokens_per_second=100, burst=1000, first_cost=50, now=0)
    assert budget.answers(0) == 20
    budget.spend(1000, 20, 0)
    assert budget.answers(0) == 0
    assert budget.answers(1000) == 2
    budget.spend(300, 1, 1000)  # a request on credit
    assert budget.answers(2000) == 0
    assert budget.cost > 50
    assert budget.answers(3_600_000) == int(1000 / budget.cost)


def test_a_choice_is_paid_from_what_half_of_the_burst_leaves() -> None:
    budget = Budget(tokens_per_second=100, burst=1000, first_cost=50, now=0)
    assert budget.spare(2, 0) == 8
    budget.spend(400, 8, 0)
    assert budget.spare(1, 0) == 1
    budget.spend(200, 4, 0)
    assert budget.spare(1, 0) == 0
    assert budget.answers(0) == 8


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["head_changed", "new_item", "request"]),
                          st.integers(0, 20_000), st.integers(0, 2)), max_size=40), st.integers(1, 5))  # fmt: skip
def test_every_trigger_ends_exactly_once(arrivals: list[tuple[str, str, int, int]], most: int) -> None:
    waiting = Waiting(WAIT)
    everyone, ended = [], []
    for number, (user, kind, created, priority) in enumerate(sorted(arrivals, key=lambda a: a[2])):
        one = pending(user, kind, created, priority, number)
        everyone.append(one)
        ended += [p for p, _ in waiting.add(one, created + 10)]
        ended += waiting.overdue(created + 10)
        if number % 3 == 0:
            ended += waiting.take(most)
    ended += waiting.overdue(10**9)
    assert len(ended) == len(everyone)
    assert set(ended) == set(everyone)
    assert len(waiting) == 0
