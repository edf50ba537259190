"""`hw.Consumer`: reads events, blocking with `with` and `for`, async with `async with` and `async for`.

    with hw.Consumer(broker, "orders", group="billing", value=Order) as orders:
        for event in orders:
            ...

Every event is delivered at least once. An event counts as handled when the next one is asked for, or when the block
ends without an exception. Only handled events are committed, in the background and at the end. An event whose handler
raised comes again. `handle(function, on_error=...)` chooses otherwise: retry, a dead-letter topic, skip or stop.

librdkafka hands events over in batches, so a call, a thread hop or a commit costs once per batch, not once per event.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self

from typing_extensions import TypeVar

from headwater.client.async_consumer import AsyncConsumer
from headwater.client.batches import Batch
from headwater.client.connections import BrokerLike, Settings
from headwater.client.group_reader import BATCH_MAX, GroupReader, OnPartitions
from headwater.client.group_settings import Commit, GroupSettings, Protocol, Start, checked_batch_max
from headwater.client.handling import STOP, Handling
from headwater.client.leaving import AWAY_TIMEOUT_MS, CLOSE_TIMEOUT_MS
from headwater.client.positions import Partition
from headwater.effects.clock import Clock
from headwater.events.context import current
from headwater.events.event import Event, event_maker
from headwater.events.failures import HandlingStoppedError
from headwater.events.fates import Fate
from headwater.events.serializers import Kind, as_serializer

Value = TypeVar("Value", default=Any)


class Consumer(Generic[Value]):
    """Reads topics (names, or regular expressions that begin with ^) as a member of `group`.

    `value` and `key` are types or serializers: without `value`, the `content-type` header decides; keys are text.
    A group without a committed position begins at `start`, "earliest" or "latest". `commit` is "auto" or "manual".
    `protocol` is "classic", or "consumer" for KIP-848's. `idle_timeout_ms` ends an iteration if no event has come for
    that long. The time starts when the consumer gets its partitions, or after ten seconds without any.
    `on_assigned`, `on_revoked` and `on_lost` get lists of Partition. `settings` are librdkafka's and win. Raises ConfigurationError.
    """

    def __init__(
        self,
        broker: BrokerLike,
        topics: str | Sequence[str],
        *,
        group: str,
        value: Kind[Value] | None = None,
        key: Kind[Any] | None = str,
        start: Start = "earliest",
        commit: Commit = "auto",
        protocol: Protocol = "classic",
        instance_id: str | None = None,
        batch_max: int = BATCH_MAX,
        idle_timeout_ms: float | None = None,
        on_assigned: OnPartitions | None = None,
        on_revoked: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        member = GroupSettings(
            broker,
            group,
            start=start,
            commit=commit,
            protocol=protocol,
            instance_id=instance_id,
            settings=settings,
        )
        self._reader: GroupReader[Value] = GroupReader(
            member,
            topics,
            event_maker(as_serializer(value), as_serializer(key)),
            batch_max=batch_max,
            idle_timeout_ms=idle_timeout_ms,
            callbacks=(on_assigned, on_revoked, on_lost),
            clock=clock,
        )

    def __iter__(self) -> Iterator[Event[Value]]:
        reader, progress = self._reader, self._reader.progress
        make, set_current, now_s = reader.event, current.set, reader.now_s
        try:
            for messages in reader.message_batches(reader.batch_max):
                for progress.delivered, message in enumerate(messages, 1):
                    if progress.void and progress.is_void(message):
                        continue
                    event = make(message)
                    set_current(event)
                    yield event
                    if now_s() > reader.keep_alive_at_s:
                        reader.keep_alive()
                    if progress.batch is not messages or reader.is_stopping:
                        break  # after a seek, a rewind or a stop the rest of the batch is void
        finally:
            current.set(None)

    def batches(self, number_max: int = BATCH_MAX) -> Iterator[Batch[Value]]:
        """Events in batches as they come, at most `number_max` in each. A batch is handled when the next one is asked for."""
        for messages in self._reader.message_batches(checked_batch_max(number_max)):
            self._reader.progress.deliver_all()
            yield Batch(messages, self._reader.event)

    def handle(self, handler: Callable[[Event[Value]], object], *, on_error: Fate = STOP) -> None:
        """Calls `handler` with every event until `stop` or `idle_timeout_ms`. If it raises, `on_error` says what to do.

        If an event waits for its next attempt when `stop` is called, it comes again: after a restart or to another member.
        """
        with Handling(self._reader, on_error) as handling, suppress(HandlingStoppedError):
            for event in self:
                with self._reader.giving_back():
                    handling.run(handler, event)
            self._reader.confirm_batch()

    def take(self, number: int, timeout_ms: float = 10_000.0) -> list[Event[Value]]:
        """The next `number` events, or fewer when no more come in time. They count as handled."""
        return self._reader.take(number, timeout_ms)

    def commit(self) -> None:
        """Commits what is handled, including the event that is being handled now. Raises ClientError."""
        self._reader.commit()

    def stop(self) -> None:
        """Ends an iteration after the event that is being handled; from any thread."""
        self._reader.stop()

    def assignment(self) -> list[Partition]:
        """The partitions that this consumer has now."""
        return self._reader.assignment()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Reads on from an offset; -2 is the beginning and -1 the end. Raises NotAssignedError."""
        self._reader.seek(topic, partition, offset)

    def seek_to_time(self, moment: datetime) -> None:
        """Every assigned partition reads on from the first event at or after a time, or from its end if there is none."""
        self._reader.seek_to_time(moment)

    def pause(self, partitions: Iterable[Partition] | None = None) -> None:
        """Stops reading these partitions, or all, until `resume`."""
        self._reader.pause(partitions)

    def resume(self, partitions: Iterable[Partition] | None = None) -> None:
        """Reads these partitions again, or all."""
        self._reader.resume(partitions)

    def lag(self) -> dict[Partition, int]:
        """How many events of each assigned partition are not handled yet."""
        return self._reader.lag()

    @property
    def is_closed(self) -> bool:
        return self._reader.is_closed

    def close(self, timeout_ms: float = CLOSE_TIMEOUT_MS) -> None:
        """Commits what is handled and leaves the group. The event that is being handled comes again.

        If the broker does not answer in time, the last handled events come again too, and a warning says so.
        """
        self._reader.close(timeout_ms)

    def __repr__(self) -> str:
        return repr(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.is_closed:
            self._reader.confirm_batch()
        is_away = kind is not None and self._reader.notes.log.away_ms is not None
        self.close(AWAY_TIMEOUT_MS if is_away else CLOSE_TIMEOUT_MS)

    async def __aenter__(self) -> AsyncConsumer[Value]:
        self._async_form = AsyncConsumer(self._reader)
        return self._async_form

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_form._run(lambda: self.__exit__(kind, error, trace))
        self._async_form._executor.shutdown(wait=False)
