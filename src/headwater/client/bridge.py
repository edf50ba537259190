"""Bus and broker as one: what is published on the bus goes to the log, and what comes from the log to the bus."""

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Self

from headwater.client.async_consumer import AsyncConsumer
from headwater.client.connections import BrokerLike, Settings
from headwater.client.consumer import Consumer
from headwater.client.producer import AsyncProducer, Producer
from headwater.events.context import handling, ids
from headwater.events.event import Event
from headwater.observe.bus import Bus
from headwater.observe.patterns import kafka_pattern
from headwater.observe.subscription import Subscription

BRIDGE_HEADER = "hw_bridge"
METADATA_REFRESH_MS = 1000  # new topics are found within a second


class Bridge:
    """Connects a bus and a broker both ways on a pattern; use it with `async with`.

    An event goes over once: one that came from the broker is not sent back, and one that was sent from here is not
    delivered here twice. A bus topic is a Kafka topic of the same name. Events that come from the log count as handled
    when the bus has taken them.
    """

    def __init__(
        self, bus: Bus, broker: BrokerLike, pattern: str, *, group: str | None, value: Any, settings: Settings | None
    ) -> None:
        self.id = ids.new()
        self.bus, self.broker, self.pattern = bus, broker, pattern
        self.producer: Producer[Any] = Producer(broker, settings=settings)
        self.consumer: Consumer[Any] = Consumer(
            broker,
            kafka_pattern(pattern),
            group=group or f"bridge-{self.id}",
            value=value,
            start="latest" if group is None else "earliest",
            settings={"topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS, **(settings or {})},
            on_assigned=lambda partitions: self.note_ready(),
        )
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

    async def receive(self, consumer: AsyncConsumer[Any]) -> None:
        async for event in consumer:
            if event.headers.get(BRIDGE_HEADER) == self.id:
                continue
            headers = event.headers
            if BRIDGE_HEADER not in headers:
                headers = headers.with_added(BRIDGE_HEADER, "from-broker")
            with handling(event):
                await self.bus.publish(event.topic, event.value, key=event.key, headers=headers)

    async def wait_ready(self) -> None:
        """Returns when events from the broker arrive here; needs a topic of the pattern to be there."""
        await self.ready.wait()

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self.sender = await self.producer.__aenter__()
        consumer = await self.consumer.__aenter__()
        self.subscription = self.bus.subscribe(self.pattern, self.send)
        self.task = self.loop.create_task(self.receive(consumer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.task is not None
        await self.bus.drain()
        if self.subscription is not None:
            self.subscription.cancel()
        self.consumer.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.consumer.__aexit__(kind, error, trace)
        await self.producer.__aexit__(kind, error, trace)


def bridge(
    bus: Bus,
    broker: BrokerLike,
    pattern: str = "#",
    *,
    group: str | None = None,
    value: Any = None,
    settings: Settings | None = None,
) -> Bridge:
    """Connects both ways: `async with hw.bridge(bus, broker, "orders.#"):`.

    With a `group`, bridges share the events that come from the broker, and what was missed comes after a restart;
    without one each gets all that come from now on. `value` is as for a Consumer.
    """
    return Bridge(bus, broker, pattern, group=group, value=value, settings=settings)
