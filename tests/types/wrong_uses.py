"""Uses that a strict type checker must refuse, one a line, each with the code of its error. Never run."""
# mypy: warn-unused-ignores=False

from collections.abc import Callable
from dataclasses import dataclass

import headwater as hw
from headwater.events.serializers import BytesSerializer
from headwater.testing import TestBroker


@dataclass
class Order:
    id: int


class Unfinished:
    """A serializer that cannot read."""

    content_type = "text/plain"

    def encode(self, value: str, topic: str) -> bytes:
        return value.encode()


price_changed = hw.Signal[str, float]()
bus = hw.Bus()
broker = hw.Broker()


def takes_one(item: str) -> None: ...


price_changed.emit("gold")  # refused: call-arg
price_changed.emit("gold", "2010.5")  # refused: arg-type
price_changed.connect(takes_one)  # refused: arg-type
price_changed.connect(print, priority="high")  # refused: call-overload
bus.subscribe("orders", overflow=3)  # refused: call-overload
bus.subscribe("orders", takes_one)  # refused: arg-type
hw.Producer[Order](broker).send("orders", "not an order")  # refused: arg-type
hw.Producer(broker, value=Order).send("orders", {"id": 1})  # refused: arg-type
hw.Producer(broker, value=Unfinished())  # refused: arg-type
text: hw.Serializer[str] = BytesSerializer()  # refused: assignment
hw.Producer[Order](broker).send("orders", Order(1), heders={})  # refused: call-arg
hw.Consumer(broker, "orders", value=Order)  # refused: call-arg
hw.Consumer(broker, "orders", group="billing", start="begin")  # refused: arg-type
hw.Consumer(broker, "orders", group="billing", commit="sometimes")  # refused: arg-type
hw.Producer(broker, cloudevents="yes")  # refused: arg-type
bus.subscribe("orders", print, overflow="bogus")  # refused: call-overload
bus.subscribe("orders", print, on_error=hw.Skip)  # refused: call-overload
hw.Retry(then=hw.Stop)  # refused: arg-type
bus.every([5], "orders")  # refused: arg-type
TestBroker().network.drop("Prduce")  # refused: arg-type
TestBroker().network.delay(20, "Prduce")  # refused: arg-type
for event in hw.Consumer(broker, "orders", group="billing", value=Order):
    print(event.value.total)  # refused: attr-defined
    event.topic = "3"  # refused: misc


async def wrong() -> None:
    async with hw.Producer[Order](broker) as producer:
        producer.send("orders", Order(1)).offset.upper()  # refused: attr-defined
        await producer.flush("soon")  # refused: arg-type
    async with hw.Admin(broker) as admin:
        print((await admin.topics())["orders"].partition)  # refused: attr-defined
        await admin.create_topic(3)  # refused: arg-type
    await bus.publish("orders", 1, delay="5 minutes")  # refused: arg-type


handler: Callable[[int], None] = price_changed.emit  # refused: assignment
