"""Events, headers, serializers, CloudEvents and what events inherit from each other."""

import dataclasses
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from headwater.events import (
    CloudEventError,
    DeserializationError,
    Event,
    Headers,
    SerializationError,
    current_event,
    handling,
)
from headwater.events.cloudevents import (
    attributes_of,
    to_binary,
    to_structured,
)
from headwater.events.event import event_maker
from headwater.events.headers import header_pairs
from headwater.events.serializers import ANY, CONTENT_TYPE, JsonSerializer, Serializer, as_serializer, serializer_of
from headwater.events.stamps import stamp


@dataclasses.dataclass
class Order:
    id: int
    total: float


class Payment(msgspec.Struct):
    order: int


class Parcel(pydantic.BaseModel):
    order: int
    weight: float = 1.0


def from_log(raw: bytes | None, headers: Any = (), kind: Any = None, key: bytes | None = None) -> Event[Any]:
    record = Message("orders", 2, 7, key, raw, header_pairs(headers), timestamp=(1, 1000))
    return event_maker(as_serializer(kind), serializer_of(str))(record)


# -- headers


def test_headers_keep_order_and_repetitions() -> None:
    headers = Headers([("a", "1"), ("b", b"\xff"), ("a", "2"), ("n", None)])
    assert headers["a"] == "2"
    assert headers.all("a") == ["1", "2"]
    assert headers.raw("b") == b"\xff"
    assert headers.get("n") is None
    assert headers.get("none", "x") == "x"
    assert [name for name, _ in headers] == ["a", "b", "a", "n"]
    assert "b" in headers
    assert "c" not in headers


def test_headers_that_are_no_text_say_how_to_get_their_bytes() -> None:
    with pytest.raises(DeserializationError, match=r"headers.raw\('b'\)"):
        Headers({"b": b"\xff"}).get("b")
    with pytest.raises(KeyError):
        Headers()["missing"]
    with pytest.raises(SerializationError, match="int"):
        Headers([("n", 1)])  # type: ignore[list-item]


# -- serializers


def there_and_back(serializer: Serializer[Any], value: Any) -> Any:
    data = serializer.encode(value, "t")
    assert data is not None
    return serializer.decode(data, "t", Headers())


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff", "grün", 42, {"a": [1, None]}, [1, 2], Order(1, 2.5), Payment(3), Parcel(order=4), True, 1.5],
    ids=repr,
)
def test_every_kind_of_value_goes_there_and_back(value: Any) -> None:
    assert there_and_back(serializer_of(type(value)), value) == value


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(), st.lists, max_leaves=20))
def test_json_values_are_what_they_were(value: Any) -> None:
    assert there_and_back(serializer_of(object), value) == value


@pytest.mark.parametrize(
    ("kind", "data"), [(Order, b'{"id": "x"}'), (Payment, b"{"), (Parcel, b"{}"), (str, b"\xff"), (int, b"x")]
)
def test_bytes_of_another_kind_are_a_named_error(kind: Any, data: bytes) -> None:
    with pytest.raises(DeserializationError, match="orders"):
        _ = from_log(data, kind=kind).value


def test_without_a_type_the_content_type_decides() -> None:
    assert from_log(b'{"a":1}', {CONTENT_TYPE: "application/json"}).value == {"a": 1}
    assert from_log(b'{"a":1}', {CONTENT_TYPE: "application/vnd.x+json; charset=utf-8"}).value == {"a": 1}
    assert from_log(b"abc", {CONTENT_TYPE: "text/plain"}).value == "abc"
    assert from_log(b"abc").value == b"abc"
    assert from_log(None).value is None
    assert ANY.encode(None, "t") is None


def test_what_cannot_be_json_is_a_named_error() -> None:
    with pytest.raises(SerializationError, match="object"):
        serializer_of(object).encode(object(), "orders")


def test_a_serializer_of_ones_own_is_taken_as_it_is() -> None:
    class Upper:
        content_type = "text/upper"

        def encode(self, value: str, topic: str) -> bytes:
            return value.upper().encode()

        def decode(self, data: bytes, topic: str, headers: Headers) -> str:
            return data.decode().lower()

    assert from_log(b"ABC", kind=Upper()).value == "abc"


def test_a_json_serializer_that_decodes_in_its_own_way_does_so() -> None:
    class Doubling(JsonSerializer[int]):
        def decode(self, data: bytes, topic: str, headers: Headers) -> int:
            return 2 * super().decode(data, topic, headers)

    assert from_log(b"21", kind=JsonSerializer(int)).value == 21
    assert from_log(b"21", kind=Doubling(int)).value == 42


# -- the event


def test_an_event_decodes_on_first_use_only() -> None:
    reads = []

    class Counting:
        content_type = None

        def encode(self, value: Any, topic: str) -> bytes:
            raise NotImplementedError

        def decode(self, data: bytes, topic: str, headers: Headers) -> Any:
            reads.append(data)
            return data

    event = from_log(b"x", kind=Counting(), key=b"k")
    assert (event.topic, event.partition, event.offset, event.timestamp) == ("orders", 2, 7, 1000)
    assert reads == []
    assert event.value is event.raw
    assert event.value == b"x"
    assert reads == [b"x"]
    assert event.key == "k"


def test_an_event_without_an_id_is_named_by_its_place() -> None:
    event = from_log(b"x")
    assert event.id == "orders/2/7"
    assert event.correlation_id == "orders/2/7"
    assert event.causation_id is None
    first, second = Event("a", 1), Event("a", 1)
    assert first.id == first.id != second.id


def test_a_representation_never_raises() -> None:
    assert "b'{'" in repr(from_log(b"{", kind=Order))


# -- CloudEvents


def test_stamping_makes_a_cloud_event_and_leaves_what_is_given() -> None:
    pairs = header_pairs({"ce_type": "mine", "origin": "web"})
    stamp("orders", Order(1, 2.0), pairs)
    attributes = attributes_of(Headers(pairs), b"{}")
    assert attributes.pop("id") == attributes.pop("correlationid")
    assert attributes == {"specversion": "1.0", "source": "headwater", "type": "mine"}
    assert Headers(pairs)[CONTENT_TYPE] == "application/json"


def test_what_is_published_while_an_event_is_handled_is_caused_by_it() -> None:
    cause = from_log(b"x", {"ce_id": "a", "ce_correlationid": "first", "ce_traceparent": "00-1-2-01"})
    pairs: list[tuple[str, bytes | None]] = []
    with handling(cause):
        assert current_event() is cause
        stamp("paid", {"a": 1}, pairs)
    assert current_event() is None
    effect = from_log(b"{}", pairs)
    assert (effect.causation_id, effect.correlation_id, effect.traceparent) == ("a", "first", "00-1-2-01")
    assert effect.type == "paid"


ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "ordered", "correlationid": "c"}


@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b'{"id":1,"total":2.0}', "application/json", {"id": 1, "total": 2.0}),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (b"hello", "text/plain", "hello"),
    ],
)
def test_both_modes_say_the_same(data: bytes, content_type: str, expected: Any) -> None:
    for raw, headers in (to_binary(ATTRIBUTES, data, content_type), to_structured(ATTRIBUTES, data, content_type)):
        event = from_log(raw, headers)
        assert event.value == expected
        assert (event.id, event.source, event.type, event.correlation_id) == ("1", "/shop", "ordered", "c")


def test_a_structured_event_is_read_as_its_type() -> None:
    raw, headers = to_structured(ATTRIBUTES, b'{"id":1,"total":2.0}')
    assert from_log(raw, headers, Order).value == Order(1, 2.0)


def test_a_structured_event_is_not_taken_for_its_data() -> None:
    """Its envelope would be a value of this type, too."""
    raw, headers = to_structured(ATTRIBUTES, b'{"id":1}')
    assert from_log(raw, headers, dict[str, Any]).value == {"id": 1}
    assert from_log(raw, {}, dict[str, Any]).value["specversion"] == "1.0"


def test_what_only_claims_to_be_a_cloud_event_is_a_named_error() -> None:
    with pytest.raises(CloudEventError, match="source"):
        to_structured({"specversion": "1.0", "id": "1", "type": "t"}, None)
    with pytest.raises(CloudEventError):
        to_binary({}, None)
    structured = {CONTENT_TYPE: "application/cloudevents+json"}
    with pytest.raises(CloudEventError, match="lacks"):
        _ = from_log(b'{"specversion":"1.0"}', structured).value
    with pytest.raises(CloudEventError, match="JSON"):
        _ = from_log(b"specversion", structured).value
    with pytest.raises(CloudEventError, match="base64"):
        _ = from_log(b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"*"}', structured).value


class Label(TypedDict):
    name: str
    size: int


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Tree(msgspec.Struct):
    name: str


class Person(pydantic.BaseModel):
    name: str


GOOD: list[tuple[Any, list[Any]]] = [
    (Tree, [Tree("oak")]),
    (Person, [Person(name="Ann")]),
    (Label, [{"name": "a", "size": 1}]),
    (list[int], [[], [1], (1, 2)]),
    (dict[str, int], [{}, {"a": 1}]),
    (Tree | None, [Tree("oak"), None]),
    (Colour, [Colour.RED]),
    (Point, [Point(1)]),
    (int, [5]),
    (float, [1.5, 1]),
    (bool, [True]),
    (dict, [{"a": 1}]),
    (datetime, [datetime(2026, 7, 1, 12, tzinfo=UTC)]),
    (Literal["a", "b"], ["a"]),
    (str, ["text"]),
    (bytes, [b"bytes"]),
]
BAD: list[tuple[Any, str, list[Any]]] = [
    (Tree, "expected Tree, got (dict|str|Point)", [{"name": "oak"}, "oak", Point(1)]),
    (Person, "expected Person, got (dict|Tree)", [{"name": "Ann"}, Tree("oak")]),
    (Label, "expected Label, got (dict|Tree|list)", [{"name": "a"}, {"name": 1, "size": 1}, Tree("oak"), []]),
    (list[int], r"expected list\[int\], got (list|int)", [["a"], 1]),
    (Tree | None, "expected .*Tree.* got int", [5]),
    (Colour, "expected Colour, got str", ["red"]),
    (Point, "expected Point, got tuple", [(1,)]),
    (int, "expected int, got (bool|float|dict)", [True, 1.5, {}]),
    (float, "expected float, got (bool|float|dict)", [True, float("nan"), {}]),
    (Literal["a", "b"], "got str", ["c"]),
    (str, "expected str, got int", [1]),
    (bytes, "expected bytes, got str", ["text"]),
]


@pytest.mark.parametrize(("kind", "values"), GOOD, ids=str)
def test_values_of_their_type_are_written_and_read(kind: Any, values: list[Any]) -> None:
    serializer = as_serializer(kind)
    for value in values:
        read = there_and_back(serializer, value)
        assert read == (list(value) if isinstance(value, tuple) and kind == list[int] else value)


@pytest.mark.parametrize(("kind", "said", "values"), BAD, ids=str)
def test_values_of_another_type_are_not_written(kind: Any, said: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SerializationError, match=f"t: .*{said}"):
            as_serializer(kind).encode(value, "t")


def test_without_a_type_each_value_is_written_by_its_own() -> None:
    serializer = as_serializer(None)
    values = [(True, b"true"), ({"a": [1, None]}, b'{"a":[1,null]}'), (Tree("oak"), b'{"name":"oak"}'), ("a", b"a")]
    for value, data in values:
        assert serializer.encode(value, "t") == data


def test_a_serializer_without_a_content_type_is_refused() -> None:
    class Unfinished:
        def encode(self, value: str, topic: str) -> bytes:
            return value.encode()

        def decode(self, data: bytes, topic: str, headers: Headers) -> str:
            return data.decode()

    unfinished: Any = Unfinished()
    with pytest.raises(SerializationError, match="has no content_type"):
        as_serializer(unfinished)


def test_a_union_is_written_and_read() -> None:
    serializer: Serializer[Any] = as_serializer(int | str)
    assert [there_and_back(serializer, value) for value in (1, "a")] == [1, "a"]
    with pytest.raises(SerializationError):
        serializer.encode([1], "t")
