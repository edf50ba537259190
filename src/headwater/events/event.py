"""The event: one class for what a bus delivers and what a log keeps.

Nothing is copied or decoded before it is needed: an event from a broker holds the bytes that librdkafka handed over, and
decodes its value, key and headers on first use.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from headwater.events.cloudevents import PREFIX, STRUCTURED_TYPE, Attributes, attributes_of, structured_data
from headwater.events.headers import Headers, HeadersLike, Pairs
from headwater.events.ids import ids
from headwater.events.serializers import ANY, CONTENT_TYPE, BytesSerializer, Serializer

Value = TypeVar("Value")
UNREAD: Any = object()
AS_BYTES = BytesSerializer()


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
        "_key_serializer",
        "_read_headers",
        "_serializer",
        "_value",
        "offset",
        "partition",
        "raw",
        "raw_key",
        "timestamp",
        "topic",
    )

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
        self.topic, self.partition, self.offset, self.timestamp = topic, partition, offset, timestamp
        self.raw: bytes | None = None
        self.raw_key: bytes | None = None
        self._value, self._key = value, key
        self._headers: Headers | None = Headers(headers) if headers else NO_HEADERS
        self._attributes: Attributes | None = None
        self._read_headers: Callable[[], Pairs | None] | None = None
        self._serializer: Serializer[Value] = ANY
        self._key_serializer: Serializer[Any] = ANY

    @classmethod
    def from_record(
        cls,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        raw_key: bytes | None,
        raw: bytes | None,
        read_headers: Callable[[], Pairs | None] | None,
        serializer: Serializer[Value],
        key_serializer: Serializer[Any],
    ) -> "Event[Value]":
        """An event from a log. `read_headers` is called for its headers when they are needed."""
        event = cls.__new__(cls)
        event.topic, event.partition, event.offset, event.timestamp = topic, partition, offset, timestamp
        event.raw_key, event.raw = raw_key, raw
        event._value = event._key = UNREAD
        event._headers = event._attributes = None
        event._read_headers = read_headers
        event._serializer, event._key_serializer = serializer, key_serializer
        return event

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(self._read_headers() if self._read_headers is not None else None)
        return self._headers

    @property
    def value(self) -> Value:
        """What happened. None for a tombstone."""
        if self._value is UNREAD:
            self._value = self._read_value()
        return self._value

    def _read_value(self) -> Value:
        if self.raw is None:
            return cast(Value, None)
        if b"specversion" in self.raw and (self.headers.get(CONTENT_TYPE) or "").startswith(STRUCTURED_TYPE):
            data, content_type = structured_data(self.raw)
            return self._serializer.decode(data, self.topic, Headers({CONTENT_TYPE: content_type}))
        headers = self.headers if self._serializer is ANY else NO_HEADERS
        return self._serializer.decode(self.raw, self.topic, headers)

    @property
    def key(self) -> Any:
        """What the event is about: text, unless the consumer has another serializer for keys. None without a key."""
        if self._key is UNREAD:
            raw = self.raw_key
            self._key = None if raw is None else self._key_serializer.decode(raw, self.topic, NO_HEADERS)
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
