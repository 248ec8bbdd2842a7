"""Business rules and the slate's shape on the real broker and database: what they say is what rankings hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream import DIMENSION, Asker, Stream, rankings, send_random, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Fact, ItemFeatures, Rule
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix, exploration={"share": 0})
    try:
        yield made
    finally:
        made.close()


def category(item: str) -> str:
    return f"c{int(item[1:]) % 3}"  # as `Stream.features` says


def put(stream: Stream, rule: Rule) -> None:
    stream.send(Topic.RULES, rule.rule_id, rule)
    stream.flush()


def take_back(stream: Stream, rule_id: str) -> None:
    stream.send(Topic.RULES, rule_id, None)
    stream.flush()


def test_rules_of_the_topic_hold_while_they_are_there_and_a_broken_one_costs_nothing(stream: Stream) -> None:
    ids = stream.features(40)
    send_random(stream, ids, 200)
    with stream.worker("interactions"):
        stream.drained("interactions", Topic.INTERACTIONS)
    # This one has learned all of it before it ranks.
    with stream.worker("interactions") as worker, stream.reading(Topic.RANKINGS) as log:
        ann = Asker(stream, log)
        usual = ann.until(lambda slate: len(slate) == 10, "a full slate")

        best = usual[0]
        put(stream, Rule("recalled", "block", items=[best]))
        ann.until(lambda slate: best not in slate, "the blocked item to go")
        stream.send(Topic.RULES, "broken", b'{"rule_id": "broken", "kind": "cap", "most": 0}')
        take_back(stream, "recalled")
        assert ann.until(lambda slate: best in slate, "it to come back") == usual
        refused = [line for line in worker.lines() if line["event"] == "rule.refused"]
        assert [("most" in line["error"], line["level"]) for line in refused] == [(True, "error")]

        put(stream, Rule("one of c1", "cap", categories=["c1"], most=1))
        capped = ann.until(lambda slate: Counter(map(category, slate))["c1"] == 1, "the cap to hold")
        assert len(capped) == 10
        take_back(stream, "one of c1")
        put(stream, Rule("three a category", "cap", most=3, per="category"))
        short = ann.until(lambda slate: len(slate) == 9, "three of each of three categories")
        assert set(Counter(map(category, short)).values()) == {3}
        take_back(stream, "three a category")

        last = next(item for item in ids if item not in usual)
        put(stream, Rule("push", "boost", items=[last], amount=5))
        lifted = ann.until(lambda slate: slate[0] == last, "the boosted item to be first")
        assert lifted[1:] == usual[:9]
        take_back(stream, "push")
        assert ann.until(lambda slate: last not in slate, "it to fall back") == usual


def test_items_that_a_rule_takes_out_leave_rankings_already_published(stream: Stream) -> None:
    ids = stream.features(30)
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        send_random(stream, ids, 200)
        log.until(lambda found: total(found) == 200)
        eventually(lambda: stream.rows("SELECT sum(version) FROM profiles") == [(200,)])
        newest = {user: all_[-1] for user, all_ in rankings(log.records).items()}
        item, count = Counter(i.item_id for one in newest.values() for i in one.items).most_common(1)[0]
        put(stream, Rule("recalled", "block", items=[item]))

        def replaced() -> bool:
            found = rankings(log.more())
            return all(item not in [i.item_id for i in all_[-1].items] for all_ in found.values())

        eventually(replaced, message=f"{count} rankings to be re-issued")
        again = [all_[-1] for all_ in rankings(log.records).values() if all_[-1].trigger == "item_blocked"]
    assert len(again) == count
    assert all(one.revision == 1 and one.events == 0 and len(one.items) == 10 for one in again)


def test_what_was_shown_often_enough_pauses_and_what_was_had_may_come_back(stream: Stream) -> None:
    ids = stream.features(20)
    put(stream, Rule("twice a day", "frequency", most=2, window_s=86_400))
    put(stream, Rule("again after an hour", "repeat", categories=["c0"], window_s=3600))
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        ann = Asker(stream, log)
        best = ann.until(lambda slate: len(slate) == 10, "a full slate")[0]
        for number in range(3):
            assert (best in ann.slate()) == (number < 2)
            stream.event(number, "ann", best, "impression")
        stream.event(100, "ann", "i3")  # of c0
        stream.event(101, "ann", "i4")  # of c1
        assert not {"i3", "i4"} & set(ann.slate())
        stream.event(4000, "ann", "i5")  # more than an hour later
        slates = {item for _ in range(2) for item in ann.slate()}
        assert "i4" not in slates
        # All others but those had and the one shown twice fill the slate: what came back is a candidate.
        put(stream, Rule("all but one", "block", items=[item for item in ids if item not in {"i3", "i4"}]))
        ann.until(lambda slate: slate == ["i3"], "what was had to be all that is left")


def test_a_rules_file_is_read_again_and_a_wrong_one_leaves_the_last_in_force(
    stack: Stack, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("")
    stream = Stream(stack, prefix, rules={"file": str(file)})
    try:
        ids = stream.features(30)
        with stream.worker("interactions") as worker, stream.reading(Topic.RANKINGS) as log:
            ann = Asker(stream, log)
            best = ann.until(lambda slate: len(slate) == 10, "a full slate")[0]
            block = f'[[rules]]\nrule_id = "out"\nkind = "block"\nitems = ["{best}"]\n'
            file.write_text(block)
            ann.until(lambda slate: best not in slate, "the file to be read again")
            file.write_text(block + 'most = "many"\n')
            eventually(
                lambda: [line for line in worker.lines() if line["event"] == "rules.file_refused"],
                message="the mistake to be told",
            )
            assert best not in ann.slate()
            file.write_text("")
            ann.until(lambda slate: best in slate, "the rule to go")
        assert len(ids) == 30
        file.write_text("[[rules]]\n")
        with pytest.raises(AssertionError, match="rule_id"), stream.worker("interactions") as worker:
            assert worker.process.wait(60) == 0, worker.log.read_text()
    finally:
        stream.close()


def test_diversity_sets_items_of_a_slate_apart_and_calibration_follows_the_users_categories(
    stack: Stack, prefix: str
) -> None:
    """Items come in three tight bundles of the same categories."""
    chance = np.random.default_rng(5)
    centres = np.linalg.qr(chance.normal(size=(DIMENSION, DIMENSION)))[0][:3]
    vectors = {f"i{n}": centres[n % 3] + 0.2 * chance.normal(size=DIMENSION) for n in range(60)}
    vectors = {item: vector / np.linalg.norm(vector) for item, vector in vectors.items()}

    def slate(**shaping: object) -> list[str]:
        name = f"{prefix}{abs(hash(tuple(shaping.items()))) % 10**6}_"
        stream = Stream(stack, name, shaping=shaping, ranking={"candidates": 60}, exploration={"share": 0})
        try:
            for item, vector in vectors.items():
                stream.feature(item, vector, [category(item)])
            for number, item in enumerate(["i0", "i3", "i6", "i1"]):  # three of c0, one of c1
                stream.event(number, "ann", item)
            stream.flush()
            with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
                found = rankings(log.until(lambda records: total(records) == 4))["ann"][-1]
                return [item.item_id for item in found.items]
        finally:
            stream.close()

    def apart(items: list[str]) -> float:
        inside = np.array([vectors[item] for item in items])
        cosines = inside @ inside.T
        return float(1 - (cosines.sum() - len(items)) / (len(items) * (len(items) - 1)))

    plain, mmr, dpp = slate(), slate(method="mmr", diversity=0.7), slate(method="dpp", diversity=0.7)
    assert len(plain) == len(mmr) == len(dpp) == 10
    assert apart(mmr) > apart(plain) + 0.1
    assert apart(dpp) > apart(plain) + 0.1
    calibrated = Counter(map(category, slate(calibration=0.9)))
    assert calibrated["c0"] in {7, 8}
    assert calibrated["c1"] in {2, 3}


def test_rules_select_by_facts_and_reasons_name_what_is_shared(stream: Stream) -> None:
    ids = stream.features(11)
    rng = np.random.default_rng(2)
    for number in range(4):
        vector = rng.normal(size=DIMENSION)
        unit = (vector / np.linalg.norm(vector)).astype("<f4").tobytes()
        facts = [Fact("director", "Joel Coen" if number < 2 else "Michael Mann")]
        stream.send(Topic.ITEM_FEATURES, ids[number], ItemFeatures(ids[number], unit, "test-1", facts=facts))
    number = 0
    for user in range(30):  # the first two are liked together
        for item in ids[:2]:
            stream.event(number, f"u{user}", item)
            number += 1
    stream.flush()
    with stream.worker("interactions"):
        stream.drained("interactions", Topic.INTERACTIONS)
    with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        stream.event(number, "ann", ids[0])
        ann = Asker(stream, log)
        assert ids[1] in ann.until(lambda slate: ids[0] not in slate, "the event to count")
        told = {item.item_id: item.reasons for item in rankings(log.records)["ann"][-1].items}
        assert any(reason.text.endswith("(both: director Joel Coen)") for reason in told[ids[1]])
        assert not any("both" in reason.text for reason in told[ids[2]])
        put(stream, Rule("no Coens", "block", facts=[Fact("director", "Joel Coen")]))
        ann.until(lambda slate: ids[1] not in slate and ids[2] in slate, "their films to go")


def test_the_command_publishes_lists_and_takes_back(stream: Stream, tmp_path: Path) -> None:
    def upwell(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | stream.environment
        return subprocess.run(
            [sys.executable, "-m", "upwell.cli.main", "rules", *arguments],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    file = tmp_path / "rules.toml"
    file.write_text('[[rules]]\nrule_id = "out"\nkind = "block"\nitems = ["a"]\nuntil = 2030-01-01T00:00:00Z\n')
    assert "1 rules published" in upwell("put", str(file)).stdout
    stream.send(Topic.RULES, "bad", b"nonsense")
    stream.flush()
    listed = upwell("list").stdout.splitlines()
    assert listed[0] == "out  block  items a  until 2030-01-01 00:00Z"
    assert listed[1].startswith("bad  REFUSED by the workers: ")
    file.write_text(file.read_text() + '[[rules]]\nrule_id = "push"\nkind = "boost"\namout = 2\n')
    wrong = upwell("put", str(file))
    assert wrong.returncode == 2
    assert f"{file}:9: rule 2 (push): amout: unknown; did you mean amount?" in wrong.stderr
    assert upwell("delete", "outt").returncode == 2
    assert upwell("delete", "out", "bad").returncode == 0
    assert upwell("list").stdout == "no rules; `upwell rules put` publishes some\n"
