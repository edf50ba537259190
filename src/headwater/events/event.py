"""The event: one class for what a bus delivers and what a log keeps.

Nothing is copied or decoded before it is needed: an event from a broker holds the record that librdkafka handed over, and
reads its place, value, key and headers from it on first use.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar, cast

from headwater.events.cloudevents import PREFIX, STRUCTURED_TYPE, Attributes, attributes_of, structured_data
from headwater.events.headers import Headers, HeadersLike, Pairs
from headwater.events.ids import ids
from headwater.events.serializers import ANY, CONTENT_TYPE, BytesSerializer, JsonSerializer, Serializer

Value = TypeVar("Value")
UNREAD: Any = object()
FIRST_LOOK = ord("v")
AS_BYTES = BytesSerializer()


class Record(Protocol):
    """A record of a log, as the client library hands it over: what an event reads when somebody asks for it."""

    def topic(self) -> str: ...

    def partition(self) -> int: ...

    def offset(self) -> int: ...

    def timestamp(self) -> tuple[int, int]:
        """The kind of the timestamp, and the timestamp in ms."""
        ...

    def key(self) -> bytes | None: ...

    def value(self) -> bytes | None: ...

    def headers(self) -> Pairs | None: ...


class Event(Generic[Value]):
    """Something that happened, and its place in a log.

    `topic`, `partition` and `offset` are its place (partition and offset are -1 for an event that is not from a log).
    `timestamp` is in ms since 1970. `raw` and `raw_key` are the bytes in the log; `value` and `key` are what the consumer's
    serializers make of them. Reading `value` or `key` raises DeserializationError for bytes that they cannot decode.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_headers",
        "_key",
        "_offset",
        "_partition",
        "_record",
        "_serializers",
        "_timestamp",
        "_topic",
        "_value",
    )
    # An event from a log has a Record, and serializers for what that has. Any other has no record, but a place and a value.
    _record: Any
    _serializers: "Serializers[Value]"

    def __init__(
        self,
        topic: str,
        value: Value,
        *,
        key: object = None,
        headers: HeadersLike | None = None,
        timestamp: int = -1,
        partition: int = -1,
        offset: int = -1,
    ) -> None:
        self._record = None
        self._topic, self._partition, self._offset, self._timestamp = topic, partition, offset, timestamp
        self._value, self._key = value, key
        self._headers: Headers | None = Headers(headers) if headers else NO_HEADERS
        self._attributes: Attributes | None = None

    @property
    def topic(self) -> str:
        found: str = self._topic if self._record is None else self._record.topic()
        return found

    @property
    def partition(self) -> int:
        found: int = self._partition if self._record is None else self._record.partition()
        return found

    @property
    def offset(self) -> int:
        found: int = self._offset if self._record is None else self._record.offset()
        return found

    @property
    def timestamp(self) -> int:
        found: int = self._timestamp if self._record is None else self._record.timestamp()[1]
        return found

    @property
    def raw(self) -> bytes | None:
        found: bytes | None = None if self._record is None else self._record.value()
        return found

    @property
    def raw_key(self) -> bytes | None:
        found: bytes | None = None if self._record is None else self._record.key()
        return found

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(None if self._record is None else self._record.headers())
        return self._headers

    @property
    def value(self) -> Value:
        """What happened. None for a tombstone."""
        value = self._value
        if value is UNREAD:
            # Every event of a typed consumer comes here. So nothing is called that is not needed, and structured mode is looked
            # for by one byte first: that costs next to nothing, and most records do not have it.
            raw = self._record.value()
            if raw is None:
                value = self._value = cast(Value, None)
            elif (FIRST_LOOK in raw and self._is_structured(raw)) or (read := self._serializers.read) is None:
                value = self._value = self._decode(raw)
            else:
                try:
                    value = self._value = read(raw)
                except ValueError:
                    value = self._value = self._decode(raw)  # an error that says what was expected
        return value

    def _decode(self, raw: bytes) -> Value:
        """The value of these bytes, by what topic and headers say of them. Raises DeserializationError."""
        serializer = self._serializers.value
        if self._is_structured(raw):
            data, content_type = structured_data(raw)
            return serializer.decode(data, self.topic, Headers({CONTENT_TYPE: content_type}))
        return serializer.decode(raw, self.topic, self.headers if serializer is ANY else NO_HEADERS)

    def _is_structured(self, raw: bytes) -> bool:
        """Whether the record is a CloudEvent in structured mode: by its bytes first, since reading headers costs more."""
        return b"specversion" in raw and (self.headers.get(CONTENT_TYPE) or "").startswith(STRUCTURED_TYPE)

    @property
    def key(self) -> Any:
        """What the event is about: text, unless the consumer has another serializer for keys. None without a key."""
        if self._key is UNREAD:
            raw = self.raw_key
            self._key = None if raw is None else self._serializers.key.decode(raw, self.topic, NO_HEADERS)
        return self._key

    @property
    def attributes(self) -> Attributes:
        """The CloudEvents attributes, by name without `ce_`. Empty for a record that is not a CloudEvent."""
        if self._attributes is None:
            self._attributes = attributes_of(self.headers, self.raw)
        return self._attributes

    @property
    def id(self) -> str:
        """Its CloudEvents id. For a record without one: its place in the log, which no other record has."""
        found = self.attributes.get("id")
        if found is None:
            found = f"{self.topic}/{self.partition}/{self.offset}" if self.offset >= 0 else ids.new()
            self._attributes = {**self.attributes, "id": found}
        return found

    @property
    def type(self) -> str | None:
        return self.attributes.get("type")

    @property
    def source(self) -> str | None:
        return self.attributes.get("source")

    @property
    def correlation_id(self) -> str:
        """The id of the first event of the chain that led here."""
        return self.attributes.get("correlationid") or self.id

    @property
    def causation_id(self) -> str | None:
        """The id of the event whose handler published this one; None if it was published outside of a handler."""
        return self.attributes.get("causationid")

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that it belongs to."""
        return self.attributes.get("traceparent") or self.headers.get("traceparent")

    @property
    def time(self) -> datetime | None:
        """When it happened, by the record's timestamp."""
        return datetime.fromtimestamp(self.timestamp / 1000, UTC) if self.timestamp >= 0 else None

    def caused_by(self, parent: "Event[Any]", new_id: str) -> None:
        """Makes `parent` the cause: this event inherits its correlation id and trace."""
        own = attributes_of(self.headers, None)
        inherited = {"id": new_id, "correlationid": parent.correlation_id, "causationid": parent.id}
        if parent.traceparent is not None:
            inherited["traceparent"] = parent.traceparent
        self._attributes = inherited | own

    def identified_headers(self) -> Headers:
        """Its headers, with all of its attributes as headers: so it keeps its identity when it is sent elsewhere."""
        attributes = {"id": self.id, **self.attributes}
        missing = [(PREFIX + name, text) for name, text in attributes.items() if PREFIX + name not in self.headers]
        return Headers([*self.headers, *missing])

    def with_value(self, value: Any, topic: str | None = None) -> "Event[Any]":
        """The same event with another value, and with another topic if one is given."""
        return Event(
            self.topic if topic is None else topic,
            value,
            key=self.key,
            headers=self.headers,
            timestamp=self.timestamp,
            partition=self.partition,
            offset=self.offset,
        ).with_attributes(self.attributes)

    def postpone(self, delay_ms: int) -> None:
        """Has an event of one's own happen later than it was made."""
        self._timestamp += delay_ms

    def with_attributes(self, attributes: Attributes) -> "Event[Value]":
        self._attributes = attributes
        return self

    def __repr__(self) -> str:
        place = f" [{self.partition}] @{self.offset}" if self.offset >= 0 else ""
        try:
            value = repr(self.value)
        except ValueError:
            value = repr(self.raw)
        return f"<Event {self.topic}{place} key={self.raw_key if self._key is UNREAD else self._key!r} value={value[:200]}>"


NO_HEADERS = Headers()


class Serializers(Generic[Value]):
    """What makes values and keys of a reader's bytes. `read` does so for values alone, where neither topic nor headers count."""

    __slots__ = ("key", "read", "value")

    def __init__(self, value: Serializer[Value], key: Serializer[Any]) -> None:
        self.value, self.key = value, key
        self.read: Callable[[bytes], Value] | None = None
        if isinstance(value, JsonSerializer) and type(value).decode is JsonSerializer.decode:
            self.read = value.read


def event_maker(value: Serializer[Value], key: Serializer[Any]) -> Callable[[Record], Event[Value]]:
    """How a reader of a log makes an event of a record. It is called for every record, and so does next to nothing."""
    new: Callable[[type[Event[Value]]], Event[Value]] = Event.__new__
    serializers = Serializers(value, key)

    def make(record: Record) -> Event[Value]:
        event = new(Event)
        event._record, event._serializers = record, serializers
        event._value = event._key = UNREAD
        event._headers = event._attributes = None
        return event

    return make
