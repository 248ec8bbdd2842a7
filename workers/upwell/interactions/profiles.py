"""Profiles of the users of owned partitions, as arrays, in a bounded cache in front of Postgres.

A user that is not flushed yet is never evicted: the only other copy of the latest state is the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upwell.bus.errors import Inconsistent
from upwell.events.hashing import key64
from upwell.interactions.history import History
from upwell.ranking.arms import Reactions
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import Recent
from upwell.ranking.profile import EMPTY_BASE, add, decay
from upwell.ranking.ranker import Ranker
from upwell.store.profiles import STATE_VERSION, ProfileRow


class OtherModel(Inconsistent):
    """A stored profile was made with a model that this worker does not use; another worker may have gone over to it."""

    def __init__(self, message: str, model_version: str) -> None:
        super().__init__(message)
        self.model_version = model_version


NEVER = -1
DAY_MS = 86_400_000


class Shown(msgspec.Struct, array_like=True, gc=False):
    """A slate that was published: kept for joining feedback."""

    ranking_id: str
    version: int
    revision: int
    time: int
    items: list[tuple[str, float]]
    """(item id, propensity), best first."""


_encode_slates = msgspec.json.Encoder().encode
_decode_slates = msgspec.json.Decoder(list[Shown]).decode
_decode_reactions = msgspec.json.Decoder(Reactions).decode


class Profiles:
    """Slots of users. `vectors`, `bases`, `versions` … are arrays by slot."""

    def __init__(self, capacity: int, catalogue: Catalogue, half_life_ms: float, ranker: Ranker) -> None:
        self.capacity = capacity
        self.ranker = ranker
        self.catalogue = catalogue
        self.half_life_ms = half_life_ms
        room = min(capacity, 1024)
        self.slots: dict[str, int] = {}
        self._free = list(range(room - 1, -1, -1))
        self.vectors: NDArray[np.float32] = np.zeros((room, catalogue.dimension), np.float32)
        self.bases: NDArray[np.int64] = np.full(room, EMPTY_BASE, np.int64)
        self.generations: NDArray[np.int32] = np.zeros(room, np.int32)
        self.versions: NDArray[np.int64] = np.zeros(room, np.int64)
        self.revisions: NDArray[np.int64] = np.zeros(room, np.int64)
        self.event_times: NDArray[np.int64] = np.zeros(room, np.int64)
        self.partitions: NDArray[np.int32] = np.zeros(room, np.int32)
        self.used: NDArray[np.int64] = np.zeros(room, np.int64)
        """Number of the batch that last touched the slot."""
        self.changed: NDArray[np.int64] = np.full(room, NEVER, np.int64)
        """Number of the last flush that must land before the slot may be evicted."""
        self.user_ids: list[str] = [""] * room
        self.histories: list[History] = [History()] * room
        self.slates: list[list[Shown]] = [[]] * room
        self.triggered: list[str | None] = [None] * room
        self.reactions: list[Reactions] = [{}] * room
        """Feedback to contents."""
        self.segments: list[tuple[str, ...]] = [()] * room
        """Who the user is, where that is asked for (`interactions/segments.py`)."""
        self.recent = ranker.users(room)
        """Last events, as the ranking looks at them; follows from the histories."""
        self.waiting: dict[int, set[int]] = {}
        """Item hash to slots with events that wait for its vector."""
        self.model_version = ""
        """Of the items' vectors; empty until one is known."""
        self.retired: frozenset[str] = frozenset()
        """Models that were live before: profiles made with them are rebuilt from their history."""
        self.rebuilt = 0
        """Profiles rebuilt since this was last looked at."""
        self.forgotten = 0
        """Events that left the dedupe window since this was last looked at."""
        self._hashes: dict[int, int] = {}
        self._hashed = 0

    def __len__(self) -> int:
        return len(self.slots)

    def change_model(self, model_version: str, retired: Iterable[str]) -> None:
        """Go over to another model, the catalogue's: everybody is read back, and rebuilt, when next met."""
        self.drop(set(self.partitions[list(self.slots.values())].tolist()))
        self.model_version = model_version
        self.retired = frozenset(retired)
        self.vectors = np.zeros((len(self.bases), self.catalogue.dimension), np.float32)

    def fit_dimension(self) -> None:
        """Widen the vectors once the catalogue's first item has said how wide they are."""
        if self.catalogue.dimension and self.vectors.shape[1] != self.catalogue.dimension:
            if self.vectors.any():
                raise self._other_model("stored profiles", f"{self.vectors.shape[1]} dimensions")
            self.vectors = np.zeros((len(self.bases), self.catalogue.dimension), np.float32)

    def load(
        self,
        wanted: Iterable[tuple[str, int]],
        read: Callable[[Sequence[str]], list[ProfileRow]],
        batch: int,
        flushed: int,
    ) -> None:
        """Bring users into the cache: one read for all that are missing; new users start empty.

        Args:
            wanted: (user id, partition of the record).
            read: rows of the store.
            batch: number of this batch; its users are not evicted.
            flushed: number of the last flush that has landed.

        Raises:
            Inconsistent: a stored user belongs to another partition, or was written by a newer release.
        """
        missing: dict[str, int] = {}
        for user_id, partition in wanted:
            slot = self.slots.get(user_id)
            if slot is None:
                if missing.setdefault(user_id, partition) != partition:
                    raise self._moved(user_id, missing[user_id], partition)
            else:
                self.used[slot] = batch
                if self.partitions[slot] != partition:
                    raise self._moved(user_id, int(self.partitions[slot]), partition)
        if not missing:
            return
        stored = {row.user_id: row for row in read(list(missing))}
        self._make_room(len(missing), batch, flushed)
        for user_id, partition in missing.items():
            row = stored.get(user_id)
            if row is not None and row.partition != partition:
                raise self._moved(user_id, row.partition, partition)
            slot = self._take(user_id, partition)
            self.used[slot] = batch
            if row is not None:
                self._fill(slot, row)

    @staticmethod
    def _moved(user_id: str, stored: int, partition: int) -> Inconsistent:
        return Inconsistent(
            f"user {user_id!r} is stored for partition {stored} and has an event in partition {partition}: all of a "
            "user's events must be in one partition. Either a producer uses another partitioner, or the partition "
            "count of the topic has changed; `upwell rebase` moves the stored state"
        )

    def apply(
        self, slot: int, event: int, item_id: str, time: int, logged: int, weight: float, keep: int, window_ms: float
    ) -> bool:
        """Apply one event to a profile, in log order.

        Args:
            event: xxh3 of the event id.
            time, logged: event time and log time, ms.
            keep, window_ms: the dedupe window.

        Returns:
            False where the event is a duplicate, and nothing was changed.
        """
        history = self.histories[slot]
        if event in history.hashes:
            return False
        weight = float(np.float32(weight))  # as the history keeps it: a waiting event adds the same later
        size = history.size
        row = self.catalogue.find(item_id)
        item = key64(item_id)
        known = row >= 0 and bool(self.catalogue.known[row])
        history.add(event, item, time, logged, weight, row, known, keep, window_ms)
        self.forgotten += size + 1 - history.size
        if known:
            if weight:
                base, factor = decay(time, self.half_life_ms)
                add(self.vectors, self.bases, slot, self.catalogue.vectors[row], weight, base, factor)
        else:
            self.waiting.setdefault(item, set()).add(slot)
        self.versions[slot] += 1
        self.revisions[slot] = 0
        self.event_times[slot] = max(self.event_times[slot], time)
        return True

    def arrived(self, item_id: str) -> list[int]:
        """An item's vector is known now: apply the events that waited for it. Returns the slots that changed."""
        item = key64(item_id)
        slots = sorted(self.waiting.pop(item, ()))
        for slot in slots:
            self._apply_waiting(slot, item, self.catalogue.row(item_id))
        return slots

    def _apply_waiting(self, slot: int, item: int, row: int) -> None:
        for event in self.histories[slot].mark_applied(item, row):
            if event["weight"]:
                base, factor = decay(int(event["time"]), self.half_life_ms)
                add(self.vectors, self.bases, slot, self.catalogue.vectors[row], float(event["weight"]), base, factor)

    def show(self, slot: int, shown: Shown, keep: int) -> None:
        self.slates[slot] = [*self.slates[slot][-(keep - 1) :], shown] if keep > 1 else [shown]

    def copy(self, slot: int) -> ProfileRow:
        """The user's state, for the write-behind: shares no memory with the cache."""
        slates = self.slates[slot]
        return ProfileRow(
            user_id=self.user_ids[slot],
            partition=int(self.partitions[slot]),
            generation=int(self.generations[slot]),
            version=int(self.versions[slot]),
            revision=int(self.revisions[slot]),
            event_time=int(self.event_times[slot]),
            base=int(self.bases[slot]),
            half_life_ms=self.half_life_ms,
            # pgvector has no empty vector: before the first item is known one zero stands for it.
            vector=self.vectors[slot].copy() if self.vectors.shape[1] else np.zeros(1, np.float32),
            events=self.histories[slot].pack(),
            slates=_encode_slates(slates),
            slate_items=[item for item, _ in slates[-1].items] if slates else [],
            triggered=self.triggered[slot],
            reactions=msgspec.json.encode(self.reactions[slot]),
            segments=self.segments[slot],
        )

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget all users of these partitions: they are another worker's, or must be read back."""
        gone = set(partitions)
        for user_id, slot in list(self.slots.items()):
            if int(self.partitions[slot]) in gone:
                self._release(user_id, slot)

    def _fill(self, slot: int, row: ProfileRow) -> None:
        if row.state_version > STATE_VERSION:
            raise Inconsistent(
                f"the profile of {row.user_id!r} has state version {row.state_version}, this release knows "
                f"{STATE_VERSION}: run the newer release"
            )
        if row.half_life_ms != self.half_life_ms:
            raise Inconsistent(
                f"profiles.half_life_days is {self.half_life_ms / DAY_MS:g}, the stored profiles were made with "
                f"{row.half_life_ms / DAY_MS:g}: put it back, or start with a new group prefix and schema"
            )
        stale = bool(row.model_version and self.model_version and row.model_version != self.model_version)
        if stale and row.model_version not in self.retired:
            raise self._other_model(f"the profile of {row.user_id!r}", row.model_version)
        if row.vector.any() and not stale:
            if self.vectors.shape[1] == 0:  # no item is known yet, and profiles have been
                self.vectors = np.zeros((len(self.bases), len(row.vector)), np.float32)
            if len(row.vector) != self.vectors.shape[1]:
                raise self._other_model(f"the profile of {row.user_id!r}", f"{len(row.vector)} dimensions")
            self.vectors[slot] = row.vector
        self.bases[slot] = row.base
        self.generations[slot] = row.generation
        self.versions[slot] = row.version
        self.revisions[slot] = row.revision
        self.event_times[slot] = row.event_time
        self.triggered[slot] = row.triggered
        self.slates[slot] = _decode_slates(row.slates)
        self.reactions[slot] = _decode_reactions(row.reactions)
        self.segments[slot] = tuple(row.segments)
        history = self.histories[slot] = History.unpack(row.events)
        self._learn_hashes()
        events = history.events()
        rows = np.fromiter((self._hashes.get(key, -1) for key in events["item"].tolist()), np.int32, len(events))
        history.set_rows(rows)
        if stale:
            self._rebuild(slot, history, rows)
            events = history.events()
        self.ranker.recall(self.recent, slot, events)
        for index in np.flatnonzero(events["applied"] == 0):
            item, found = int(events["item"][index]), int(rows[index])
            if found >= 0 and self.catalogue.known[found]:
                self._apply_waiting(slot, item, found)
            else:
                self.waiting.setdefault(item, set()).add(slot)

    def _rebuild(self, slot: int, history: History, rows: NDArray[np.int32]) -> None:
        """The profile of a history just unpacked, under the model of the catalogue: the same sum of other vectors.

        What has left the history is not in it: it weighs little, or the user has more events than are kept.
        """
        self.rebuilt += 1
        events = history.events()
        known = (rows >= 0) & self.catalogue.known[np.maximum(rows, 0)]
        self.bases[slot] = EMPTY_BASE
        for event, row, here in zip(events, rows.tolist(), known.tolist(), strict=True):
            if here and event["weight"]:
                base, factor = decay(int(event["time"]), self.half_life_ms)
                add(self.vectors, self.bases, slot, self.catalogue.vectors[row], float(event["weight"]), base, factor)
        history.mark_all(known)

    def _other_model(self, whose: str, made_with: str) -> OtherModel:
        return OtherModel(
            f"{whose}: made with {made_with}, the items have {self.model_version}, {self.catalogue.dimension} "
            "dimensions: the encoder was changed under stored profiles. Put the old model back, or start with a new "
            "group prefix, schema and topics",
            made_with,
        )

    def _learn_hashes(self) -> None:
        ids = self.catalogue.ids
        for row in range(self._hashed, len(ids)):
            self._hashes[key64(ids[row])] = row
        self._hashed = len(ids)

    def _take(self, user_id: str, partition: int) -> int:
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.slots[user_id] = slot
        self.user_ids[slot] = user_id
        self.partitions[slot] = partition
        self.vectors[slot] = 0
        self.bases[slot] = EMPTY_BASE
        self.generations[slot] = self.versions[slot] = self.revisions[slot] = self.event_times[slot] = 0
        self.changed[slot] = NEVER
        self.histories[slot] = History()
        self.slates[slot] = []
        self.triggered[slot] = None
        self.reactions[slot] = {}
        self.segments[slot] = ()
        self.recent.events[slot] = 0
        return slot

    def _release(self, user_id: str, slot: int) -> None:
        events = self.histories[slot].events()
        for item in events["item"][events["applied"] == 0].tolist():
            slots = self.waiting.get(item)
            if slots is not None:
                slots.discard(slot)
                if not slots:
                    del self.waiting[item]
        del self.slots[user_id]
        self.histories[slot] = History()
        self.slates[slot] = []
        self._free.append(slot)

    def _make_room(self, count: int, batch: int, flushed: int) -> None:
        over = len(self.slots) + count - self.capacity
        if over <= 0:
            return
        held = np.fromiter(self.slots.values(), np.int64, len(self.slots))
        clean = held[(self.changed[held] <= flushed) & (self.used[held] < batch)]
        # A sixteenth more than needed, so that the next batch need not search again.
        oldest = clean[np.argsort(self.used[clean], kind="stable")][: over + self.capacity // 16]
        for slot in oldest.tolist():
            self._release(self.user_ids[slot], slot)

    def _grow(self) -> None:
        old = len(self.bases)
        more = max(1024, old)

        def wider(array: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])

        self.vectors, self.bases = wider(self.vectors), wider(self.bases)
        self.generations, self.versions, self.revisions = (
            wider(self.generations), wider(self.versions), wider(self.revisions),
        )  # fmt: skip
        self.event_times, self.partitions = wider(self.event_times), wider(self.partitions)
        self.recent = Recent(*(wider(held) for held in self.recent))
        self.used, self.changed = wider(self.used), wider(self.changed)
        self.user_ids += [""] * more
        self.histories += [History()] * more
        self.slates += [[]] * more
        self.triggered += [None] * more
        self.reactions += [{}] * more
        self.segments += [()] * more
        self._free += range(old + more - 1, old - 1, -1)
