"""Headwater: event streaming that starts inside a Python process.

import headwater as hw

with hw.Broker() as broker:            # a Kafka broker, in memory; hw.Broker("./data") keeps its data
    with hw.Producer(broker) as producer:
        producer.send("orders", {"id": 42, "total": 9.9}, key="42")
    with hw.Consumer(broker, "orders", group="billing") as orders:
        for event in orders:           # event.value, .key, .headers, .timestamp, .topic, .partition, .offset
            ...

One model in three places: `Signal` (observers of one object), `Bus` (publish and subscribe in one process) and `Producer`
and `Consumer` (a durable log between processes) carry the same `Event`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.broker.shell.embedded import Broker, BrokerError
    from headwater.bus.bus import Bus
    from headwater.bus.errors import EmitError
    from headwater.bus.signal import Connection, OnError, Signal
    from headwater.bus.subscription import Overflow, Subscription
    from headwater.client.admin import Admin, AsyncAdmin
    from headwater.client.async_consumer import AsyncConsumer
    from headwater.client.batches import Batch
    from headwater.client.bridge import bridge
    from headwater.client.consumer import Consumer
    from headwater.client.deliveries import BatchDelivery, Delivery
    from headwater.client.errors import ClientError
    from headwater.client.positions import Partition
    from headwater.client.producer import AsyncProducer, Outgoing, Producer
    from headwater.client.store import TopicStore
    from headwater.client.topic_reader import AsyncReader, Reader
    from headwater.events.context import current_event, handling
    from headwater.events.errors import DeserializationError, EventError, SerializationError
    from headwater.events.event import Event
    from headwater.events.fates import DeadLetter, Retry, Skip, Stop
    from headwater.events.headers import Headers
    from headwater.events.serializers import Serializer

__version__ = "0.1.0"
MODULES = {
    "headwater.broker.shell.embedded": ("Broker", "BrokerError"),
    "headwater.client.admin": ("Admin", "AsyncAdmin"),
    "headwater.client.batches": ("Batch",),
    "headwater.client.bridge": ("bridge",),
    "headwater.client.async_consumer": ("AsyncConsumer",),
    "headwater.client.consumer": ("Consumer",),
    "headwater.client.deliveries": ("BatchDelivery", "Delivery"),
    "headwater.client.errors": ("ClientError",),
    "headwater.client.positions": ("Partition",),
    "headwater.client.producer": ("AsyncProducer", "Outgoing", "Producer"),
    "headwater.client.store": ("TopicStore",),
    "headwater.client.topic_reader": ("AsyncReader", "Reader"),
    "headwater.events.context": ("current_event", "handling"),
    "headwater.events.errors": ("DeserializationError", "EventError", "SerializationError"),
    "headwater.events.event": ("Event",),
    "headwater.events.fates": ("DeadLetter", "Retry", "Skip", "Stop"),
    "headwater.events.headers": ("Headers",),
    "headwater.events.serializers": ("Serializer",),
    "headwater.bus.bus": ("Bus",),
    "headwater.bus.errors": ("EmitError",),
    "headwater.bus.signal": ("Connection", "OnError", "Signal"),
    "headwater.bus.subscription": ("Overflow", "Subscription"),
}
PLACES = {name: module for module, names in MODULES.items() for name in names}
__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "AsyncReader",
    "Batch",
    "BatchDelivery",
    "Broker",
    "BrokerError",
    "Bus",
    "ClientError",
    "Connection",
    "Consumer",
    "DeadLetter",
    "Delivery",
    "DeserializationError",
    "EmitError",
    "Event",
    "EventError",
    "Headers",
    "OnError",
    "Outgoing",
    "Overflow",
    "Partition",
    "Producer",
    "Reader",
    "Retry",
    "SerializationError",
    "Serializer",
    "Signal",
    "Skip",
    "Stop",
    "Subscription",
    "TopicStore",
    "__version__",
    "bridge",
    "current_event",
    "handling",
]


def __getattr__(name: str) -> Any:
    """Imports a name with its first use, so that `import headwater` costs nothing."""
    if name in PLACES:
        found = globals()[name] = getattr(import_module(PLACES[name]), name)
        return found
    raise AttributeError(f"module 'headwater' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
