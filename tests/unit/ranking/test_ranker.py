"""The learned ranking: what others took next comes first, with its evidence; what is new is found by its vector."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from support import eventually
from upwell.events.codec import decode, encode
from upwell.events.contracts import Statistics
from upwell.interactions import lessons
from upwell.interactions.lessons import Taught
from upwell.interactions.slate import ranked_items
from upwell.ranking import kernel, learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import Recent, Tuning
from upwell.ranking.ranker import Ranker, warm

DIMENSION = 8
MINUTE = 60_000


@dataclass
class Log:
    """One worker: its catalogue, and users whose events it applies and learns from."""

    ids: list[str]
    catalogue: Catalogue = field(default_factory=Catalogue)
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        chance = np.random.default_rng(3)
        vectors = {item: chance.normal(size=DIMENSION) for item in sorted(self.ids)}
        for item in self.ids:
            vector = (vectors[item] / np.linalg.norm(vectors[item])).astype(np.float32)
            self.catalogue.put(item, vector, item.upper(), ["odd" if int(item[1:]) % 2 else "even"], 1.0)
        self.ranker = Ranker(self.catalogue, content=2.0, tuning=self.tuning)
        self.ranker.fit()
        self.recent: Recent = self.ranker.users(64)
        self.users: dict[str, int] = {}
        self.had: dict[int, list[int]] = {}

    def take(self, user: str, item: str, time: int, weight: float = 1.0) -> bytes:
        """Apply an event; what it teaches, as it goes over the wire."""
        slot = self.users.setdefault(user, len(self.users))
        row, gone = self.catalogue.row(item), self.had.setdefault(slot, [])
        taught = Taught(self.ranker.tuning)
        into = taught.place()
        self.ranker.teach(self.recent, slot, row, weight, time, np.array(gone, np.int32), taught.rows, into)
        self.ranker.remember(self.recent, slot, row, weight, time)
        gone.append(row)
        ((names, told),) = taught.records(self.catalogue.ids, 100)
        return encode(Statistics(0, [], [], time, lesson_items=names, taught=told))

    def learn(self, raw: bytes) -> None:
        record = decode(Statistics, raw)
        rows = [self.catalogue.row(item) for item in record.lesson_items]
        self.ranker.fit()
        assert record.taught is not None
        self.ranker.learn(*lessons.read(rows, record.taught, self.ranker.tuning, self.ranker.stages))

    def slate(self, user: str, time: int, interest: np.ndarray | None = None, places: int = 5):
        slot = self.users.setdefault(user, len(self.users))
        gone = np.array(self.had.get(slot, []), np.int32)
        interests = np.zeros((1, DIMENSION), np.float32) if interest is None else interest[None]
        (chosen,) = self.ranker.rank(
            self.recent, [slot], np.array([time]), [gone], interests, self.catalogue.ties, 4 * places
        )
        slate = chosen.take(np.arange(min(places, len(chosen.rows))))
        evidence = self.ranker.evidence(self.recent, slot, time, slate.rows)
        return ranked_items(self.catalogue, slate, evidence, np.zeros(0, np.int64), time)


IDS = [f"i{n}" for n in range(40)]


def pairs(log: Log, users: int = 30) -> list[bytes]:
    """Users who take i0 then i1, among others who take something each."""
    told = []
    for n in range(users):
        for step, item in enumerate(("i0", "i1") if n % 2 else (f"i{2 + n % 20}", f"i{22 + n % 17}")):
            told.append(log.take(f"u{n}", item, n * MINUTE * 60 + step * 1000))
            log.learn(told[-1])
    return told


def test_what_others_took_next_comes_first_with_its_evidence():
    log = Log(IDS)
    pairs(log)
    log.take("new", "i0", 100 * 60 * MINUTE)
    first = log.slate("new", 100 * 60 * MINUTE + 2 * MINUTE)[0]
    assert first.item_id == "i1"
    assert first.reasons[0].kind == "similar"
    assert first.reasons[0].item_id == "i0"
    assert first.reasons[0].text == "because you liked I0 2 minutes ago"
    # Somebody who took something else is not told so.
    log.take("other", "i39", 100 * 60 * MINUTE)
    assert all(reason.item_id != "i0" for item in log.slate("other", 101 * 60 * MINUTE) for reason in item.reasons)


def test_what_was_had_and_what_is_deleted_is_no_candidate():
    log = Log(IDS)
    pairs(log)
    log.take("new", "i0", 100 * 60 * MINUTE)
    log.catalogue.remove("i1")
    log.ranker.fit()
    shown = {item.item_id for item in log.slate("new", 100 * 60 * MINUTE, places=40)}
    assert "i0" not in shown
    assert "i1" not in shown
    assert len(shown) == 38


def test_before_anything_is_learned_vectors_decide():
    log = Log(IDS)
    wanted = log.catalogue.vectors[log.catalogue.row("i7")]
    first = log.slate("new", MINUTE, wanted)[0]
    assert first.item_id == "i7"
    assert first.reasons[0].kind == "new"


def test_a_new_item_is_found_by_its_vector_among_learned_ones():
    log = Log(IDS)
    pairs(log, 60)
    vector = np.ones(DIMENSION, np.float32) / np.sqrt(DIMENSION).astype(np.float32)
    log.catalogue.put("i99", vector, "I99", ["odd"], 1.0)
    log.ranker.fit()
    log.take("new", "i5", 100 * 60 * MINUTE)
    assert "i99" in [item.item_id for item in log.slate("new", 100 * 60 * MINUTE, vector, places=10)]


def test_the_nearest_of_many_new_items_comes_first():
    """More items than are looked at for their popularity."""
    log = Log([f"i{n}" for n in range(400)])
    outside = set(range(400)) - {int(row) for row in log.ranker.shared.top[0]}
    for row in sorted(outside)[:5]:
        assert log.slate("new", MINUTE, log.catalogue.vectors[row])[0].item_id == log.catalogue.ids[row]


def test_users_ranked_together_are_ranked_as_alone_and_scores_are_the_sums_of_contributions():
    log = Log([f"i{n}" for n in range(400)])
    pairs(log, 60)
    kernel.refresh(log.ranker.shared, log.ranker.tuning)
    interests = log.catalogue.vectors[:60].copy()
    slots, times = list(range(60)), np.full(60, 10_000_000_000)
    gone = [np.array(log.had[slot], np.int32) for slot in slots]
    together = log.ranker.rank(log.recent, slots, times, gone, interests, log.catalogue.ties, 30)
    for slot, chosen in zip(slots, together, strict=True):
        one = slice(slot, slot + 1)
        (alone,) = log.ranker.rank(log.recent, [slot], times[one], gone[one], interests[one], log.catalogue.ties, 30)
        np.testing.assert_array_equal(chosen.rows, alone.rows)
        assert len(set(chosen.rows.tolist())) == 30
        assert not set(chosen.rows.tolist()) & set(log.had[slot])
        order = np.lexsort((log.catalogue.ties[chosen.rows], -chosen.scores))
        np.testing.assert_array_equal(order, np.arange(30))
        # What an item that nothing is known of would have is the same for all.
        rest = chosen.scores - chosen.contributions.sum(axis=1)
        np.testing.assert_allclose(rest, rest[0], atol=1e-4)


def test_of_equal_items_all_workers_show_the_same_ones():
    """Rows are each worker's own; the order among equals is by hashes of the ids."""
    ids = [f"i{n}" for n in range(300)]
    one, other = (Log(each) for each in (ids, ids[::-1]))
    slates = [
        [item.item_id for item in log.slate("new", MINUTE, np.zeros(DIMENSION, np.float32), places=10)]
        for log in (one, other)
    ]
    assert slates[0] == slates[1]


@pytest.mark.parametrize("tuning", [Tuning(), Tuning(neighbours=8), Tuning(learned_items=20)])
def test_workers_that_read_the_same_log_hold_the_same_whatever_their_rows(tuning):
    """Also where neighbours, or items, make room for others."""
    log, other = (Log(ids, tuning=tuning) for ids in (IDS, IDS[::-1]))
    chance = np.random.default_rng(4)
    told = pairs(log, 60)
    for n in range(400):
        told.append(log.take(f"u{n % 60}", f"i{chance.integers(40)}", 10_000_000_000 + n * 1000))
        log.learn(told[-1])
    for raw in told:
        other.learn(raw)
    mine, others = log.ranker.state(), other.ranker.state()
    rows = [other.catalogue.row(item) for item in log.catalogue.ids]
    for name in ("counts", "likes", "filled", "popular"):
        np.testing.assert_array_equal(mine[name][: len(IDS)], others[name][rows])
    for name in ("mix", "slopes", "gain", "clock"):
        np.testing.assert_array_equal(mine[name], others[name])
    assert company(log) == company(other)
    assert (mine["mix"] != Ranker(Catalogue(), 0).state()["mix"]).any()


def company(log: Log) -> dict[str, dict[str, list[float]]]:
    """Each item's neighbours with their weights, by id."""
    shared, ids, places = log.ranker.shared, log.catalogue.ids, log.ranker.tuning.neighbours
    names, weights = shared.neighbour.reshape(-1, places), shared.weight.reshape(-1, places, 4)
    return {
        item: {ids[names[at, m]]: weights[at, m].tolist() for m in range(shared.filled[row])}
        for row, (item, at) in enumerate(zip(ids, shared.block.tolist(), strict=False))
    }


@pytest.mark.parametrize("tuning", [Tuning(), Tuning(learned_items=20)])
def test_a_worker_that_starts_at_a_snapshot_goes_on_as_the_others(tuning):
    log, other = (Log(ids, tuning=tuning) for ids in (IDS, IDS[::-1]))
    pairs(log, 60)
    other.ranker.restore(log.ranker.state(), np.array([other.catalogue.row(item) for item in log.catalogue.ids]))
    chance = np.random.default_rng(5)
    for n in range(300):
        if n == 150:  # items come, more than there was room for
            for one in (log, other):
                for item in range(3_000):
                    one.catalogue.row(f"later {item}")
        raw = log.take(f"u{n % 60}", f"i{chance.integers(40)}", 10_000_000_000 + n * 1000)
        for one in (log, other):
            one.learn(raw)
    mine, others = company(log), company(other)
    assert mine == {item: others[item] for item in mine}
    assert sum(map(bool, mine.values())) == min(40, tuning.learned_items)


def test_a_snapshot_is_the_whole_state():
    log, other = Log(IDS), Log(IDS[::-1])
    pairs(log, 60)
    held = msgspec.msgpack.encode(lessons.packed(log.ranker.state(), log.ranker.tuning))
    state = lessons.unpacked(msgspec.msgpack.decode(held, type=dict[str, lessons.Array]), other.ranker.tuning)
    other.ranker.restore(state, np.array([other.catalogue.row(item) for item in log.catalogue.ids]))
    raw = log.take("new", "i0", 100 * 60 * MINUTE)
    for one in (log, other):
        one.learn(raw)
        # What is derived is brought up to date now and then, and after a restart.
        kernel.refresh(one.ranker.shared, one.ranker.tuning)
    other.take("new", "i0", 100 * 60 * MINUTE)
    mine, others = (one.slate("new", 101 * 60 * MINUTE, places=10) for one in (log, other))
    assert [(item.item_id, item.score) for item in mine] == [(item.item_id, item.score) for item in others]


def test_a_snapshot_holds_items_that_were_named_just_before_it():
    log, other = Log(IDS), Log(IDS)
    told = pairs(log, 4)
    for n in range(len(log.ranker.shared.counts)):
        log.catalogue.row(f"new {n}")
    # The ids first, as the reader takes them: nobody has fitted the ranking to the catalogue in between.
    ids, state = list(log.catalogue.ids), log.ranker.state()
    held = lessons.unpacked(lessons.packed(state, log.ranker.tuning), other.ranker.tuning)
    other.ranker.restore(held, np.array([other.catalogue.row(item) for item in ids]))
    assert other.ranker.shared.counts.sum() == log.ranker.shared.counts.sum() == len(told)


def test_everybodys_best_items_follow_deletions_that_come_in_a_burst(monkeypatch):
    monkeypatch.setattr("upwell.ranking.ranker.REFRESH_S", 0.2)
    log = Log([f"i{n}" for n in range(400)])
    best = {log.catalogue.ids[row] for row in log.ranker.shared.top[0]}
    # All at once, and then nothing changes any more.
    for item in sorted(best):
        log.catalogue.remove(item)
        log.ranker.fit()

    def replaced() -> bool:
        log.ranker.fit()
        return bool(log.catalogue.live[log.ranker.shared.top].all())

    eventually(replaced, 30, "the best items are candidates")


def test_a_snapshot_of_another_tuning_is_refused():
    log = Log(IDS)
    pairs(log, 4)
    held = lessons.packed(log.ranker.state(), log.ranker.tuning)
    for other in (Tuning(rate=0.2), Tuning(neighbours=400), Tuning(decay=np.float32(0.8)), Tuning(learned_items=9)):
        with pytest.raises(ValueError, match="another tuning"):
            lessons.unpacked(held, other)
    # How large a catalogue it was made for, and what is only derived, makes no difference.
    assert lessons.unpacked(held, Tuning(refresh=9_999, tops=64)).keys() >= set(learner.STATE)


def test_records_are_bounded_whatever_their_items_are_called():
    ids = [f"i{n}" + "\N{GRINNING FACE}" * 200 for n in range(1_000)]
    taught = Taught(Tuning())
    for n in range(1_000):
        at = taught.place()
        taught.rows.item[at] = n
    told = list(taught.records(ids, 500))
    assert [name for names, _ in told for name in names] == ids
    assert len(told) > 2
    assert all(len("".join(names).encode()) < 400_000 for names, _ in told)
    short = taught.records([str(n) for n in range(1_000)], 400)
    assert [lessons.read(range(len(names)), each, Tuning(), 7)[1] for names, each in short] == [400, 400, 200]


def test_what_is_learned_is_what_was_taught():
    """To a ten-thousandth of a valence, and half precision of a gradient."""
    tuning, chance = Tuning(), np.random.default_rng(5)
    taught = Taught(tuning)
    for n in range(200):
        at, held = taught.place(), n % (tuning.last + 1)
        rows = taught.rows
        rows.item[at], rows.valence[at], rows.stage[at], rows.held[at] = n % 50, chance.uniform(-1, 1), n % 7, held
        rows.before[at, :held], rows.before_valence[at, :held] = (
            chance.integers(50, size=held),
            chance.uniform(-1, 1, held),
        )
        rows.soon[at, :held], rows.taught[at] = chance.random(held) < 0.5, n % 3 == 0
        rows.gradient[at] = chance.normal(size=10) * rows.taught[at]
    ids = [f"i{n}" for n in range(50)]
    ((names, told),) = taught.records(ids, 500)
    found, count = lessons.read([ids.index(name) for name in names], told, tuning, 7)
    assert count == 200
    for name, of in found._asdict().items():
        np.testing.assert_allclose(of, getattr(taught.rows, name)[:200], rtol=1e-3, atol=6e-5, err_msg=name)


def test_lessons_of_another_release_or_cut_off_are_refused():
    log = Log(IDS)
    log.take("ann", "i1", MINUTE)
    record = decode(Statistics, log.take("ann", "i0", MINUTE))
    told, tuning, stages = record.taught, log.ranker.tuning, log.ranker.stages
    assert lessons.read([0, 1], told, tuning, stages)[1] == 1
    with pytest.raises(ValueError, match="names item 1 of 1"):
        lessons.read([0], told, tuning, stages)
    with pytest.raises(ValueError, match="stage 1 of 1"):
        lessons.read([0, 1], told, tuning, 1)
    with pytest.raises(ValueError, match="another release"):
        lessons.read([0, 1], zlib.compress(zlib.decompress(told) + b"more"), tuning, stages)
    whole = zlib.decompress(told)
    for odd in (b"", b"not packed", told[:-3], zlib.compress(whole[:-1]), zlib.compress(b"\xff" * 4 + whole[4:])):
        with pytest.raises(ValueError, match=r"lessons (cannot|are cut|end)"):
            lessons.read([0, 1], odd, tuning, stages)
    with pytest.raises(ValueError, match="longer than"):
        lessons.read([0, 1], zlib.compress(bytes(1 << 24)), tuning, stages)


def test_a_share_of_the_events_is_told_the_same_ones_wherever_they_are_applied():
    hashes = np.random.default_rng(6).integers(2**64, size=4_000, dtype=np.uint64).tolist()
    quarter, half, all_ = (Taught(Tuning(), share) for share in (0.25, 0.5, 1.0))
    assert all(all_.takes(each) for each in (*hashes, 2**64 - 1))
    kept = {each for each in hashes if quarter.takes(each)}
    assert abs(len(kept) / 4_000 - 0.25) < 0.03
    assert kept < {each for each in hashes if half.takes(each)}


def test_a_history_is_recalled_as_it_was_remembered():
    from upwell.interactions.history import History

    log = Log(IDS)
    history = History()
    for n in range(25):
        weight = 0.0 if n % 5 == 0 else 1.0 if n % 2 else -3.0
        history.add(n, n, 1000 * n, 1000 * n, weight, n, True, 512, 0)
        if weight:
            log.ranker.remember(log.recent, 0, n, weight, 1000 * n)
    log.ranker.recall(log.recent, 1, history.events())
    for held in log.recent:
        np.testing.assert_array_equal(held[0], held[1])


def test_what_was_warmed_is_not_compiled_again_while_events_come():
    warm()
    functions = (
        kernel.teach,
        kernel.apply,
        kernel.rank,
        kernel.evidence,
        kernel.remember,
        kernel.derive,
        kernel.refresh,
        kernel.gather,
        kernel.spread,
    )
    before = [len(function.signatures) for function in functions]
    log = Log(IDS)
    pairs(log, 4)
    log.slate("new", MINUTE)
    log.ranker.restore(
        lessons.unpacked(lessons.packed(log.ranker.state(), log.tuning), log.tuning), np.arange(len(IDS))
    )
    assert [len(function.signatures) for function in functions] == before
