"""Values and keys as bytes, and back.

A serializer is any object with `encode`, `decode` and a `content_type`; the schema registry's have the same form. A type gets
its serializer by these rules:

- `bytes` and `str` are written as they are;
- everything that msgspec or pydantic knows is written as JSON: dataclasses, `msgspec.Struct`, TypedDict, dict, list, numbers
  (as digits), pydantic's models.
"""

from dataclasses import is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast, get_origin, overload

import msgspec

from headwater.events.errors import DeserializationError, SerializationError
from headwater.events.headers import Headers

Value = TypeVar("Value")
CONTENT_TYPE = "content-type"
JSON_TYPE, TEXT_TYPE, BYTES_TYPE = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


class Serializer(Protocol[Value]):
    """Writes and reads the values of one type. `topic` is the topic that they are written to or read from."""

    @property
    def content_type(self) -> str | None:
        """The `content-type` header of its values; None if each value's own type decides."""
        ...

    def encode(self, value: Value, topic: str) -> bytes | None:
        """The bytes of a value. None makes a tombstone. Raises SerializationError."""
        ...

    def decode(self, data: bytes, topic: str, headers: Headers) -> Value:
        """The value of these bytes. Raises DeserializationError."""
        ...


Kind: TypeAlias = type[Value] | Serializer[Value] | UnionType
"""What names the type of values: the type itself, or a serializer of it. A type checker does not see the values of a union."""


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
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise SerializationError(f"{topic}: text that is not UTF-8: {error}") from error

    def decode(self, data: bytes, topic: str, headers: Headers) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DeserializationError(f"{topic}: not UTF-8 text: {error}; read it with value=bytes") from error


class JsonSerializer(Generic[Value]):
    """JSON of one type, by msgspec. A value of another type is refused, since a consumer of this type could not read it.

    For a class (a dataclass, a Struct …) only the value's class is checked, which costs next to nothing; its fields are the
    type checker's job. A value of any other type (TypedDict, `list[int]`, `A | None`, int …) is decoded again as a check.
    """

    content_type: str | None = JSON_TYPE

    def __init__(self, kind: type[Value]) -> None:
        self.kind = kind
        self.record_class = record_class(kind)
        self.is_read_back = kind is not ANYTHING and self.record_class is object
        self.write = msgspec.json.Encoder().encode
        self.read = msgspec.json.Decoder(kind).decode

    def encode(self, value: Value, topic: str) -> bytes:
        if not isinstance(value, self.record_class):
            raise type_mismatch(topic, self.kind, value)
        try:
            data = self.write(value)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise SerializationError(f"{topic}: {type(value).__name__} cannot be written as JSON: {error}") from error
        if self.is_read_back:
            try:
                self.read(data)
            except msgspec.MsgspecError as error:
                raise type_mismatch(topic, self.kind, value, f": {error}") from error
        return data

    def decode(self, data: bytes, topic: str, headers: Headers) -> Value:
        try:
            return self.read(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DeserializationError(f"{topic}: not the JSON of {name_of(self.kind)}: {error}") from error


ANYTHING: Any = Any


def record_class(kind: Any) -> type:
    """The class by which a type's values can be checked; `object` if a class is not enough."""
    origin = get_origin(kind) or kind
    is_record = isinstance(origin, type) and (
        is_dataclass(origin)
        or issubclass(origin, msgspec.Struct | Enum)
        or hasattr(origin, "__attrs_attrs__")
        or (issubclass(origin, tuple) and hasattr(origin, "_fields"))
    )
    return origin if is_record else object


def name_of(kind: Any) -> str:
    name: str = kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
    return name


def type_mismatch(topic: str, kind: Any, value: object, why: str = "") -> SerializationError:
    return SerializationError(f"{topic}: expected {name_of(kind)}, got {type(value).__name__}{why}")


class PydanticSerializer(Generic[Value]):
    """JSON of a pydantic model."""

    content_type: str | None = JSON_TYPE

    def __init__(self, model: type[Value]) -> None:
        self.model: Any = model  # pydantic itself is not needed here

    def encode(self, value: Value, topic: str) -> bytes:
        if not isinstance(value, self.model):
            raise type_mismatch(topic, self.model, value)
        model: Any = value
        try:
            encoded: str = model.model_dump_json()
            return encoded.encode()
        except ValueError as error:  # pydantic's PydanticSerializationError is one
            raise SerializationError(f"{topic}: {self.model.__name__} cannot be written as JSON: {error}") from error

    def decode(self, data: bytes, topic: str, headers: Headers) -> Value:
        try:
            found: Value = self.model.model_validate_json(data)
            return found
        except ValueError as error:  # pydantic's ValidationError is one
            raise DeserializationError(f"{topic}: not the JSON of {self.model.__name__}: {error}") from error


class AnySerializer:
    """Writes each value by its own type. Reads by the `content-type` header, or as bytes without that header."""

    content_type: str | None = None

    def encode(self, value: Any, topic: str) -> bytes | None:
        return None if value is None else serializer_of_value(value).encode(value, topic)

    def decode(self, data: bytes, topic: str, headers: Headers) -> Any:
        content_type = headers.get(CONTENT_TYPE) or ""
        if content_type.startswith(JSON_TYPE) or content_type.partition(";")[0].endswith("+json"):
            return serializer_of(object).decode(data, topic, headers)
        if content_type.startswith("text/"):
            return serializer_of(str).decode(data, topic, headers)
        return data


ANY = AnySerializer()
known: dict[object, Serializer[Any]] = {bytes: BytesSerializer(), str: TextSerializer()}
known_of_values: dict[type, Serializer[Any]] = {}
KNOWN_MAX = 4096  # types made at run time must not fill the memory


def is_pydantic(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump_json")


def serializer_of(kind: type[Value]) -> Serializer[Value]:
    """The serializer of a type's values. Raises SerializationError for a type that has none."""
    found = known.get(kind)
    if found is None:
        if len(known) >= KNOWN_MAX:
            known.clear()
        found = known[kind] = make_serializer(kind)
    return found


def make_serializer(kind: Any) -> Serializer[Any]:
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
        raise SerializationError(f"{kind!r} is not a type that can be read or written: {error}") from error


def serializer_of_value(value: object) -> Serializer[Any]:
    """The serializer of a value's own type, when no type was declared. Raises SerializationError."""
    kind = type(value)
    found = known_of_values.get(kind)
    if found is None:
        if len(known_of_values) >= KNOWN_MAX:
            known_of_values.clear()
        found = serializer_of(kind)
        found = known_of_values[kind] = serializer_of(object) if isinstance(found, JsonSerializer) else found
    return found


@overload
def as_serializer(kind: None) -> Serializer[Any]: ...
@overload
def as_serializer(kind: Kind[Value] | None) -> Serializer[Value]: ...
def as_serializer(kind: Kind[Value] | None) -> Serializer[Any]:
    """What `value=` and `key=` name: a type, a serializer, or nothing. Raises SerializationError."""
    if kind is None:
        return ANY
    if isinstance(kind, type | UnionType) or not (hasattr(kind, "encode") and hasattr(kind, "decode")):
        return serializer_of(cast(type[Value], kind))
    if not hasattr(kind, "content_type"):
        raise SerializationError(f"{kind!r} has no content_type; give it one, or None for values of any type")
    return kind


def content_type_of(value: object) -> str | None:
    """What the `content-type` header of a value says."""
    return serializer_of_value(value).content_type
