"""What becomes of an event on which a handler fails: tried again, put into a dead-letter topic, skipped, or the end."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from headwater.client.connections import BrokerLike, Settings
from headwater.effects.clock import Clock
from headwater.events.event import Event
from headwater.events.fates import DeadLetter, Fate, Skip, Stop, checked_fate, delays_ms, error_headers, last_fate
from headwater.events.serializers import BytesSerializer

if TYPE_CHECKING:
    from headwater.client.producer import Producer

logger = logging.getLogger(__name__)
KEEP_ALIVE_STEP_MS = 1000.0
STOP_STEP_MS = 100.0
STOP = Stop()
Run: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class HandlingStoppedError(Exception):
    """The consumer was stopped before the next attempt: the event is not handled, and comes again."""


class WaitingConsumer(Protocol):
    """What handling needs of a consumer: to stop and to stay a member while it waits, and where dead letters go."""

    broker: BrokerLike
    settings: Settings | None
    clock: Clock
    stopping: threading.Event
    polled_ms: float
    keep_alive_ms: float

    def keep_alive(self) -> None: ...


class Handling:
    """Runs a handler for a consumer, with a fate for what it raises."""

    def __init__(self, consumer: WaitingConsumer, on_error: Fate) -> None:
        self.consumer, self.on_error = consumer, checked_fate(on_error)
        self.letters: Producer[bytes] | None = None

    def run(self, handler: Callable[[Event[Any]], object], event: Event[Any]) -> None:
        """Raises what the handler raised where the fate is to stop, and when the dead letter cannot be delivered."""
        delays = delays_ms(self.on_error)
        while True:
            try:
                handler(event)
            except HandlingStoppedError:
                raise
            except Exception as raised:  # noqa: BLE001 - whatever a handler raises has its fate
                error = raised
            else:
                return
            if (delay_ms := next(delays, None)) is None:
                self.end(event, error)
                return
            self.wait(delay_ms)

    async def run_async(self, handler: Callable[[Event[Any]], Any], event: Event[Any], run: Run) -> None:
        """As `run`, without blocking the loop; `run` calls the consumer in its thread."""
        delays = delays_ms(self.on_error)
        while True:
            try:
                result = handler(event)
                if result is not None and inspect.isawaitable(result):
                    await result
            except HandlingStoppedError:
                raise
            except Exception as raised:  # noqa: BLE001 - whatever a handler raises has its fate
                error = raised
            else:
                return
            if (delay_ms := next(delays, None)) is None:
                await asyncio.to_thread(self.end, event, error)
                return
            await self.wait_async(delay_ms, run)

    def wait(self, delay_ms: float) -> None:
        """Waits for the next attempt, without being taken for dead by the group. Raises HandlingStoppedError."""
        consumer = self.consumer
        while delay_ms > 0:
            if consumer.stopping.wait(min(delay_ms, KEEP_ALIVE_STEP_MS) / 1000):
                raise HandlingStoppedError
            delay_ms -= KEEP_ALIVE_STEP_MS
            if self.is_keep_alive_due():
                consumer.keep_alive()

    async def wait_async(self, delay_ms: float, run: Run) -> None:
        """As `wait`, on the loop: nothing is left behind in a thread where the task is cancelled."""
        while delay_ms > 0:
            await asyncio.sleep(min(delay_ms, STOP_STEP_MS) / 1000)
            if self.consumer.stopping.is_set():
                raise HandlingStoppedError
            delay_ms -= STOP_STEP_MS
            if self.is_keep_alive_due():
                await run(self.consumer.keep_alive)

    def is_keep_alive_due(self) -> bool:
        return self.consumer.clock.steady_ms() - self.consumer.polled_ms > self.consumer.keep_alive_ms

    def end(self, event: Event[Any], error: Exception) -> None:
        match last_fate(self.on_error):
            case DeadLetter() as letter:
                self.put_aside(event, error, letter.topic_for(event.topic))
            case Skip():
                logger.error("%r is skipped", event, exc_info=error)
            case _:
                raise error

    def put_aside(self, event: Event[Any], error: Exception, topic: str) -> None:
        """Sends the event as it is to the dead-letter topic; it counts as handled only when the broker has it."""
        from headwater.client.producer import Producer  # on first failure

        if self.letters is None:
            settings = {
                name: value
                for name, value in (self.consumer.settings or {}).items()
                if name.startswith(("security.", "sasl.", "ssl.", "client.", "socket.", "broker."))
            }
            self.letters = Producer(
                self.consumer.broker, value=BytesSerializer(), cloudevents="none", settings=settings
            )
        headers = [*event.headers, *error_headers(error, event.topic, event.partition, event.offset)]
        self.letters.send(topic, event.raw, key=event.raw_key, headers=headers).result()
        logger.warning("%r failed and is in %s: %s", event, topic, error)

    def close(self) -> None:
        if self.letters is not None:
            self.letters.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
