"""Connects a bus and a broker: events that are published on the bus go to the log, and events of the log go to the bus."""

import asyncio
import logging
from types import TracebackType
from typing import Any, Self

from headwater.bus.bus import Bus
from headwater.bus.errors import BusClosedError
from headwater.bus.patterns import kafka_pattern
from headwater.bus.subscription import Subscription
from headwater.client.connections import BrokerLike, Settings
from headwater.client.consumer import Consumer
from headwater.client.producer import AsyncProducer, Producer
from headwater.events.context import handling
from headwater.events.event import Event
from headwater.events.failures import HandlingStoppedError
from headwater.events.fates import Fate, Skip, checked_fate
from headwater.events.ids import ids

logger = logging.getLogger(__name__)
SKIP = Skip()
BRIDGE_HEADER = "hw_bridge"
METADATA_REFRESH_MS = 1000  # new topics are found within a second


class Bridge:
    """Connects a bus and a broker both ways on a pattern; use it with `async with`.

    An event crosses once: one that came from the broker is not sent back, and one that was sent from here is not
    delivered here twice. A bus topic is a Kafka topic of the same name. An event from the log counts as handled when
    the bus has accepted it. `on_error` says what happens to one that the bus cannot accept (its bytes cannot be
    decoded, a queue is full). If that ends the bridge, the block raises the error at its end.
    """

    def __init__(
        self,
        bus: Bus,
        broker: BrokerLike,
        pattern: str,
        *,
        group: str | None,
        value: Any,
        settings: Settings | None,
        on_error: Fate = SKIP,
    ) -> None:
        self.id = ids.new()
        self.bus, self.broker, self.pattern = bus, broker, pattern
        self.on_error = checked_fate(on_error)
        self.consumer: Consumer[Any] = Consumer(
            broker,
            kafka_pattern(pattern),
            group=f"bridge-{self.id}" if group is None else group,
            value=value,
            start="latest" if group is None else "earliest",
            settings={"topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS, **(settings or {})},
            on_assigned=lambda partitions: self.note_ready(),
        )
        self.producer: Producer[Any] = Producer(broker, settings=settings)
        self.ready = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.subscription: Subscription | None = None
        self.sender: AsyncProducer[Any] | None = None
        self.task: asyncio.Task[None] | None = None

    def note_ready(self) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.ready.set)

    async def send(self, event: Event[Any]) -> None:
        if event.headers.get(BRIDGE_HEADER) is not None:
            return
        assert self.sender is not None
        headers = event.identified_headers().with_added(BRIDGE_HEADER, self.id)
        await self.sender.send(event.topic, event.value, key=event.key, headers=headers)

    async def receive(self, event: Event[Any]) -> None:
        if event.headers.get(BRIDGE_HEADER) == self.id:
            return
        headers = event.headers
        if BRIDGE_HEADER not in headers:
            headers = headers.with_added(BRIDGE_HEADER, "from-broker")
        with handling(event):
            try:
                await self.bus.publish(event.topic, event.value, key=event.key, headers=headers)
            except BusClosedError:
                logger.warning("%r ends: its bus is closed", self)
                raise HandlingStoppedError from None  # the event comes again to the next member of the group

    def ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%r ends, it cannot read from the broker: %s", self, error)

    async def wait_ready(self) -> None:
        """Returns when events from the broker arrive here. A topic that matches the pattern must exist."""
        await self.ready.wait()

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self.sender = await self.producer.__aenter__()
        consumer = await self.consumer.__aenter__()
        self.subscription = self.bus.subscribe(self.pattern, self.send)
        self.task = self.loop.create_task(consumer.handle(self.receive, on_error=self.on_error))
        self.task.add_done_callback(self.ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.task is not None
        try:
            await self.bus.drain()
            if self.subscription is not None:
                self.subscription.cancel()
        finally:
            self.consumer.stop()
            await asyncio.wait([self.task])
            await self.consumer.__aexit__(kind, error, trace)
            await self.producer.__aexit__(kind, error, trace)
        if error is None and not self.task.cancelled():
            self.task.result()

    def __repr__(self) -> str:
        return f"<Bridge of {self.pattern} to {self.producer.address}>"


def bridge(
    bus: Bus,
    broker: BrokerLike,
    pattern: str = "#",
    *,
    group: str | None = None,
    value: Any = None,
    on_error: Fate = SKIP,
    settings: Settings | None = None,
) -> Bridge:
    """Connects both ways: `async with hw.bridge(bus, broker, "orders.#"):`.

    With a `group`, bridges share the events from the broker, and get missed events after a restart. Without one, each
    bridge gets all events from now on. `value` and `on_error` are as for a Consumer, but by default an event that the
    bus cannot accept is logged and skipped.
    """
    return Bridge(bus, broker, pattern, group=group, value=value, on_error=on_error, settings=settings)
