"""What both forms of a consumer have in common: a member of a group that reads topics.

The two forms are `Consumer`, which blocks, and `AsyncConsumer`, which calls the same methods in a thread. They differ
only in how they iterate and wait. `progress` decides how far the consumer is, and what a rebalance means for that. This
module does the rest: it calls librdkafka, and has the callbacks that librdkafka makes within a poll when partitions
come and go.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_STORED,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka import Consumer as RawConsumer
from typing_extensions import TypeVar

from headwater.client.arrivals import Arrivals, arrivals
from headwater.client.closed import Closed
from headwater.client.connections import make_client
from headwater.client.errors import (
    ClientError,
    ConfigurationError,
    ConsumerClosedError,
    client_error,
    raise_interrupt,
    translate,
)
from headwater.client.group_settings import GroupSettings, checked_batch_max
from headwater.client.leaving import CLOSE_TIMEOUT_MS, leave
from headwater.client.names import checked_subscription, checked_timeout_ms
from headwater.client.offsets import Place
from headwater.client.pauses import Pauses
from headwater.client.positions import (
    Partition,
    as_partitions,
    committed_offsets,
    committed_or_start,
    lags,
    place_of,
    positions_at,
    seek,
    seek_each,
)
from headwater.client.progress import Fetching, Input, Progress
from headwater.effects.clock import Clock, SystemClock, seconds_of
from headwater.events.event import Event, event_maker
from headwater.events.serializers import as_serializer

logger = logging.getLogger(__name__)
Value = TypeVar("Value", default=Any)
OnPartitions = Callable[[list[Partition]], object]
BY_CONTENT_TYPE = event_maker(as_serializer(None), as_serializer(str))
BATCH_MAX = 500
POLL_S = 0.1
CALL_TIMEOUT_S = 30.0
ASSIGN_TIMEOUT_S, JOIN_TIMEOUT_MS = 0.5, 10_000.0
SETTLE_TIMEOUT_S, SETTLE_TIMEOUT_S_MAX = 0.1, 4.0
PASSING = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT})


class GroupReader(Generic[Value]):
    """See the module's docstring; `Consumer` says what the parameters mean. `callbacks` are for partitions that are assigned,
    revoked and lost. Raises ConfigurationError.
    """

    def __init__(
        self,
        member: GroupSettings,
        topics: str | Sequence[str],
        event: Callable[[Message], Event[Value]] = BY_CONTENT_TYPE,
        *,
        batch_max: int = BATCH_MAX,
        idle_timeout_ms: float | None = None,
        callbacks: tuple[OnPartitions | None, ...] = (None, None, None),
        clock: Clock | None = None,
    ) -> None:
        self.notes, self.broker, self.group, self.settings = member.notes, member.broker, member.group, member.given
        self.topics, self.event, self.callbacks = checked_subscription(topics), event, callbacks
        self.what = f"reading {', '.join(self.topics)} as group {self.group}"
        self.start, self.is_incremental = member.start, member.is_incremental
        self.commits_by_itself, self.keep_alive_ms = member.commits_by_itself, member.keep_alive_ms
        self.batch_max, self.idle_timeout_ms = checked_batch_max(batch_max), idle_timeout_ms
        if idle_timeout_ms is not None:
            checked_timeout_ms(idle_timeout_ms, "idle_timeout_ms")
        self.clock: Clock = clock or SystemClock()
        self.now_s = seconds_of(self.clock)
        self.note_poll()
        self.progress: Progress[Message] = Progress(
            commits_by_itself=member.commits_by_itself,
            keeps_firsts=member.start != OFFSET_BEGINNING,
            is_of_one_topic=len(self.topics) == 1 and not self.topics[0].startswith("^"),
            now_ms=self.polled_ms,
        )
        self.settle_ms, self.settle_timeout_s = self.polled_ms, SETTLE_TIMEOUT_S
        self.joined_ms = self.polled_ms + JOIN_TIMEOUT_MS  # when it got its first partitions; this at the latest
        self.error: ClientError | None = None  # raised after the messages that have yet to be handed over
        self.absent: ClientError | None = None  # a topic was missing; it may be created later
        self.is_closed, self.fetching, self.pauses = False, Fetching(), Pauses()
        self.is_stopping, self.stopping = False, threading.Event()  # to look at for each event, and to wait for
        self.raw: Any = make_client(RawConsumer, member.settings, "the consumer", self.notes)
        self.subscribe()

    def subscribe(self) -> None:
        try:
            self.raw.subscribe(self.topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        except KafkaException as error:
            self.raw.close()
            raise translate(error, f"subscribing to {', '.join(self.topics)}", ConfigurationError) from error

    # -- rebalances; librdkafka calls within a poll

    def assigned(self, raw: RawConsumer, partitions: list[TopicPartition]) -> None:
        self.joined_ms = min(self.joined_ms, self.clock.steady_ms())
        is_known = self.start is None or self.assign_from(raw, partitions, self.start)
        self.progress.assign(map(place_of, partitions), is_known=is_known)
        self.tell(0, partitions)

    def assign_from(self, raw: RawConsumer, partitions: list[TopicPartition], start: int) -> bool:
        """Begins at the group's position, or at `start` as it is now. Returns False if the position cannot be found out.

        librdkafka would look it up by itself, but a tenth of a second later, and then "latest" would be later too. And
        if a transaction is about to commit a position, librdkafka waits a second and then begins at the start: events
        would be copied twice.
        """
        is_known = True
        try:
            positions = committed_or_start(raw, partitions, start, ASSIGN_TIMEOUT_S)
        except KafkaException as error:
            self.notes(error.args[0])
            positions = [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
            is_known = False
        if self.is_incremental:
            raw.incremental_assign(positions)
        else:
            raw.assign(positions)
        self.pauses.pause_again(raw, partitions)
        return is_known

    def revoked(self, raw: RawConsumer, partitions: list[TopicPartition]) -> None:
        self.store(self.progress.before_leaving(self.polled_ms))
        self.progress.revoke(set(map(place_of, partitions)))
        self.tell(1, partitions)

    def lost(self, raw: RawConsumer, partitions: list[TopicPartition]) -> None:
        self.progress.revoke(set(map(place_of, partitions)))
        self.tell(2, partitions)

    def tell(self, which: int, partitions: list[TopicPartition]) -> None:
        if (callback := self.callbacks[which]) is not None and partitions:
            callback(as_partitions(partitions))

    # -- reading

    def fetch(self, number_max: int, timeout_s: float) -> list[Message]:
        """The next messages, after everything before counts as handled. Raises ClientError."""
        self.check_open()
        self.confirm_batch()
        if messages := self.progress.begin_ahead(number_max):
            return messages
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        with self.fetching as was_interrupted:
            if was_interrupted:  # what librdkafka handed over then is lost: it is read again
                self.settle_ms = self.clock.steady_ms()
                self.progress.change(seek_each(self.raw, self.progress.repeat()), Input.REWOUND)
            messages = self.fetch_new(number_max, timeout_s)
            self.progress.begin(messages)
        return messages

    def fetch_new(self, number_max: int, timeout_s: float) -> list[Message]:
        self.progress.empty()
        try:
            if self.progress.unknown:
                self.settle()
            messages = self.poll(number_max, timeout_s)
        except KafkaException as error:
            raise translate(error, self.what) from error
        except SystemError as error:
            raise_interrupt(error)
        finally:
            self.note_poll()
        found = arrivals(messages)
        self.note(found)
        messages = self.progress.take(found.messages, found.ends)
        if messages:
            self.notes.log.broker_is_back()
        else:
            self.notes.look_for_broker(self.raw.list_topics)
        if not messages and self.notes.refusal is not None:
            refusal, self.notes.refusal = self.notes.refusal, None
            raise client_error(refusal, self.what)
        return messages

    def poll(self, number_max: int, timeout_s: float) -> list[Message]:
        """Returns the messages that are there, or waits for one: with a timeout, `consume` would wait for all of them."""
        ready: list[Message] = self.raw.consume(number_max, 0)
        if ready:
            return ready
        first = self.raw.poll(timeout_s)
        self.progress.empty()  # this call ends with its first message: a rebalance came before it
        return [] if first is None else [first]

    def settle(self) -> None:
        """Moves the partitions whose position is not known to the group's position. Raises KafkaException.

        If a transaction is about to commit a position, the broker holds back its answer for all partitions of the
        request. The events of other partitions must not wait for that, so at most half of the time is spent here.
        """
        progress = self.progress
        if self.clock.steady_ms() < self.settle_ms or self.go_to_committed(progress.unknown):
            return
        while len(progress.unknown) > 1 and self.go_to_committed(progress.unknown[:1]):
            pass
        progress.rotate_unknown()
        self.settle_ms = self.clock.steady_ms() + 2 * self.settle_timeout_s * 1000
        self.settle_timeout_s = min(2 * self.settle_timeout_s, SETTLE_TIMEOUT_S_MAX)

    def go_to_committed(self, places: list[Place]) -> bool:
        """Moves these partitions to the group's position. Returns False if that is not known or not possible yet."""
        found = committed_offsets(self.raw, [TopicPartition(*place) for place in places], self.settle_timeout_s)
        reached = []
        try:
            for position in found:
                place = place_of(position)
                if position.offset < 0:
                    # If no message has come yet, there is nothing to go back to.
                    position.offset = (
                        OFFSET_BEGINNING
                        if self.start == OFFSET_BEGINNING
                        else self.progress.firsts.get(place, OFFSET_STORED)
                    )
                if position.offset != OFFSET_STORED and not seek(self.raw, position):
                    return False
                reached.append(place)
        finally:
            self.progress.find(reached)
        return bool(found)

    def note(self, found: Arrivals) -> None:
        """Raises an error that does not pass by itself: at once, or after the messages that came with it."""
        for _, error in found.errors:
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self.absent = client_error(error, self.what)
            elif error.code() not in PASSING and not error.retriable():
                self.error = client_error(error, self.what)
        if self.error is not None and not found.messages:
            failure, self.error = self.error, None
            raise failure

    def message_batches(self, number_max: int) -> Iterator[list[Message]]:
        """Messages as they come, until `stop`, or until none has come for `idle_timeout_ms` (the first rebalance aside)."""
        self.check_open()
        idle_since_ms = self.clock.steady_ms()
        while not self.is_stopping:
            messages = self.fetch(number_max, POLL_S)
            if messages:
                yield messages
                idle_since_ms = self.clock.steady_ms()
            elif self.is_idle_since(idle_since_ms):
                return

    def is_idle_since(self, since_ms: float) -> bool:
        idle_ms = self.clock.steady_ms() - max(since_ms, self.joined_ms)
        return self.idle_timeout_ms is not None and idle_ms >= self.idle_timeout_ms

    def take(self, number: int, timeout_ms: float = 10_000.0) -> list[Event[Value]]:
        """The next `number` events, or fewer when no more come in time. They count as handled."""
        events: list[Event[Value]] = []
        deadline_ms = self.clock.steady_ms() + timeout_ms
        while len(events) < number and (left_ms := deadline_ms - self.clock.steady_ms()) > 0:
            messages = self.fetch(number - len(events), min(POLL_S, left_ms / 1000))
            events += [self.event(message) for message in messages]
            self.progress.deliver_all()
        self.confirm_batch()
        return events

    def keep_alive(self) -> None:
        """Keeps this consumer's membership alive while its handler takes long: a poll that returns nothing."""
        self.note_poll()
        self.pauses.poll_nothing(self.raw)

    def note_poll(self) -> None:
        """Works out when the next poll is due, so that a loop over events has only to compare."""
        self.polled_ms = self.clock.steady_ms()
        self.keep_alive_at_s = (self.polled_ms + self.keep_alive_ms) / 1000

    def stop(self) -> None:
        """Ends an iteration after the event that is being handled; from any thread."""
        self.is_stopping = True
        self.stopping.set()

    @contextmanager
    def giving_back(self) -> Iterator[None]:
        """If the block raises, the event that is being handled counts as not handed over: it comes again."""
        try:
            yield
        except BaseException:
            self.progress.give_back()
            raise

    # -- what is handled

    def confirm_batch(self) -> None:
        """Counts everything that was handed over as handled. The rest of the batch is handed over next."""
        self.progress.confirm()
        self.store(self.progress.due(self.polled_ms))

    def store(self, positions: dict[Place, int]) -> None:
        """Hands positions to librdkafka, which commits them now and then, and when partitions are given up."""
        if positions:
            try:
                self.raw.store_offsets(offsets=[TopicPartition(*place, offset) for place, offset in positions.items()])
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:  # the partition was taken away: another member handles it
                    raise translate(error, "storing positions") from error

    def handled_offsets(self) -> list[TopicPartition]:
        """The progress of this consumer that a transaction commits: everything that was handed over."""
        return [TopicPartition(*place, offset) for place, offset in self.progress.to_commit().items()]

    def confirmed(self) -> None:
        """What `handled_offsets` gave is committed."""
        self.progress.confirm_commit()

    @property
    def is_progress_lost(self) -> bool:
        """Whether a partition was taken away whose events were handed over and not committed."""
        return self.progress.is_lost

    def rewind(self) -> None:
        """Goes back to the committed positions: everything after them comes again."""
        self.progress.rewind()
        self.settle_ms, self.settle_timeout_s = self.clock.steady_ms(), SETTLE_TIMEOUT_S

    def commit(self) -> None:
        """Commits what is handled, the event that is being handled included. Raises ClientError."""
        self.check_open()
        if not (offsets := self.handled_offsets()):
            return
        try:
            self.raw.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise translate(error, f"committing for group {self.group}") from error
        self.confirmed()

    # -- positions

    def assignment(self) -> list[Partition]:
        """The partitions that this consumer has now."""
        return as_partitions(self.raw.assignment())

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Reads on from an offset; -2 is the beginning and -1 the end. Raises NotAssignedError."""
        self.confirm_batch()
        try:
            self.raw.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:
            raise translate(error, f"seeking in {topic} [{partition}]") from error
        self.progress.find([(topic, partition)])

    def seek_to_time(self, moment: datetime) -> None:
        """Every assigned partition reads on from the first event at or after a time, or from its end if there is none."""
        self.confirm_batch()
        try:
            for position in positions_at(self.raw, self.raw.assignment(), moment, CALL_TIMEOUT_S):
                self.raw.seek(position)
                self.progress.find([place_of(position)])
        except KafkaException as error:
            raise translate(error, f"seeking to {moment}") from error

    def pause(self, partitions: Iterable[Partition] | None = None) -> None:
        """Nothing is read from these partitions, or from all, until `resume`."""
        self.pauses.pause(self.raw, partitions)

    def resume(self, partitions: Iterable[Partition] | None = None) -> None:
        self.pauses.resume(self.raw, partitions)

    def lag(self) -> dict[Partition, int]:
        """How many events each assigned partition has that are not handled yet."""
        try:
            return lags(self.raw, self.progress.positions(), CALL_TIMEOUT_S)
        except KafkaException as error:
            raise translate(error, f"asking for the lag of group {self.group}") from error

    # -- the end

    def check_open(self) -> None:
        if self.is_closed:
            raise ConsumerClosedError("the consumer is closed")

    def close(self, timeout_ms: float = CLOSE_TIMEOUT_MS) -> None:
        """As Consumer.close."""
        checked_timeout_ms(timeout_ms)
        if self.is_closed:
            return
        self.is_closed = True
        self.stop()
        self.store(self.progress.before_leaving(self.polled_ms))
        self.notes.log.is_closed = True
        try:
            if not leave(self.raw, timeout_ms):
                logger.warning("%r: no answer in %g ms: events that are not committed come again", self, timeout_ms)
        finally:
            self.raw = Closed(ConsumerClosedError, "the consumer is closed")

    def __repr__(self) -> str:
        return f"<Consumer of {', '.join(self.topics)} in group {self.group}{', closed' if self.is_closed else ''}>"
