"""What a consumer does with an event whose handler raised (`events.failures`): blocking, and on an event loop."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from headwater.bus.observers import name_of
from headwater.client.connections import BrokerLike, Settings
from headwater.events.event import Event
from headwater.events.failures import HandlingStoppedError, recover, run_to_end
from headwater.events.fates import Fate, Stop, checked_fate
from headwater.events.headers import HeadersLike
from headwater.events.serializers import BytesSerializer

if TYPE_CHECKING:
    from headwater.client.producer import Producer

KEEP_ALIVE_STEP_MS = 1000.0
STOP_STEP_MS = 100.0
STOP = Stop()
Run: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class WaitingConsumer(Protocol):
    """What handling needs of a consumer: to stop and to stay a member while it waits, and where dead letters go."""

    broker: BrokerLike
    settings: Settings | None
    now_s: Callable[[], float]
    stopping: threading.Event
    keep_alive_at_s: float

    def keep_alive(self) -> None: ...


class Handling:
    """Runs a handler for a consumer, with a fate for what it raises."""

    def __init__(self, consumer: WaitingConsumer, on_error: Fate) -> None:
        self.consumer, self.on_error = consumer, checked_fate(on_error)
        self.letters: Producer[bytes] | None = None

    def run(self, handler: Callable[[Event[Any]], object], event: Event[Any]) -> None:
        """Raises the handler's exception if the fate is to stop, and ClientError for an undelivered dead letter."""
        try:
            handler(event)
        except HandlingStoppedError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever a handler raises has its fate
            error = raised
        else:
            return
        failure = run_to_end(recover(event, error, self.on_error, BlockingTransport(self, handler, event)))
        if failure is not None:
            raise failure

    async def run_async(self, handler: Callable[[Event[Any]], Any], event: Event[Any], run: Run) -> None:
        """As `run`, without blocking the loop; `run` calls the consumer in its thread."""
        transport = LoopTransport(self, handler, event, run)
        try:
            await transport.attempt()
        except HandlingStoppedError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever a handler raises has its fate
            error = raised
        else:
            return
        failure = await recover(event, error, self.on_error, transport)
        if failure is not None:
            raise failure

    def is_keep_alive_due(self) -> bool:
        return self.consumer.now_s() > self.consumer.keep_alive_at_s

    def put_aside(self, event: Event[Any], topic: str, headers: HeadersLike) -> None:
        """Sends the event as it is; it counts as handled only when the broker has it. Raises ClientError."""
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
        self.letters.send(topic, event.raw, key=event.raw_key, headers=headers).result()

    def close(self) -> None:
        if self.letters is not None:
            self.letters.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FailedHandling:
    """What both transports have in common, for one event."""

    def __init__(self, handling: Handling, handler: Callable[[Event[Any]], Any], event: Event[Any]) -> None:
        self.handling, self.handler, self.event = handling, handler, event

    @property
    def handler_name(self) -> str:
        return name_of(self.handler)

    def give_up(self, error: Exception) -> bool:
        """Nobody waits for an answer here."""
        return False


class BlockingTransport(FailedHandling):
    """For a consumer that blocks: nothing here waits on a loop."""

    async def wait(self, delay_ms: float) -> None:
        """Waits, and polls meanwhile so that the group keeps this member."""
        consumer = self.handling.consumer
        while delay_ms > 0:
            if consumer.stopping.wait(min(delay_ms, KEEP_ALIVE_STEP_MS) / 1000):
                raise HandlingStoppedError
            delay_ms -= KEEP_ALIVE_STEP_MS
            if self.handling.is_keep_alive_due():
                consumer.keep_alive()

    async def attempt(self) -> None:
        self.handler(self.event)

    async def put_aside(self, topic: str, headers: HeadersLike) -> str:
        self.handling.put_aside(self.event, topic, headers)
        return ""


class LoopTransport(FailedHandling):
    """For a consumer on an event loop; `run` calls the consumer in its thread."""

    def __init__(self, handling: Handling, handler: Callable[[Event[Any]], Any], event: Event[Any], run: Run) -> None:
        super().__init__(handling, handler, event)
        self.run = run

    async def wait(self, delay_ms: float) -> None:
        """Waits on the loop, so that no thread still waits when the task is cancelled."""
        consumer = self.handling.consumer
        while delay_ms > 0:
            await asyncio.sleep(min(delay_ms, STOP_STEP_MS) / 1000)
            if consumer.stopping.is_set():
                raise HandlingStoppedError
            delay_ms -= STOP_STEP_MS
            if self.handling.is_keep_alive_due():
                await self.run(consumer.keep_alive)

    async def attempt(self) -> None:
        result = self.handler(self.event)
        if result is not None and inspect.isawaitable(result):
            await result

    async def put_aside(self, topic: str, headers: HeadersLike) -> str:
        await asyncio.to_thread(self.handling.put_aside, self.event, topic, headers)
        return ""
