"""A topic as a test sees it: send to it, and read everything that has arrived."""

from collections.abc import Callable, Mapping
from typing import Any

from headwater.client.admin import Admin
from headwater.client.connections import BrokerLike
from headwater.client.consumer import Consumer
from headwater.client.deliveries import Delivery
from headwater.client.names import checked_timeout_ms
from headwater.client.producer import Producer
from headwater.effects.clock import SystemClock
from headwater.events.event import Event
from headwater.events.headers import HeadersLike
from headwater.events.ids import ids

DELIVERY_TIMEOUT_MS = 10_000.0
# An idempotent producer of librdkafka asks for its producer id only every half second, so its first record can take that
# long. The producer here is not idempotent. It keeps the order too, and a record is duplicated only if the broker dies
# between the append and the answer.
QUICK_PRODUCER = {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1}


class Topic:
    """A topic of a broker (`hw.Broker`, or an address), with its own producer and consumer, created when first needed."""

    def __init__(self, broker: BrokerLike, name: str, *, value: Any = None) -> None:
        self.broker, self.name, self.value = broker, name, value
        self.producer: Producer[Any] | None = None
        self.consumer: Consumer[Any] | None = None
        self.received: list[Event[Any]] = []
        self.clock = SystemClock()

    def create(self, partitions: int = 1, configs: Mapping[str, object] | None = None) -> None:
        with Admin(self.broker) as admin:
            admin.create_topic(self.name, partitions, configs=configs, exist_ok=True)

    def send(self, value: Any, *, key: object = None, headers: HeadersLike | None = None) -> Delivery:
        """Sends a record, and returns when the broker has stored it."""
        if self.producer is None:
            self.producer = Producer(self.broker, settings=QUICK_PRODUCER)
        return self.producer.send(self.name, value, key=key, headers=headers).result(DELIVERY_TIMEOUT_MS)

    def receive_until(self, is_enough: Callable[[], bool], within_ms: float) -> bool:
        """Reads from the beginning of the topic until `is_enough` returns True; False if that takes too long."""
        if self.consumer is None:
            settings = {"enable.auto.commit": False, "fetch.error.backoff.ms": 50}
            self.consumer = Consumer(
                self.broker, self.name, group=f"expect-{ids.new()}", value=self.value, settings=settings
            )
        deadline_ms = self.clock.steady_ms() + checked_timeout_ms(within_ms, "within_ms")
        while not is_enough():
            left_ms = deadline_ms - self.clock.steady_ms()
            if left_ms <= 0:
                return False
            self.received += self.consumer.take(1, left_ms)
        return True

    def close(self) -> None:
        if self.producer is not None:
            self.producer.close()
        if self.consumer is not None:
            self.consumer.close()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"
