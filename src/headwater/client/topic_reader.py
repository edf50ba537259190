"""`hw.Reader`: reads a topic from one place to another, without a group; `async with` gives the async form.

    with hw.Reader(broker, "orders", end="latest", value=Order) as orders:
        for event in orders:      # from the first event to where the topic ended when the reader was made
            ...

A consumer is a member of a group: the group shares the partitions among its members, and remembers where it is. A reader
has all partitions to itself, and nothing is remembered. To continue later, keep `positions()` and give them as `start`.

Start and end are found once, when the reader is made. A partition is complete when the reader has reached its end; what
librdkafka has fetched beyond is dropped. An iteration ends when all partitions are complete. The last offset before an end
need not be that of an event (`partition_reader`), so what counts is the position, not the last event.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias

from confluent_kafka import IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec
from typing_extensions import TypeVar

from headwater.client.admin import Admin
from headwater.client.batches import Batch
from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import ConfigurationError, ConsumerClosedError, raise_interrupt, translate
from headwater.client.group_settings import checked_batch_max
from headwater.client.names import checked_timeout_ms, checked_topic
from headwater.client.partition_reader import PartitionReader
from headwater.client.positions import Partition
from headwater.client.threads import in_thread
from headwater.effects.clock import Clock, SystemClock
from headwater.events.context import current
from headwater.events.event import Event
from headwater.events.serializers import Kind, as_serializer

Value = TypeVar("Value", default=Any)
Place: TypeAlias = int | datetime | Mapping[int, int]
StartPlace: TypeAlias = Literal["earliest", "latest"] | Place
EndPlace: TypeAlias = Literal["latest"] | Place
FIRST, LAST = "earliest", "latest"
BATCH_MAX = 500
POLL_S = 0.1


def check_place(name: str, place: object, words: tuple[str, ...]) -> None:
    """Raises ConfigurationError if that does not name a place in a topic."""
    is_word = isinstance(place, str) and place in words
    if is_word or (isinstance(place, int | datetime | Mapping) and not isinstance(place, bool)):
        return
    known = " or ".join(map(repr, words))
    raise ConfigurationError(f"{name} is {known}, an offset, a datetime, or offsets by partition; not {place!r}")


class Reader(Generic[Value]):
    """Reads a topic from `start` up to `end`, and commits nothing.

    `start` is "earliest", "latest", an offset, a negative number (-10: the last ten offsets of each partition), a datetime
    with a time zone, or offsets by partition. `end` is the same but for "earliest", and the event at that offset is not
    read; without it the reader waits for more. Without `partitions` it reads those that `start` names, or all. `value` and
    `key` are as a consumer's; `settings` are librdkafka's. Raises ConfigurationError, UnknownTopicError and other ClientErrors.
    """

    def __init__(
        self,
        broker: BrokerLike,
        topic: str,
        *,
        start: StartPlace = "earliest",
        end: EndPlace | None = None,
        partitions: Sequence[int] | None = None,
        value: Kind[Value] | None = None,
        key: Kind[Any] | None = str,
        batch_max: int = BATCH_MAX,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._topic, self._what = checked_topic(topic), f"reading {topic}"
        check_place("start", start, (FIRST, LAST))
        if end is not None:
            check_place("end", end, (LAST,))
        self._serializer, self._key_serializer = as_serializer(value), as_serializer(key)
        self._batch_max, self._clock = checked_batch_max(batch_max), clock or SystemClock()
        self._stopping = threading.Event()
        self._is_closed = False
        self._ahead: deque[Message] = deque()  # fetched, and not handed over yet
        with Admin(broker, settings=settings) as admin:
            offsets = TopicOffsets(admin, topic, settings or {})
            numbers = offsets.partitions(start, partitions)
            self._handed = offsets.find(start, numbers)  # the offset after the last event that was handed over
            self._ends = offsets.find(end, numbers) if end is not None else {}
        self._open = {place for place, offset in self._handed.items() if not self._is_beyond(place, offset)}
        starts = {place: self._handed[place] for place in self._open}
        self._source = PartitionReader(broker, starts, what=self._what, settings=settings)

    def _is_beyond(self, place: Partition, offset: int) -> bool:
        """Whether an offset is at the end of its partition, or after it."""
        return place in self._ends and offset >= self._ends[place]

    def _is_over(self) -> bool:
        """Whether there is nothing to wait for: the reader was stopped, or has read all. Raises ConsumerClosedError."""
        if self._is_closed:
            raise ConsumerClosedError("the reader is closed")
        return self._stopping.is_set() or not (self._ahead or self._open)

    def _fill(self, number_max: int, timeout_s: float) -> None:
        """Fetches what comes next, if all before was handed over. Raises ClientError."""
        if self._ahead:
            return
        try:
            messages = self._source.poll(number_max, timeout_s)
        except KafkaException as error:
            raise translate(error, self._what) from error
        except SystemError as error:
            raise_interrupt(error)
        self._ahead.extend(message for message in messages if not self._is_beyond(place_of(message), message.offset()))
        self._open -= {place for place in self._open if self._is_beyond(place, self._source.positions[place])}

    def _hand_over(self, number_max: int) -> list[Message]:
        """Some of what was fetched: it counts as read."""
        messages = [self._ahead.popleft() for _ in range(min(number_max, len(self._ahead)))]
        for message in messages:
            self._handed[place_of(message)] = message.offset() + 1
        return messages

    def _event(self, message: Message) -> Event[Value]:
        return Event.from_record(
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers,
            self._serializer,
            self._key_serializer,
        )

    def __iter__(self) -> Iterator[Event[Value]]:
        try:
            while not self._is_over():
                self._fill(self._batch_max, POLL_S)
                for message in self._hand_over(1):
                    event = self._event(message)
                    current.set(event)
                    yield event
        finally:
            current.set(None)

    def batches(self, number_max: int = BATCH_MAX) -> Iterator[Batch[Value]]:
        """Events in batches as they come, `number_max` at most in each."""
        checked_batch_max(number_max)
        while not self._is_over():
            self._fill(number_max, POLL_S)
            if messages := self._hand_over(number_max):
                yield Batch(messages, self._event)

    def take(self, number: int, timeout_ms: float = 10_000.0) -> list[Event[Value]]:
        """The next `number` events, or fewer when no more come in time or before the end."""
        events: list[Event[Value]] = []
        deadline_ms = self._clock.steady_ms() + checked_timeout_ms(timeout_ms)
        while len(events) < number and not self._is_over():
            left_ms = deadline_ms - self._clock.steady_ms()
            if left_ms <= 0:
                break
            self._fill(number - len(events), min(POLL_S, left_ms / 1000))
            events += map(self._event, self._hand_over(number - len(events)))
        return events

    def positions(self) -> dict[int, int]:
        """Where it is in each partition: the offset after the last event that was handed over. A reader can start there."""
        return {place.partition: offset for place, offset in self._handed.items()}

    def stop(self) -> None:
        """Ends an iteration after the present event; from any thread."""
        self._stopping.set()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Ends the reader. Nothing is kept of it."""
        if not self._is_closed:
            self._is_closed = True
            self._ahead.clear()
            self._source.close()

    def __repr__(self) -> str:
        return f"<Reader of {self._topic}{', closed' if self._is_closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> "AsyncReader[Value]":
        self._face = AsyncReader(self)
        return self._face

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._face._run(self.close)
        self._face._executor.shutdown(wait=False)


class AsyncReader(Generic[Value]):
    """What `async with hw.Reader(...)` gives: the same reader; its calls run in a thread of its own, one at a time."""

    def __init__(self, blocking: Reader[Value]) -> None:
        self._blocking = blocking
        self._executor = ThreadPoolExecutor(1, "headwater-reader")

    async def _run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _fill(self, number_max: int) -> None:
        """Only what is not there yet costs a thread hop."""
        if not self._blocking._ahead:
            await self._run(lambda: self._blocking._fill(number_max, POLL_S))

    async def __aiter__(self) -> AsyncIterator[Event[Value]]:
        reader = self._blocking
        try:
            while not reader._is_over():
                await self._fill(reader._batch_max)
                for message in reader._hand_over(1):
                    event = reader._event(message)
                    current.set(event)
                    yield event
        finally:
            current.set(None)

    async def batches(self, number_max: int = BATCH_MAX) -> AsyncIterator[Batch[Value]]:
        """As Reader.batches."""
        reader = self._blocking
        checked_batch_max(number_max)
        while not reader._is_over():
            await self._fill(number_max)
            if messages := reader._hand_over(number_max):
                yield Batch(messages, reader._event)

    take = in_thread(Reader.take)

    def positions(self) -> dict[int, int]:
        """As Reader.positions."""
        return self._blocking.positions()

    def stop(self) -> None:
        """As Reader.stop."""
        self._blocking.stop()

    def __repr__(self) -> str:
        return f"<AsyncReader of {self._blocking!r}>"


class TopicOffsets:
    """Finds offsets in a topic, as a reader with these settings sees it."""

    def __init__(self, admin: Admin, topic: str, settings: Settings) -> None:
        self.admin, self.topic = admin, topic
        sees_all = settings.get("isolation.level") == "read_uncommitted"
        self.isolation = IsolationLevel.READ_UNCOMMITTED if sees_all else IsolationLevel.READ_COMMITTED

    def partitions(self, start: StartPlace, partitions: Sequence[int] | None) -> list[int]:
        """The partitions to read. Raises ConfigurationError and ClientError."""
        there = [found.partition for found in self.admin.describe_topic(self.topic).partitions]
        if partitions is None:
            partitions = sorted(start) if isinstance(start, Mapping) else there
        if missing := [number for number in partitions if number not in there]:
            raise ConfigurationError(
                f"topic {self.topic} has partitions 0 to {len(there) - 1}, not {', '.join(map(str, missing))}"
            )
        return list(partitions)

    def find(self, wanted: StartPlace, partitions: Sequence[int]) -> dict[Partition, int]:
        """An offset for each partition. Raises ConfigurationError and ClientError."""
        places = [Partition(self.topic, number) for number in partitions]
        if isinstance(wanted, Mapping):
            if missing := [place.partition for place in places if place.partition not in wanted]:
                raise ConfigurationError(f"{self.topic}: no offset for partition {', '.join(map(str, missing))}")
            return {place: wanted[place.partition] for place in places}
        if isinstance(wanted, datetime):
            if wanted.tzinfo is None:
                raise ConfigurationError(f"{wanted} has no time zone; use for example datetime.now(UTC)")
            found = self.ask(places, OffsetSpec.for_timestamp(int(wanted.timestamp() * 1000)))
            late = [place for place, offset in found.items() if offset < 0]  # all there is was before
            return {**found, **self.ask(late, OffsetSpec.latest())}
        if wanted == FIRST:
            return self.ask(places, OffsetSpec.earliest())
        if wanted == LAST:
            return self.ask(places, OffsetSpec.latest())
        if isinstance(wanted, int) and wanted < 0:
            firsts, lasts = self.ask(places, OffsetSpec.earliest()), self.ask(places, OffsetSpec.latest())
            return {place: max(firsts[place], last + wanted) for place, last in lasts.items()}
        return {place: int(wanted) for place in places}

    def ask(self, places: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        if not places:
            return {}
        wanted = {TopicPartition(*place): spec for place in places}
        found = self.admin.call(
            lambda raw: raw.list_offsets(wanted, isolation_level=self.isolation), f"asking for offsets of {self.topic}"
        )
        return {Partition(place.topic, place.partition): result.offset for place, result in found.items()}


def place_of(message: Message) -> Partition:
    return Partition(message.topic(), message.partition())
