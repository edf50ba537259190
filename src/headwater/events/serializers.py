"""Values and keys as bytes, and back.

A serializer is any object with `encode`, `decode` and a `content_type`; the schema registry's have the same form. Which
one a type gets: `bytes` and `str` are written as they are, everything else is JSON (a number's is its digits): what
msgspec reads and writes (dataclasses, `msgspec.Struct`, TypedDict, dict, list …) and pydantic's models.
"""

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from headwater.events.errors import DeserializationError, SerializationError
from headwater.events.headers import Headers

Value = TypeVar("Value")
CONTENT_TYPE = "content-type"
JSON_TYPE, TEXT_TYPE, BYTES_TYPE = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


class Serializer(Protocol[Value]):
    """Writes and reads the values of one type; `topic` is where they go or come from."""

    content_type: str | None

    def encode(self, value: Value, topic: str) -> bytes | None:
        """The bytes of a value; None makes a tombstone. Raises SerializationError."""
        ...

    def decode(self, data: bytes, topic: str, headers: Headers) -> Value:
        """The value of these bytes. Raises DeserializationError."""
        ...


class BytesSerializer:
    """Bytes as they are."""

    content_type: str | None = BYTES_TYPE

    def encode(self, value: bytes, topic: str) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise SerializationError(f"{topic}: expected bytes, got {type(value).__name__}")
        return bytes(value)

    def decode(self, data: bytes, topic: str, headers: Headers) -> bytes:
        return data


class TextSerializer:
    """UTF-8."""

    content_type: str | None = TEXT_TYPE

    def encode(self, value: str, topic: str) -> bytes:
        if not isinstance(value, str):
            raise SerializationError(f"{topic}: expected str, got {type(value).__name__}")
        return value.encode()

    def decode(self, data: bytes, topic: str, headers: Headers) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DeserializationError(f"{topic}: not UTF-8 text: {error}; read it with value=bytes") from error


class JsonSerializer(Generic[Value]):
    """JSON of one type, by msgspec."""

    content_type: str | None = JSON_TYPE

    def __init__(self, kind: type[Value]) -> None:
        self.kind = kind
        self.write = msgspec.json.Encoder().encode
        self.read = msgspec.json.Decoder(kind).decode

    def encode(self, value: Value, topic: str) -> bytes:
        try:
            return self.write(value)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise SerializationError(f"{topic}: {type(value).__name__} cannot be written as JSON: {error}") from error

    def decode(self, data: bytes, topic: str, headers: Headers) -> Value:
        try:
            return self.read(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            name = getattr(self.kind, "__name__", str(self.kind))
            raise DeserializationError(f"{topic}: not the JSON of {name}: {error}") from error


class PydanticSerializer:
    """JSON of a pydantic model."""

    content_type: str | None = JSON_TYPE

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(self, value: Any, topic: str) -> bytes:
        encoded: str = value.model_dump_json()
        return encoded.encode()

    def decode(self, data: bytes, topic: str, headers: Headers) -> Any:
        try:
            return self.model.model_validate_json(data)
        except ValueError as error:  # pydantic's ValidationError is one
            raise DeserializationError(f"{topic}: not the JSON of {self.model.__name__}: {error}") from error


class AnySerializer:
    """Writes each value by its own type, and reads by the `content-type` header; bytes where there is none."""

    content_type: str | None = None

    def encode(self, value: Any, topic: str) -> bytes | None:
        return None if value is None else serializer_of(type(value)).encode(value, topic)

    def decode(self, data: bytes, topic: str, headers: Headers) -> Any:
        content_type = headers.get(CONTENT_TYPE) or ""
        if content_type.startswith(JSON_TYPE) or content_type.partition(";")[0].endswith("+json"):
            return serializer_of(object).decode(data, topic, headers)
        if content_type.startswith("text/"):
            return serializer_of(str).decode(data, topic, headers)
        return data


ANY = AnySerializer()
known: dict[Any, Any] = {bytes: BytesSerializer(), str: TextSerializer()}
KNOWN_MAX = 4096  # types made at run time must not fill the memory


def is_pydantic(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump_json")


def serializer_of(kind: Any) -> Any:
    """The serializer of a type's values. Raises SerializationError for a type that has none."""
    found = known.get(kind)
    if found is None:
        if len(known) >= KNOWN_MAX:
            known.clear()
        found = known[kind] = make_serializer(kind)
    return found


def make_serializer(kind: Any) -> Any:
    if isinstance(kind, type):
        for base in (bytes, bytearray, memoryview):
            if issubclass(kind, base):
                return BytesSerializer()
        if issubclass(kind, str):
            return TextSerializer()
    if is_pydantic(kind):
        return PydanticSerializer(kind)
    try:
        return JsonSerializer(Any if kind is object else kind)
    except TypeError as error:
        raise SerializationError(f"{kind!r} is no type that can be read or written: {error}") from error


def as_serializer(kind: Any) -> Any:
    """What `value=` and `key=` name: a type, a serializer, or nothing."""
    if kind is None:
        return ANY
    if hasattr(kind, "encode") and hasattr(kind, "decode") and not isinstance(kind, type):
        return kind
    return serializer_of(kind)


def content_type_of(value: object) -> str | None:
    """What the `content-type` header of a value says."""
    serializer: Any = serializer_of(type(value))
    kind: str | None = serializer.content_type
    return kind
