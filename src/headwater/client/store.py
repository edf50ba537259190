"""A bus's event store that is a Headwater topic: every event of the bus is on disk before anybody gets it."""

from collections.abc import AsyncIterator
from typing import Any

from headwater.client.admin import Admin
from headwater.client.connections import BrokerLike, Settings
from headwater.client.consumer import Consumer
from headwater.client.producer import AsyncProducer, Producer
from headwater.events.event import Event

TOPIC_HEADER = "hw_topic"


class TopicStore:
    """Keeps the events of a bus in one topic, with one partition so that their order is kept too."""

    def __init__(
        self, broker: BrokerLike, topic: str = "bus-events", *, value: Any = None, settings: Settings | None = None
    ) -> None:
        self.broker, self.topic, self.value, self.settings = broker, topic, value, settings
        self.producer: Producer[Any] = Producer(broker, settings=settings)
        self.sender = AsyncProducer(self.producer)
        with Admin(broker, settings=settings) as admin:
            admin.create_topic(topic, 1, exist_ok=True)

    async def append(self, event: Event[Any]) -> None:
        """Returns when the broker has it. Raises ClientError."""
        headers = event.identified_headers().with_added(TOPIC_HEADER, event.topic)
        await self.sender.send(self.topic, event.value, key=event.key, headers=headers, timestamp=event.timestamp)

    async def read(self) -> AsyncIterator[Event[Any]]:
        """Every event that is kept, oldest first, with the topic that it had on the bus."""
        async with Admin(self.broker, settings=self.settings) as admin:
            ends = await admin.end_offsets(self.topic)
        left = sum(ends.values())
        if left == 0:
            return
        settings = {**(self.settings or {}), "enable.auto.commit": False}
        consumer: Consumer[Any] = Consumer(
            self.broker, self.topic, group=f"{self.topic}-replay", value=self.value, settings=settings
        )
        async with consumer as events:
            async for event in events:
                yield event.with_value(event.value, event.headers.get(TOPIC_HEADER) or event.topic)
                if event.offset + 1 >= left:
                    return

    async def close(self) -> None:
        """Delivers what is on its way."""
        await self.sender.close()
