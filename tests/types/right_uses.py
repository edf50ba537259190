"""What a strict type checker knows of values, by the type or serializer that a client was given. Never run."""

from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import msgspec
import pydantic

import headwater as hw
from headwater.events.serializers import BytesSerializer, JsonSerializer, as_serializer


@dataclass
class Order:
    id: int


class Price(msgspec.Struct):
    amount: float


class Invoice(pydantic.BaseModel):
    number: int


class Row(TypedDict):
    name: str


class Reversed:
    """A serializer of one's own: no base class, and a content type that is plain text."""

    content_type = "text/x-reversed"

    def encode(self, value: str, topic: str) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes, topic: str, headers: hw.Headers) -> str:
        return data.decode()[::-1]


broker = hw.Broker()
for dataclass_event in hw.Consumer(broker, "orders", group="billing", value=Order):
    assert_type(dataclass_event, hw.Event[Order])
    assert_type(dataclass_event.value.id, int)
for struct_event in hw.Consumer(broker, "prices", group="billing", value=Price):
    assert_type(struct_event.value.amount, float)
for model_event in hw.Consumer(broker, "invoices", group="billing", value=Invoice):
    assert_type(model_event.value.number, int)
for row_event in hw.Consumer(broker, "rows", group="billing", value=Row):
    assert_type(row_event.value["name"], str)
for list_event in hw.Consumer(broker, "lists", group="billing", value=list[int]):
    assert_type(list_event.value, list[int])
for own_event in hw.Consumer(broker, "texts", group="billing", value=Reversed()):
    assert_type(own_event.value, str)
for any_event in hw.Consumer(broker, "mixed", group="billing"):
    assert_type(any_event.value, Any)
for union_event in hw.Consumer[Order | None](broker, "orders", group="billing", value=Order | None):
    assert_type(union_event.value, Order | None)

assert_type(hw.Producer(broker, value=Order), hw.Producer[Order])
assert_type(hw.Producer(broker, value=Reversed()), hw.Producer[str])
assert_type(hw.Producer(broker, value=list[int]), hw.Producer[list[int]])
assert_type(hw.Producer(broker), hw.Producer[Any])
hw.Producer(broker, value=Order).send("orders", Order(1))
hw.Producer(broker, value=Order).send("orders", None)
hw.Producer(broker, key=int).send("orders", {"id": 1}, key=1)

assert_type(as_serializer(Order), hw.Serializer[Order])
assert_type(as_serializer(Reversed()), hw.Serializer[str])
assert_type(as_serializer(None), hw.Serializer[Any])
written: hw.Serializer[bytes] = BytesSerializer()
typed: hw.Serializer[Order] = JsonSerializer(Order)


async def consume() -> None:
    async with hw.Consumer(broker, "orders", group="billing", value=Order) as orders:
        async for event in orders:
            assert_type(event.value, Order)
        async for batch in orders.batches():
            assert_type(batch.values, list[Order])
        assert_type(await orders.take(1), list[hw.Event[Order]])
