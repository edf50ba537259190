"""`hw.Consumer`: reads events, blocking with `with` and `for`, async with `async with` and `async for`.

    with hw.Consumer(broker, "orders", group="billing", value=Order) as orders:
        for event in orders:
            ...

At least once. An event counts as handled when the next one is asked for, or when the block ends without an exception;
only what is handled is committed, now and then in the background and at the end. An event whose handling raised comes
again. `handle(function, on_error=...)` gives such events another fate: retry, a dead-letter topic, skip or stop.

Events come in batches from librdkafka, so a call, a thread hop or a commit is paid for a batch and not for each event.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Message
from typing_extensions import TypeVar

from headwater.client.async_consumer import AsyncConsumer
from headwater.client.batches import Batch
from headwater.client.group_settings import checked_batch_max
from headwater.client.handling import STOP, Handling
from headwater.client.leaving import AWAY_TIMEOUT_MS, CLOSE_TIMEOUT_MS
from headwater.client.reader import BATCH_MAX, POLL_S, Reader
from headwater.events.context import current
from headwater.events.event import Event
from headwater.events.failures import HandlingStoppedError
from headwater.events.fates import Fate

Value = TypeVar("Value", default=Any)


class Consumer(Reader[Value]):
    """Reads topics (names, or regular expressions that begin with ^) as a member of `group`.

    `value` and `key` are types or serializers: without `value`, the `content-type` header decides; keys are text.
    A group without a position begins at `start`, "earliest" or "latest". `commit` is "auto" or "manual". `protocol` is
    "classic", or "consumer" for KIP-848's. `idle_timeout_ms` ends an iteration when nothing has come for so long.
    `on_assigned`, `on_revoked` and `on_lost` get lists of Partition. `settings` are librdkafka's and win. Raises ConfigurationError.
    """

    def taken(self, number_max: int) -> Iterator[list[Message]]:
        """Messages as they come, until `stop`, or until nothing has come for `idle_timeout_ms`."""
        self.check_open()
        idle_since_ms = self.clock.steady_ms()
        while not self.stopping.is_set():
            messages = self.fetch(number_max, POLL_S)
            if messages:
                yield messages
                idle_since_ms = self.clock.steady_ms()
            elif self.is_idle_since(idle_since_ms):
                return

    def __iter__(self) -> Iterator[Event[Value]]:
        progress, deliver, make, now_ms = self.progress, self.progress.deliver, self.event, self.clock.steady_ms
        try:
            for messages in self.taken(self.batch_max):
                for message in messages:
                    if not deliver(message):
                        continue
                    event = make(message)
                    current.set(event)
                    yield event
                    if now_ms() - self.polled_ms > self.keep_alive_ms:
                        self.keep_alive()
                    if progress.batch is not messages or self.stopping.is_set():
                        break  # a seek, a rewind or a stop: what is left of the batch is void
        finally:
            current.set(None)

    def batches(self, number_max: int = BATCH_MAX) -> Iterator[Batch[Value]]:
        """Events in batches as they come, `number_max` at most in each; a batch counts as handled with the next one."""
        for messages in self.taken(checked_batch_max(number_max)):
            self.progress.deliver_all()
            yield Batch(messages, self.event)

    def handle(self, handler: Callable[[Event[Value]], object], *, on_error: Fate = STOP) -> None:
        """Calls `handler` with every event until `stop` or `idle_timeout_ms`. What it raises has the fate `on_error`.

        An event that waits for its next attempt when `stop` is called comes again, after a restart or to another member.
        """
        with Handling(self, on_error) as handling, suppress(HandlingStoppedError):
            for event in self:
                with self.giving_back():
                    handling.run(handler, event)
            self.confirm_batch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.is_closed:
            self.confirm_batch()
        is_away = kind is not None and self.notes.log.away_ms is not None
        self.close(AWAY_TIMEOUT_MS if is_away else CLOSE_TIMEOUT_MS)

    async def __aenter__(self) -> AsyncConsumer[Value]:
        self.face = AsyncConsumer(self)
        return self.face

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.face.run(lambda: self.__exit__(kind, error, trace))
        self.face.executor.shutdown(wait=False)
