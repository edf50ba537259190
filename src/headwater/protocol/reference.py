"""The reference codec: one field after another, as the protocol guide describes it. It is slow and obvious. Tests compare the
compiled codec with it.
"""

import struct
from typing import Any

from headwater.effects.buffers import Buffer
from headwater.protocol.errors import ProtocolError
from headwater.protocol.schema import Field, default_of, in_version, type_formats
from headwater.protocol.varint import read_uvarint, uvarint


class Reader:
    """Reads one message of one version from `buffer`."""

    def __init__(self, root: type, version: int, buffer: Buffer, position: int) -> None:
        self.root = root
        self.version = version
        self.flexible = version >= root.FLEXIBLE  # type: ignore[attr-defined]
        self.view = memoryview(buffer)
        self.position = position

    def take(self, size: int) -> memoryview:
        if size < 0 or self.position + size > len(self.view):
            raise ProtocolError("the message ends too early")
        self.position += size
        return self.view[self.position - size : self.position]

    def read_fixed(self, format_: str) -> Any:
        return struct.unpack(">" + format_, self.take(struct.calcsize(">" + format_)))[0]

    def uvarint(self) -> int:
        value, self.position = read_uvarint(self.view, self.position)
        return value

    def length(self, nullable: bool, short: bool, compact: bool) -> int | None:
        """The length before a string, bytes or array; None for null."""
        size = self.uvarint() - 1 if compact else self.read_fixed("h" if short else "i")
        if size < 0:
            if nullable:
                return None
            raise ProtocolError("null where a value is required")
        return size

    def value(self, field: Field, type_: str) -> Any:
        """A value that is not an array."""
        if type_ in type_formats:
            return self.read_fixed(type_formats[type_])
        nullable = self.version >= field.nullable and not field.is_array
        if type_ in ("string", "bytes", "records"):
            size = self.length(nullable, type_ == "string", self.flexible and not field.fixed_length)
            if size is None:
                return None
            data = self.take(size)
            return str(data, "utf-8") if type_ == "string" else bytes(data) if type_ == "bytes" else data
        if nullable and self.read_fixed("b") < 0:
            return None
        return self.struct(getattr(self.root, type_))

    def field(self, field: Field) -> Any:
        if not field.is_array:
            return self.value(field, field.type)
        size = self.length(self.version >= field.nullable, False, self.flexible)
        if size is None:
            return None
        if size > len(self.view) - self.position:
            raise ProtocolError("an array claims more elements than there are bytes")
        return [self.value(field, field.element) for _ in range(size)]

    def struct(self, class_: Any) -> Any:
        values = {}
        for field in class_.SCHEMA:
            if in_version(field, self.version) and field.tag < 0:
                values[field.name] = self.field(field)
            else:
                values[field.name] = default_of(self.root, field, self.version)
        if self.flexible:
            tagged = {f.tag: f for f in class_.SCHEMA if f.tag >= 0 and in_version(f, self.version)}
            for _ in range(self.uvarint()):
                tag, size = self.uvarint(), self.uvarint()
                end = self.position + size
                if tag in tagged:
                    values[tagged[tag].name] = self.field(tagged[tag])
                    if self.position != end:
                        raise ProtocolError("a tagged field is longer or shorter than it says")
                else:
                    self.take(size)
        return class_(**values)


class Writer:
    """Writes one message of one version into `parts`."""

    def __init__(self, root: type, version: int) -> None:
        self.root = root
        self.version = version
        self.flexible = version >= root.FLEXIBLE  # type: ignore[attr-defined]
        self.parts: list[Buffer] = []

    def length(self, size: int, short: bool, compact: bool) -> None:
        self.parts.append(uvarint(size + 1) if compact else struct.pack(">h" if short else ">i", size))

    def value(self, field: Field, type_: str, value: Any) -> None:
        if type_ in type_formats:
            self.parts.append(struct.pack(">" + type_formats[type_], value))
        elif type_ in ("string", "bytes", "records"):
            self.null_check(field, value)
            data = value.encode() if type_ == "string" and value is not None else value
            size = -1 if data is None else len(data)
            self.length(size, type_ == "string", self.flexible and not field.fixed_length)
            self.parts.append(data or b"")
        elif self.version >= field.nullable and not field.is_array:
            self.parts.append(b"\xff" if value is None else b"\x01")
            if value is not None:
                self.struct(value)
        else:
            self.struct(value if value is not None else getattr(self.root, type_)())

    def null_check(self, field: Field, value: Any) -> None:
        if value is None and self.version < field.nullable:
            raise ProtocolError(f"{field.name} must not be null in version {self.version}")

    def field(self, field: Field, value: Any) -> None:
        if not field.is_array:
            self.value(field, field.type, value)
            return
        self.null_check(field, value)
        self.length(-1 if value is None else len(value), False, self.flexible)
        for element in value or ():
            self.value(field, field.element, element)

    def struct(self, message: Any) -> None:
        fields = [f for f in message.SCHEMA if in_version(f, self.version)]
        for field in fields:
            if field.tag < 0:
                self.field(field, getattr(message, field.name))
        if self.flexible:
            self.tagged([f for f in fields if f.tag >= 0], message)

    def tagged(self, fields: list[Field], message: Any) -> None:
        present = []
        for field in sorted(fields, key=lambda f: f.tag):
            value = getattr(message, field.name)
            default = default_of(self.root, field, self.version)
            if value == default:
                continue
            struct_class = None if field.is_array else getattr(self.root, field.type, None)
            if struct_class is not None and self.version < field.nullable and value == struct_class():
                continue
            present.append((field, value))
        self.parts.append(uvarint(len(present)))
        for field, value in present:
            inner = Writer(self.root, self.version)
            inner.field(field, value)
            data = b"".join(inner.parts)
            self.parts += [uvarint(field.tag), uvarint(len(data)), data]


def decode(class_: Any, version: int, buffer: Buffer, position: int = 0) -> tuple[Any, int]:
    """The message at `position`, and the position after it. Raises ProtocolError."""
    reader = Reader(class_, version, buffer, position)
    try:
        message = reader.struct(class_)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ProtocolError(f"{class_.__name__} version {version}: {error}") from error
    return message, reader.position


def encode(message: Any, version: int) -> bytes:
    """The message's bytes. Raises ProtocolError for a value that the version cannot represent."""
    writer = Writer(type(message), version)
    try:
        writer.struct(message)
    except (struct.error, AttributeError, TypeError) as error:
        raise ProtocolError(f"{type(message).__name__} version {version}: {error}") from error
    return b"".join(writer.parts)
