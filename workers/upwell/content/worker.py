"""`content-triggers` and `requests` in, `contents` and dead letters out: each trigger ends exactly once.

Read from top to bottom: `run` opens the parts, `Pipeline.step` is what happens again and again. Reading, waiting and
expiry go on while the model writes, and while media are made of what it wrote. A result is stored under its trigger's id and place first; then it is published in
the transaction that commits which triggers have ended: a crash may generate twice, never publish twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog
from confluent_kafka import Message

from upwell.bus import topics
from upwell.bus.bad_data import BadData, at
from upwell.bus.consumer import Batch, Partition, TransactionalConsumer
from upwell.bus.dead_letters import dead_letter
from upwell.bus.errors import Aborted
from upwell.bus.headers import Headers, trace
from upwell.bus.suspects import ATTEMPTS, MOST_IN_A_ROW, NO_RECORDS_FAULT, words
from upwell.bus.topics import TRIGGERS, Topic
from upwell.bus.transactions import Output
from upwell.content.asking import trigger_of
from upwell.content.plan import PRIORITIES, TEXT, Budget, Outcome, Pending, Waiting, together
from upwell.content.progress import MOST_AHEAD, Progress
from upwell.content.relevance import Relevance
from upwell.content.safety import Gate
from upwell.content.served import gate_of, writer_of
from upwell.content.writing import Answer, Writer, Written
from upwell.events import validate
from upwell.events.codec import encode
from upwell.lifecycle import Stop
from upwell.media.store import MediaStore, open_store
from upwell.settings import Settings
from upwell.store import database
from upwell.store.contents import ContentStore, Result, Stored
from upwell.telemetry import metrics

if TYPE_CHECKING:
    from upwell.content.studio import Studio

log = structlog.get_logger("upwell.content")

WORKER: Final = "content"
RESTED: Final = 0.25
"""The model must have rested so long, in units of its last writing, before texts are asked for to choose from: where it
hardly rests, a choice would cost others their text."""
READ: Final = 500
"""Records of one poll."""
MOST_WAITING: Final = 10_000
"""Triggers held in memory; beyond it only urgent ones are read."""
MOST_REQUESTS: Final = 2_000
IDLE_S: Final = 0.25
BUSY_S: Final = 0.05
GATHER_MS: Final = 50
"""A batch that is not full waits this long for more: the model takes hardly longer for eight than for one."""
COMMIT_SKIPS_MS: Final = 250
"""Skips are committed together; contents at once."""
POSTGRES_PAUSE_MS: Final = 1_000
LEAVE_S: Final = 30.0
"""Longest wait for the texts in hand when asked to stop."""


def run(settings: Settings, slot: int, stop: Stop, metrics_port: int = 0) -> None:
    """Run the worker until `stop`.

    Raises:
        Fenced, Unavailable, Inconsistent: see `upwell.bus.errors`.
    """
    generator, gate = writer_of(settings), gate_of(settings)
    media_store = open_store(settings.media)
    with database.pool(settings.postgres) as connections:
        store = ContentStore(connections)
        relevance = Relevance(settings.triton)
        writer = Writer(store, generator, gate, relevance, settings.content)
        studio = Atelier(settings, media_store, store, gate) if media_store is not None else None
        pipeline = Pipeline(settings, slot, store, writer, studio)
        log.info("ready", metrics_port=metrics_port)
        try:
            while not stop:
                pipeline.step()
            pipeline.finish()
        finally:
            generator.close()
            pipeline.close()
            relevance.close()
            if studio is not None:
                studio.close()
            gate.close()
    log.info("stopped")


class Atelier:
    """The studio, opened when the first media are asked for: what it needs takes time to import and memory to hold."""

    def __init__(self, settings: Settings, media_store: MediaStore, store: ContentStore, gate: Gate) -> None:
        self._parts = (settings, media_store, store, gate)
        self._studio: Studio | None = None

    def illustrate(self, answer: Answer) -> Answer:
        """As `Studio.illustrate`. Of one thread."""
        if self._studio is None:
            from upwell.content.studio import Studio

            self._studio = Studio(*self._parts)
        return self._studio.illustrate(answer)

    def close(self) -> None:
        if self._studio is not None:
            self._studio.close()


@dataclass(slots=True)
class Flight:
    """Triggers that are being answered."""

    batch: list[Pending]
    future: Future[Written]
    began: int
    """ms since the epoch."""


class Pipeline:
    """Owner of its partitions' progress. One thread; three more work: one writes with the model, one without, and one
    makes media.
    """

    def __init__(
        self, settings: Settings, slot: int, store: ContentStore, writer: Writer, studio: Atelier | None
    ) -> None:
        kafka, content = settings.kafka, settings.content
        self.content = content
        self.store = store
        self.writer = writer
        self.studio = studio
        """None where there is no store of media: what asks for them goes to the dead letters."""
        self.bad_data = BadData(WORKER, settings.dead_letters)
        self.rules = validate.Rules.of(settings)
        self.priorities = {topics.real(kafka, topic): name for name, topic in TRIGGERS.items()}
        self.requests_topic = topics.real(kafka, Topic.REQUESTS)
        self.contents_topic = topics.real(kafka, Topic.CONTENTS)
        self.max_wait_ms = int(content.max_wait_s * 1000)
        self.waiting = Waiting(self.max_wait_ms)
        self.budget = Budget(content.tokens_per_second, content.burst_tokens, content.max_tokens, _now())
        self.progress: dict[Partition, Progress] = {}
        self.unpublished: dict[Partition, dict[int, Stored]] = {}
        """Results stored before a crash or an abort: published when their trigger is read again."""
        self.epochs: dict[Partition, int] = {}
        self.paused: set[Partition] = set()
        self.flight: Flight | None = None
        self.landed = self.took = 0
        """When the last one ended, and how long it took, ms."""
        self.gathering_since = 0
        self.late: list[Pending] = []
        """Requests that waited too long for the model: the template answers."""
        self.late_flight: Flight | None = None
        self.unmade: list[Answer] = []
        """Written answers that ask for media."""
        self.making: tuple[Answer, Future[Answer]] | None = None
        self.unstored: list[Answer] = []
        self.failed_in_a_row = 0
        self.outputs: list[tuple[Partition, Output]] = []
        self.changed: set[Partition] = set()
        """Partitions with triggers that ended since the last commit."""
        self.outcomes: list[tuple[Partition, str]] = []
        self.group_metadata: Any = None
        self.committed_at = 0
        self.postgres_again = 0
        self.threads = ThreadPoolExecutor(3, thread_name_prefix="writer")
        self.bus = TransactionalConsumer(kafka, WORKER, slot, [*self.priorities, self.requests_topic], self)

    def step(self) -> None:
        """Read what there is, let go what is too late, take in what was written, start what can be, commit."""
        try:
            self._pause()
            busy = bool(
                self.flight or self.late_flight or self.making or len(self.waiting) or self.changed or self.unstored
            )
            batch = self.bus.poll(READ, BUSY_S if busy else IDLE_S)
            if batch is not None:
                self._admit(batch)
            for pending in self.waiting.overdue(_now()):
                if pending.request:
                    self.late.append(pending)
                else:
                    self._end(pending, Outcome.BUDGET)
            self._collect()
            self._start()
            self._commit()
        except Aborted as error:
            log.warning("batch.aborted", reason=str(error))
            metrics.ABORTS.labels(WORKER).inc()
            self.bus.resume()
            self.paused.clear()
            self.bad_data.forget()
            self.bus.restart()
        metrics.LAG.labels(WORKER).set(self.bus.lag() + len(self.waiting))

    # Ownership

    def takeover(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Read back which triggers have ended, and which results may not have been published."""
        self._drop(partitions)
        starts = {}
        for partition, (offset, text) in self.bus.committed(partitions).items():
            position = offset if offset is not None else self.bus.log_bounds(partition)[0]
            self.progress[partition] = Progress(position, text)
            self.epochs[partition] = self.epochs.get(partition, 0) + 1
            self.unpublished[partition] = self.store.stored_from(partition.topic, partition.number, position)
            starts[partition] = position
        metrics.TAKEOVERS.labels(WORKER).inc(len(partitions))
        return starts

    def release(self, partitions: Sequence[Partition], *, lost: bool) -> None:  # noqa: ARG002
        """Forget what is in hand: nothing of it was published, and the next owner finds what was stored."""
        self._drop(partitions)

    def _drop(self, partitions: Sequence[Partition]) -> None:
        gone = set(partitions)
        self.waiting.drop(gone)
        self.late = [pending for pending in self.late if pending.partition not in gone]
        self.unmade = [answer for answer in self.unmade if answer.pending.partition not in gone]
        self.unstored = [answer for answer in self.unstored if answer.pending.partition not in gone]
        self.outputs = [(partition, output) for partition, output in self.outputs if partition not in gone]
        self.outcomes = [(partition, outcome) for partition, outcome in self.outcomes if partition not in gone]
        self.changed -= gone
        self.paused -= gone
        for partition in gone:
            self.progress.pop(partition, None)
            self.unpublished.pop(partition, None)

    def _mine(self, pending: Pending) -> bool:
        return pending.partition in self.progress and self.epochs[pending.partition] == pending.epoch

    def _pause(self) -> None:
        """Read no further where too much waits, or where the commit would have too much to say."""
        crowded = len(self.waiting) > MOST_WAITING
        asked = len(self.late) + len(self.unmade) > MOST_REQUESTS or (
            len(self.waiting) > MOST_REQUESTS and self.waiting.requests() > MOST_REQUESTS
        )
        wanted = set()
        for partition, progress in self.progress.items():
            full = progress.ahead + READ > MOST_AHEAD
            held = (
                asked
                if partition.topic == self.requests_topic
                else crowded and self.priorities[partition.topic] != "high"
            )
            if full or held:
                wanted.add(partition)
        if wanted != self.paused:
            self.bus.pause(wanted - self.paused)
            self.bus.resume(self.paused - wanted)
            self.paused = wanted

    # In

    def _admit(self, batch: Batch) -> None:
        self.group_metadata = batch.group_metadata
        metrics.RECORDS.labels(WORKER).inc(len(batch.records))
        metrics.BATCH_RECORDS.labels(WORKER).observe(len(batch.records))
        now, latest = _now(), self.rules.latest()
        refused: list[int] = []
        why = ""
        for number, message in enumerate(batch.records):
            partition = Partition(message.topic(), message.partition())
            progress = self.progress[partition]
            if not progress.read(message.offset()):
                self.changed.add(partition)
                continue
            try:
                pending = self._pending(message, partition, now, latest)
            except validate.InvalidRecord as error:
                self._refuse(message, partition, error.step, str(error))
                refused.append(number)
                why = at(message, str(error))
                continue
            stored = self.unpublished[partition].pop(message.offset(), None)
            # Another trigger's result stands there where the topic has been created anew.
            if stored is not None and stored.trigger_id == pending.trigger.trigger_id:
                key = pending.trigger.user_id.encode()
                self._publish(partition, message.offset(), stored.source, key, stored.payload, pending.headers)
                continue
            for ended, outcome in self.waiting.add(pending, now):
                self._end(ended, outcome)
        self.bad_data.check(len(batch.records), refused, why)
        self.bad_data.passed()

    def _pending(self, message: Message, partition: Partition, now: int, latest: int) -> Pending:
        if partition.topic == self.requests_topic:
            request = validate.request(message.key(), message.value(), self.rules, latest)
            trigger = trigger_of(request, now)
            priority = PRIORITIES["high"]
        else:
            trigger = validate.trigger(message.key(), message.value(), self.rules)
            priority = PRIORITIES[self.priorities[partition.topic]]
        if trigger.format != TEXT and self.studio is None:
            raise validate.InvalidRecord(
                f"media.store is not set, so there is nowhere to put a {trigger.format}: set it, or ask for format text"
            )
        return Pending(
            trigger, partition, message.offset(), priority, now,
            message=message, headers=trace(message), epoch=self.epochs[partition],
        )  # fmt: skip

    # Answers

    def _start(self) -> None:
        now = _now()
        if now < self.postgres_again:
            return
        if self.flight is None and len(self.waiting):
            self.gathering_since = self.gathering_since or now
            if len(self.waiting) >= self.content.batch or now - self.gathering_since >= GATHER_MS:
                self._take(now)
        if self.late_flight is None and self.late:
            batch = together(self.late[:READ])
            self.late = self.late[len(batch) :]
            self.late_flight = Flight(batch, self.threads.submit(self.writer.write, batch, model=False), now)
        if self.making is None and self.unmade and self.studio is not None:
            answer = self.unmade.pop(0)
            self.making = (answer, self.threads.submit(self.studio.illustrate, answer))

    def _take(self, now: int) -> None:
        """Start the most urgent ones that the budget allows; requests are answered on credit."""
        most = self.content.batch
        affordable = min(most, self.budget.answers(now))
        if affordable < most:
            affordable = max(affordable, min(most, self.waiting.requests()))
        batch = self.waiting.take(affordable)
        if batch:
            self.gathering_since = 0
            # Several candidates are for times when nobody waits for them, and for a model that is idle half of its time.
            rested = now - self.landed >= RESTED * self.took
            spare = self.budget.spare(len(batch), now) if rested and not len(self.waiting) else 0
            self.flight = Flight(batch, self.threads.submit(self.writer.write, batch, spare=spare), now)

    def _collect(self) -> None:
        if self.flight is not None and self.flight.future.done():
            flight, self.flight = self.flight, None
            self.landed = _now()
            self.took = self.landed - flight.began
            written = self._written(flight)
            if written is None:
                for pending in flight.batch:
                    if self._mine(pending) and not self._given_up(pending):
                        for ended, outcome in self.waiting.add(pending, _now()):
                            self._end(ended, outcome)
            else:
                # Templates in place of the model spend what the model would have: it is no reason to answer more.
                answers = sum(1 for answer in written.answers if answer.content)
                tokens = written.tokens if written.answered else int(answers * self.budget.cost)
                self.budget.spend(tokens, written.texts, _now())
        if self.late_flight is not None and self.late_flight.future.done():
            flight, self.late_flight = self.late_flight, None
            if self._written(flight) is None:
                again = [pending for pending in flight.batch if self._mine(pending) and not self._given_up(pending)]
                self.late = again + self.late
        if self.making is not None and self.making[1].done():
            (answer, future), self.making = self.making, None
            self._made(answer, future)

    def _written(self, flight: Flight) -> Written | None:
        """What was written, noted for the store; None where the batch failed, or the facts could not be read."""
        try:
            written = flight.future.result()
        except psycopg.OperationalError as error:
            self._postgres_down(error)
            return None
        except Exception as error:
            self._failed(flight.batch, error)
            return None
        self.failed_in_a_row = 0
        for answer in written.answers:
            if self._mine(answer.pending):
                asks = answer.content is not None and answer.pending.trigger.format != TEXT
                (self.unmade if asks else self.unstored).append(answer)
        return written

    def _made(self, answer: Answer, future: Future[Answer]) -> None:
        """Note what was made for the store; where that failed it is tried again."""
        if not self._mine(answer.pending):
            return
        try:
            self.unstored.append(future.result())
            self.failed_in_a_row = 0
            return
        except psycopg.OperationalError as error:
            self._postgres_down(error)
        except Exception as error:
            self._failed([answer.pending], error)
        if not self._given_up(answer.pending):
            self.unmade.insert(0, answer)

    def _failed(self, batch: Sequence[Pending], error: Exception) -> None:
        """A batch failed for a reason that nobody knows: each of it is tried again alone, then refused.

        Raises:
            The error itself, where no record can be to blame, or nothing else is answered any more.
        """
        if isinstance(error, NO_RECORDS_FAULT) or self.failed_in_a_row >= MOST_IN_A_ROW:
            raise error
        log.warning("batch.failed", triggers=len(batch), error=words(error), again="alone")
        for pending in batch:
            pending.failures += 1
            pending.failure = words(error)
        if len(batch) == 1 and batch[0].failures >= ATTEMPTS:
            self.failed_in_a_row += 1
            log.error("record.condemned", trigger_id=batch[0].trigger.trigger_id, exc_info=error)

    def _given_up(self, pending: Pending) -> bool:
        """Whether it has failed too often; it is in the dead letters then."""
        if pending.failures < ATTEMPTS:
            return False
        self._refuse(
            pending.message, pending.partition, "process", f"failed {pending.failures} times: {pending.failure}"
        )
        return True

    def _postgres_down(self, error: Exception) -> None:
        log.warning("postgres.waiting", error=str(error).strip())
        self.postgres_again = _now() + POSTGRES_PAUSE_MS

    # Out

    def _commit(self) -> None:
        """Store, then publish what was stored, with which triggers have ended by that."""
        if self.unstored and _now() >= self.postgres_again:
            try:
                self._store_all()
            except psycopg.OperationalError as error:
                self._postgres_down(error)
        now = _now()
        if not self.changed or not (self.outputs or now - self.committed_at >= COMMIT_SKIPS_MS):
            return
        positions = {partition: self.progress[partition].position for partition in self.changed}
        texts = {partition: self.progress[partition].text() for partition in self.changed}
        with metrics.STAGE_SECONDS.labels(WORKER, "commit").time():
            self.bus.commit(Batch([], positions, self.group_metadata), [output for _, output in self.outputs], texts)
        for _, output in self.outputs:
            metrics.OUTPUTS.labels(WORKER, output.topic).inc()
        for _, outcome in self.outcomes:
            metrics.CONTENT_OUTCOMES.labels(outcome).inc()
        self.committed_at = now
        self.outputs, self.outcomes = [], []
        self.changed.clear()

    def _store_all(self) -> None:
        """Store what was written, together; one by one where that fails for a reason that nobody knows."""
        try:
            self._store(self.unstored)
        except (psycopg.OperationalError, *NO_RECORDS_FAULT):
            raise
        except Exception as error:
            log.warning("store.failed", answers=len(self.unstored), error=words(error), again="alone")
            while self.unstored:
                answer = self.unstored[0]
                try:
                    self._store([answer])
                except (psycopg.OperationalError, *NO_RECORDS_FAULT):
                    raise
                except Exception as own:
                    self._failed([answer.pending], own)
                    if not self._given_up(answer.pending):
                        continue
                self.unstored = self.unstored[1:]
        self.unstored = []

    def _store(self, answers: Sequence[Answer]) -> None:
        results: dict[str, Result] = {}
        for answer in answers:
            pending, content = answer.pending, answer.content
            # Of two in one batch the first one stands.
            if content is not None and pending.trigger.trigger_id not in results:
                results[pending.trigger.trigger_id] = Result(
                    content.trigger_id, content.content_id, content.user_id, content.source, encode(content),
                    *pending.partition, pending.offset,
                )  # fmt: skip
        with metrics.STAGE_SECONDS.labels(WORKER, "store").time():
            earlier = self.store.insert(list(results.values()))
        for answer in answers:
            pending = answer.pending
            key = pending.trigger.user_id.encode()
            place = (*pending.partition, pending.offset)
            if answer.outcome == Outcome.REFUSED:
                self._refuse(pending.message, pending.partition, "answer", answer.reason)
            elif (ready := answer.stored) is not None:
                self._publish(pending.partition, pending.offset, ready.source, key, ready.payload, pending.headers)
            elif answer.content is None:
                self._end(pending, answer.outcome)
            elif (stored := earlier.get(pending.trigger.trigger_id)) is not None:
                if stored.place == place:
                    self._publish(
                        pending.partition, pending.offset, stored.source, key, stored.payload, pending.headers
                    )
                else:
                    self._end(pending, Outcome.DUPLICATE)
            elif (result := results[pending.trigger.trigger_id]).offset == pending.offset and place[:2] == (
                result.topic, result.partition,
            ):  # fmt: skip
                self._publish(pending.partition, pending.offset, result.source, key, result.payload, pending.headers)
            else:
                self._end(pending, Outcome.DUPLICATE)

    def _publish(
        self, partition: Partition, offset: int, source: str, key: bytes | None, payload: bytes,
        headers: Headers | None,
    ) -> None:  # fmt: skip
        self.outputs.append((partition, Output(self.contents_topic, key, payload, headers)))
        self._ended(partition, offset, Outcome.GENERATED if source == "model" else Outcome.TEMPLATE)

    def _refuse(self, message: Message, partition: Partition, step: str, reason: str) -> None:
        log.info("dead_letter", step=step, reason=reason, topic=partition.topic, offset=message.offset())
        metrics.DEAD_LETTERS.labels(WORKER, step).inc()
        self.outputs.append((partition, dead_letter(message, step, reason)))
        self._ended(partition, message.offset(), Outcome.REFUSED)

    def _end(self, pending: Pending, outcome: str) -> None:
        if self._mine(pending):
            self._ended(pending.partition, pending.offset, outcome)

    def _ended(self, partition: Partition, offset: int, outcome: str) -> None:
        self.progress[partition].end(offset, outcome)
        self.changed.add(partition)
        self.outcomes.append((partition, outcome))

    # End

    def finish(self) -> None:
        """Publish the texts in hand, and what has ended; what still waits is read again."""
        flights: list[Future[Any]] = [flight.future for flight in (self.flight, self.late_flight) if flight is not None]
        flights += [self.making[1]] if self.making is not None else []
        wait(flights, LEAVE_S)
        self.committed_at = 0
        try:
            self._collect()
            self._commit()
        except Aborted as error:
            log.warning("batch.aborted", reason=str(error))

    def close(self) -> None:
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.bus.close()


def _now() -> int:
    return time.time_ns() // 1_000_000
