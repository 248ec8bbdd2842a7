"""Input and schedule follow from the seed, and the verifier's reading of the contract is the product's."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

import pytest

from faults.plan import MIX, SHORT, Input, schedule
from faults.verifier import contract
from faults.verifier.records import Place, Record
from upwell.events import validate
from upwell.settings import Settings

LOGGED = 1_770_000_000_000
DAY_MS = 86_400_000


def test_the_same_seed_gives_the_same_input_and_schedule() -> None:
    def made(seed: int) -> tuple[list[object], list[object]]:
        source = Input(seed, 400, 6)
        return list(chain(source.catalogue(), islice(source.stream(), 5000))), schedule(seed, MIX, 4.0)

    assert made(1) == made(1)
    assert made(1)[0] != made(2)[0]
    assert made(1)[1] != made(2)[1]


def test_a_mix_is_inflicted_whole() -> None:
    """Enough takeovers and zombies for the proof: issue of the seed's order alone."""
    for mix in (MIX, SHORT):
        assert Counter((fault.kind, fault.target) for fault in schedule(3, mix, 1.0)) == mix
    assert sum(MIX.values()) >= 100
    assert sum(count for (kind, _), count in MIX.items() if kind == "lose") >= 20
    assert len(SHORT) >= 15


@pytest.mark.parametrize("seed", range(3))
def test_the_verifier_and_the_product_call_the_same_records_valid(seed: int) -> None:
    rules = validate.Rules.of(Settings())
    valid = {
        "interactions": (contract.event, validate.interaction),
        "items": (contract.item, validate.item),
        "requests": (contract.request, validate.request),
    }
    source, refused = Input(seed, 400, 6), Counter[str]()
    for number, sent in enumerate(chain(source.catalogue(), islice(source.stream(), 20_000))):
        key = sent.key.encode() if sent.key is not None else None
        plain, real = valid[sent.topic]
        try:
            real(key, sent.value, rules, LOGGED + DAY_MS)
        except validate.InvalidRecord:
            expected = False
            refused[sent.topic] += 1
        else:
            expected = True
        record = Record(Place(sent.topic, 0, number), key, sent.value, LOGGED)
        assert (plain(record) is not None) == expected, sent
    assert all(refused[topic] for topic in valid)


def test_weights_are_the_documented_defaults() -> None:
    events = Settings().events
    assert events.weights == contract.WEIGHTS
    for value in (-100, 1, 2.5, 5, 100):
        plain = contract.weight({"type": "rating", "value": value})
        assert plain == pytest.approx(events.weight("rating", value))
