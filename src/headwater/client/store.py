"""A bus's event store that is a Headwater topic: every event of the bus is on disk before anybody gets it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from headwater.client.admin import Admin
from headwater.client.connections import BrokerLike, Notes, Settings, make_client, merge_settings
from headwater.client.errors import ClientError, ClientTimeoutError, ConfigurationError, client_error
from headwater.client.producer import AsyncProducer, Producer
from headwater.events.event import Event
from headwater.events.serializers import as_serializer

logger = logging.getLogger(__name__)
TOPIC_HEADER = "hw_topic"
KEPT_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
BATCH_MAX = 500
POLL_S = 0.1
READ_TIMEOUT_MS = 30_000.0
AS_TEXT = as_serializer(str)


class TopicStore:
    """Keeps the events of a bus in one topic, for ever, and with one partition so that their order is kept too.

    The topic is made where it is not there. Raises ConfigurationError for one with more partitions; one whose events expire
    is named in a warning. `timeout_ms` is how long `read` waits for a broker that does not answer.
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
        reader = await asyncio.to_thread(Reader, self)
        try:
            while (messages := await asyncio.to_thread(reader.next_messages)) is not None:
                for message in messages:
                    event = self.event(message)
                    yield event.with_value(event.value, event.headers.get(TOPIC_HEADER) or event.topic)
        finally:
            await asyncio.to_thread(reader.raw.close)

    def event(self, message: Message) -> Event[Any]:
        return Event.from_record(
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers,
            self.serializer,
            AS_TEXT,
        )

    async def close(self) -> None:
        """Delivers what is on its way."""
        await self.sender.close()

    def __repr__(self) -> str:
        return f"<TopicStore in {self.topic} of {self.producer.address}>"


class Reader:
    """Reads a store's topic up to where it ends at the beginning of the reading; no member of a group, so that many can.

    The last offset need not be that of an event: the markers of transactions have offsets too, and records can be deleted.
    So the end is where librdkafka says that it is.
    """

    def __init__(self, store: TopicStore) -> None:
        self.store, self.notes = store, Notes()
        defaults = {
            "client.id": "headwater",
            "group.id": f"{store.topic}-replay",  # librdkafka wants one; it is not joined
            "auto.offset.reset": "earliest",
        }
        found = {**merge_settings(store.broker, defaults, store.settings, self.notes)}
        found |= {"enable.auto.commit": False, "enable.partition.eof": True}
        self.raw = make_client(RawConsumer, found, "the reader", self.notes)
        self.what = f"reading {store.topic}"
        place, timeout_s = TopicPartition(store.topic, 0), store.timeout_ms / 1000
        try:
            place.offset, self.end = self.raw.get_watermark_offsets(place, timeout_s)
            self.raw.assign([place])
        except KafkaException as error:
            self.raw.close()
            raise client_error(self.notes.cause_of(error.args[0]), self.what) from error
        self.is_at_end = place.offset >= self.end

    def next_messages(self) -> list[Message] | None:
        """Some messages; None at the end. Raises ClientError."""
        for _ in range(max(1, int(self.store.timeout_ms / 1000 / POLL_S))):
            if self.is_at_end:
                return None
            messages = [message for message in self.raw.consume(BATCH_MAX, POLL_S) if self.is_event(message)]
            if messages:
                self.is_at_end |= messages[-1].offset() + 1 >= self.end
                return messages
        refusal = self.notes.refusal
        raise self.late() if refusal is None else client_error(refusal, self.what)

    def late(self) -> ClientError:
        return ClientTimeoutError(f"{self.what}: nothing came for {self.store.timeout_ms:g} ms")

    def is_event(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return bool(message.offset() < self.end)
        if error.code() == KafkaError._PARTITION_EOF:
            self.is_at_end = True
        elif not error.retriable() and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            raise client_error(error, self.what)
        return False
