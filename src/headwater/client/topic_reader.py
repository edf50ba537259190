"""`hw.Reader`: reads a topic from one place to another, without a group; `async with` gives the async form.

    with hw.Reader(broker, "orders", end="latest", value=Order) as orders:
        for event in orders:      # from the first event to where the topic ended when the reader was made
            ...

A consumer is a member of a group: the group shares the partitions among its members, and remembers where it is. A reader
has all partitions to itself, and nothing is remembered. To continue later, keep `positions()` and give them as `start`.

Start and end are found once, when the reader is made, and an iteration ends when all partitions have been read to their
ends (`message_reader`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self

from confluent_kafka import Message
from typing_extensions import TypeVar

from headwater.client.admin import Admin
from headwater.client.batches import Batch
from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import ConsumerClosedError
from headwater.client.group_settings import checked_batch_max
from headwater.client.message_reader import MessageReader
from headwater.client.names import checked_timeout_ms
from headwater.client.threads import in_thread
from headwater.client.topic_offsets import EndPlace, StartPlace
from headwater.effects.clock import Clock, SystemClock
from headwater.events.context import current
from headwater.events.event import Event, event_maker
from headwater.events.serializers import Kind, as_serializer

Value = TypeVar("Value", default=Any)
BATCH_MAX = 500
POLL_S = 0.1


class Reader(Generic[Value]):
    """Reads a topic from `start` up to `end`, and commits nothing.

    `start` is "earliest", "latest", an offset, a negative number (-10: the last ten offsets of each partition), a datetime
    with a time zone, or offsets by partition. `end` is given in the same ways, except "earliest"; the event at that
    offset is not read. Without `end` the reader waits for more. Without `partitions` it reads those that `start` names,
    or all. `value` and
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
        self._topic = topic
        self._event: Callable[[Message], Event[Value]] = event_maker(as_serializer(value), as_serializer(key))
        self._batch_max, self._clock = checked_batch_max(batch_max), clock or SystemClock()
        self._stopping = threading.Event()
        self._is_closed = False
        with Admin(broker, settings=settings) as admin:
            self._messages = MessageReader(admin, topic, start=start, end=end, partitions=partitions, settings=settings)

    def _is_over(self) -> bool:
        """Whether there is nothing to wait for: the reader was stopped, or has read all. Raises ConsumerClosedError."""
        if self._is_closed:
            raise ConsumerClosedError("the reader is closed")
        return self._stopping.is_set() or self.is_complete

    def __iter__(self) -> Iterator[Event[Value]]:
        try:
            while not self._is_over():
                self._messages.fill(self._batch_max, POLL_S)
                for message in self._messages.hand_over_one():
                    event = self._event(message)
                    current.set(event)
                    yield event
        finally:
            current.set(None)

    def batches(self, number_max: int = BATCH_MAX) -> Iterator[Batch[Value]]:
        """Events in batches as they come, `number_max` at most in each."""
        checked_batch_max(number_max)
        while not self._is_over():
            self._messages.fill(number_max, POLL_S)
            if messages := self._messages.hand_over(number_max):
                yield Batch(messages, self._event)

    def take(self, number: int, timeout_ms: float = 10_000.0) -> list[Event[Value]]:
        """The next `number` events, or fewer when no more come in time or before the end."""
        events: list[Event[Value]] = []
        deadline_ms = self._clock.steady_ms() + checked_timeout_ms(timeout_ms)
        while len(events) < number and not self._is_over():
            left_ms = deadline_ms - self._clock.steady_ms()
            if left_ms <= 0:
                break
            self._messages.fill(number - len(events), min(POLL_S, left_ms / 1000))
            events += map(self._event, self._messages.hand_over(number - len(events)))
        return events

    @property
    def is_complete(self) -> bool:
        """Whether everything up to `end` was handed over."""
        return self._messages.is_complete

    def positions(self) -> dict[int, int]:
        """The offset after the last event that was handed over, by partition. Another reader can start there."""
        return {place.partition: offset for place, offset in self._messages.handed.items()}

    def stop(self) -> None:
        """Ends an iteration after the current event. Call it from any thread."""
        self._stopping.set()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Ends the reader. Its positions are not kept anywhere."""
        if not self._is_closed:
            self._is_closed = True
            self._messages.close()

    def __repr__(self) -> str:
        return f"<Reader of {self._topic}{', closed' if self._is_closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> "AsyncReader[Value]":
        self._async_form = AsyncReader(self)
        return self._async_form

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_form._run(self.close)
        self._async_form._executor.shutdown(wait=False)


class AsyncReader(Generic[Value]):
    """What `async with hw.Reader(...)` gives: the same reader; its calls run in a thread of its own, one at a time."""

    def __init__(self, blocking: Reader[Value]) -> None:
        self._blocking = blocking
        self._executor = ThreadPoolExecutor(1, "headwater-reader")

    async def _run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _fill(self, number_max: int) -> None:
        """Fetches in the thread, unless messages are there already."""
        if not self._blocking._messages.ahead:
            await self._run(lambda: self._blocking._messages.fill(number_max, POLL_S))

    async def __aiter__(self) -> AsyncIterator[Event[Value]]:
        reader = self._blocking
        try:
            while not reader._is_over():
                await self._fill(reader._batch_max)
                for message in reader._messages.hand_over_one():
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
            if messages := reader._messages.hand_over(number_max):
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
