"""A bus's event store that is a Headwater topic: every event of the bus is on disk before anybody gets it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from headwater.client.admin import Admin
from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import ClientTimeoutError, ConfigurationError
from headwater.client.producer import AsyncProducer, Producer
from headwater.client.topic_reader import Reader
from headwater.events.event import Event
from headwater.events.serializers import as_serializer

logger = logging.getLogger(__name__)
TOPIC_HEADER = "hw_topic"
KEPT_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
BATCH_MAX = 500
READ_TIMEOUT_MS = 30_000.0


class TopicStore:
    """Keeps the events of a bus in one topic, for ever, and with one partition so that their order is kept too.

    The topic is created if it does not exist. Raises ConfigurationError for a topic with more partitions, and warns of
    one whose events expire. `timeout_ms` is how long `read` waits for a broker that does not answer.
    """

    def __init__(
        self,
        broker: BrokerLike,
        topic: str = "bus-events",
        *,
        value: Any = None,
        timeout_ms: float = READ_TIMEOUT_MS,
        settings: Settings | None = None,
    ) -> None:
        self.broker, self.topic, self.settings, self.timeout_ms = broker, topic, settings, timeout_ms
        self.serializer = as_serializer(value)
        with Admin(broker, settings=settings) as admin:
            admin.create_topic(topic, 1, configs=KEPT_FOR_EVER, exist_ok=True)
            partitions = len(admin.end_offsets(topic))
            if partitions != 1:
                raise ConfigurationError(f"topic {topic} has {partitions} partitions; a store needs one with 1")
            configs = admin.configs(topic)
        wrong = {name: configs.get(name) for name, wanted in KEPT_FOR_EVER.items() if configs.get(name) != wanted}
        if wrong:
            logger.warning("topic %s does not keep its events for ever: %s; admin.set_configs changes it", topic, wrong)
        self.producer: Producer[Any] = Producer(broker, settings=settings)
        self.sender = AsyncProducer(self.producer)

    async def append(self, event: Event[Any]) -> None:
        """Returns when the broker has it. Raises ClientError."""
        headers = event.identified_headers().with_added(TOPIC_HEADER, event.topic)
        await self.sender.send(self.topic, event.value, key=event.key, headers=headers, timestamp=event.timestamp)

    async def read(self) -> AsyncIterator[Event[Any]]:
        """Every event that is kept, oldest first, with the topic that it had on the bus. Raises ClientError."""
        reader = await asyncio.to_thread(self.reader)
        try:
            while events := await asyncio.to_thread(self.next_events, reader):
                for event in events:
                    yield event.with_value(event.value, event.headers.get(TOPIC_HEADER) or event.topic)
        finally:
            await asyncio.to_thread(reader.close)

    def reader(self) -> Reader[Any]:
        """A reader of what is there now."""
        return Reader(self.broker, self.topic, end="latest", value=self.serializer, settings=self.settings)

    def next_events(self, reader: Reader[Any]) -> list[Event[Any]]:
        """Some events; none at the end. Raises ClientError."""
        events = reader.take(BATCH_MAX, self.timeout_ms)
        if not events and not reader.is_complete:
            raise ClientTimeoutError(f"reading {self.topic}: nothing came for {self.timeout_ms:g} ms")
        return events

    async def close(self) -> None:
        """Delivers what is on its way."""
        await self.sender.close()

    def __repr__(self) -> str:
        return f"<TopicStore in {self.topic} of {self.producer.address}>"
