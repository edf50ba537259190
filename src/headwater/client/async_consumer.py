"""The consumer for `async with` and `async for`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic

from confluent_kafka import Message
from typing_extensions import TypeVar

from headwater.client.batches import Batch
from headwater.client.group_reader import BATCH_MAX, POLL_S, GroupReader
from headwater.client.group_settings import checked_batch_max
from headwater.client.handling import STOP, Handling
from headwater.client.threads import in_thread
from headwater.events.context import current
from headwater.events.event import Event
from headwater.events.failures import HandlingStoppedError
from headwater.events.fates import Fate

Value = TypeVar("Value", default=Any)


class AsyncConsumer(Generic[Value]):
    """What `async with hw.Consumer(...)` gives: the same consumer; its calls run in a thread of its own, one at a time."""

    def __init__(self, blocking: GroupReader[Value]) -> None:
        self._blocking = blocking
        self._executor = ThreadPoolExecutor(1, "headwater-consumer")

    @property
    def _reader(self) -> GroupReader[Value]:
        """For a transaction."""
        return self._blocking

    async def _run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _message_batches(self, number_max: int) -> AsyncIterator[list[Message]]:
        """As `GroupReader.message_batches`."""
        consumer = self._blocking
        consumer.check_open()
        idle_since_ms = consumer.clock.steady_ms()
        while not consumer.is_stopping:
            messages = await self._run(lambda: consumer.fetch(number_max, POLL_S))
            if messages:
                yield messages
                idle_since_ms = consumer.clock.steady_ms()
            elif consumer.is_idle_since(idle_since_ms):
                return

    async def __aiter__(self) -> AsyncIterator[Event[Value]]:
        consumer, progress = self._blocking, self._blocking.progress
        make, set_current, now_s = consumer.event, current.set, consumer.now_s
        try:
            async for messages in self._message_batches(consumer.batch_max):
                for progress.delivered, message in enumerate(messages, 1):
                    if progress.void and progress.is_void(message):
                        continue
                    event = make(message)
                    set_current(event)
                    yield event
                    if now_s() > consumer.keep_alive_at_s:
                        await self._run(consumer.keep_alive)
                    if progress.batch is not messages or consumer.is_stopping:
                        break
        finally:
            current.set(None)

    async def batches(self, number_max: int = BATCH_MAX) -> AsyncIterator[Batch[Value]]:
        """As Consumer.batches."""
        async for messages in self._message_batches(checked_batch_max(number_max)):
            self._blocking.progress.deliver_all()
            yield Batch(messages, self._blocking.event)

    async def handle(self, handler: Callable[[Event[Value]], Any], *, on_error: Fate = STOP) -> None:
        """As Consumer.handle, with an async handler or one that is not."""
        handling = Handling(self._blocking, on_error)
        try:
            async for event in self:
                with self._blocking.giving_back():
                    await handling.run_async(handler, event, self._run)
            await self._run(self._blocking.confirm_batch)
        except HandlingStoppedError:
            return  # the event comes again
        finally:
            await self._run(handling.close)

    def __repr__(self) -> str:
        return f"<AsyncConsumer of {self._blocking!r}>"

    def stop(self) -> None:
        """As Consumer.stop."""
        self._blocking.stop()

    take = in_thread(GroupReader.take)
    commit = in_thread(GroupReader.commit)
    seek = in_thread(GroupReader.seek)
    seek_to_time = in_thread(GroupReader.seek_to_time)
    pause = in_thread(GroupReader.pause)
    resume = in_thread(GroupReader.resume)
    assignment = in_thread(GroupReader.assignment)
    lag = in_thread(GroupReader.lag)
