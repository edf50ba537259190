"""The compiled codec: one straight-line function per message and version, made on first use.

The functions are Python source built from the message's schema. What makes them fast:

- Neighbouring fields of fixed size, and the length prefix after them, are read and written by one `struct` format.
- Structs are decoded and encoded in place: no call per element of an array, and no check of a version.
- A `records` field is never copied: decoding gives a memoryview into the frame, encoding appends the buffer itself.
- Zero bytes that never vary (an empty tagged section) are a pad byte in the format.

What keeps them safe:

- A length is compared with the bytes that are left before it is used.
- A null or negative length where none is allowed is refused, and so is a string that is longer than Kafka allows.
- An element of one byte can become an object of a hundred. So a caller may limit how many elements a message has, in all its
  arrays and tagged sections together. That bounds both time and memory.

To see the source: `python -m headwater.protocol.compiled FETCH request 16`.
"""

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps
from headwater.protocol.errors import ProtocolError
from headwater.protocol.schema import ZERO_UUID, Field, default_of, in_version, type_formats
from headwater.protocol.varint import read_uvarint, uvarint

Decoder = Callable[[Buffer, int, int, int], tuple[Any, int]]
StepDecoder = Callable[[Buffer, int, int, int], Steps[tuple[Any, int]]]
Encoder = Callable[[Any, Callable[[Buffer], None]], None]
StepEncoder = Callable[[Any, Callable[[Buffer], None]], Steps[None]]

STRING_BYTES_MAX = 0x7FFF  # in every version, as in Kafka
TAGS_MAX = 100_000  # unknown tags in one section; a whole request may have fewer
ELEMENTS_UNLIMITED = 1 << 62
SMALL_UVARINTS = tuple(bytes((n,)) for n in range(128))


def too_short() -> ProtocolError:
    return ProtocolError("the message ends too early")


def unexpected_null() -> ProtocolError:
    return ProtocolError("null where a value is required")


def too_many() -> ProtocolError:
    return ProtocolError("the message has more elements than are allowed")


def too_long() -> ProtocolError:
    return ProtocolError(f"a string is longer than {STRING_BYTES_MAX} bytes")


def skip_tagged(buffer: Buffer, position: int, end: int) -> int:
    """The position after a tagged section, all of whose tags are unknown."""
    count, position = read_uvarint(buffer, position)
    if count > end - position:
        raise too_short()
    if count > TAGS_MAX:
        raise too_many()
    for _ in range(count):
        _, position = read_uvarint(buffer, position)
        size, position = read_uvarint(buffer, position)
        position += size
        if position > end:
            raise too_short()
    return position


class Source:
    """Lines of a function being written, and the names that they use."""

    def __init__(self, root: Any, version: int, names: dict[str, Any]) -> None:
        self.root = root
        self.version = version
        self.flexible = version >= root.FLEXIBLE
        self.names = names
        self.lines: list[str] = []
        self.indent = 1
        self.serial = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def name(self, prefix: str) -> str:
        self.serial += 1
        return f"{prefix}{self.serial}"

    def constant(self, value: Any) -> str:
        name = self.name("K")
        self.names[name] = value
        return name

    def text(self, signature: str) -> str:
        return "\n".join([signature, *self.lines, ""])


class DecoderSource(Source):
    """Writes `decode(buf, p, end, left)`; `left` is how many elements the message may still have. `in_steps`: as a
    generator, which yields after each element of an array of structs or strings.
    """

    def __init__(self, root: Any, version: int, names: dict[str, Any], *, in_steps: bool) -> None:
        super().__init__(root, version, names)
        self.in_steps = in_steps
        self.format = ""
        self.targets: list[str] = []

    def fixed(self, format_: str, target: str) -> None:
        """Defers reading `target` until a field of variable size follows, so that neighbours are read at once."""
        self.format += format_
        self.targets.append(target)

    def flush(self) -> None:
        if not self.format:
            return
        format_ = struct.Struct(">" + self.format)
        unpack = self.constant(format_.unpack_from)
        targets = ", ".join(self.targets) + ("," if len(self.targets) == 1 else "")
        self.line(f"{targets} = {unpack}(buf, p)")
        self.line(f"p += {format_.size}")
        self.format, self.targets = "", []

    def length(self, nullable: bool, format_: str, compact: bool) -> str:
        """Emits code that reads a length. -1 stands for null; the code refuses it where null is not allowed."""
        n = self.name("n")
        if compact:
            self.flush()
            self.line(f"{n} = buf[p]; p += 1")
            self.line(f"if {n} > 127: {n}, p = read_uvarint(buf, p - 1)")
            self.line(f"{n} -= 1")
        else:
            self.fixed(format_, n)
            self.flush()
        if not nullable:
            self.line(f"if {n} < 0: raise unexpected_null()")
        return n

    def field(self, field: Field) -> str:
        target = self.name("v")
        if field.is_array:
            self.array(field, target)
        else:
            self.value(field, field.type, target)
        return target

    def value(self, field: Field, type_: str, target: str) -> None:
        nullable = self.version >= field.nullable and not field.is_array
        if type_ in type_formats:
            self.fixed(type_formats[type_], target)
        elif type_ in ("string", "bytes", "records"):
            n = self.length(nullable, "h" if type_ == "string" else "i", self.flexible and not field.fixed_length)
            self.line(f"e = p + {n}")
            self.line("if e > end: raise too_short()")
            if type_ == "string" and self.flexible and not field.fixed_length:
                self.line(f"if {n} > {STRING_BYTES_MAX}: raise too_long()")
            slice_ = {"string": "str(buf[p:e], 'utf-8')", "bytes": "bytes(buf[p:e])", "records": "memoryview(buf)[p:e]"}
            if nullable:
                self.line(f"if {n} < 0: {target} = None")
                self.line(f"else: {target} = {slice_[type_]}; p = e")
            else:
                self.line(f"{target} = {slice_[type_]}; p = e")
        elif nullable:
            present = self.name("n")
            self.fixed("b", present)
            self.flush()
            self.line(f"{target} = None")
            self.line(f"if {present} >= 0:")
            self.indent += 1
            self.struct(getattr(self.root, type_), target)
            self.indent -= 1
        else:
            self.struct(getattr(self.root, type_), target)

    def array(self, field: Field, target: str) -> None:
        n = self.length(self.version >= field.nullable, "i", self.flexible)
        format_ = type_formats.get(field.element)
        size = struct.calcsize(">" + format_) if format_ else 1
        self.line(f"if {n} * {size} > end - p: raise too_short()")
        self.count(n)
        if format_:
            self.line(f"{target} = None if {n} < 0 else list(unpack_from(f'>' + {n} * '{format_}', buf, p))")
            self.line(f"if {n} > 0: p += {n} * {size}")
            return
        self.line(f"{target} = None if {n} < 0 else []")
        self.line(f"for _ in range({n}):")
        self.indent += 1
        element = self.name("v")
        self.value(field, field.element, element)
        self.flush()
        self.line(f"{target}.append({element})")
        if self.in_steps:
            self.line("yield")
        self.indent -= 1

    def count(self, n: str) -> None:
        """Counts `n` elements as read: fewer are left for the rest of the message."""
        self.line(f"left -= {n}")
        self.line("if left < 0: raise too_many()")

    def struct(self, class_: Any, target: str) -> None:
        values = []
        for field in class_.SCHEMA:
            if in_version(field, self.version) and field.tag < 0:
                values.append(self.field(field))
            else:
                values.append(self.default(field))
        self.flush()
        if self.flexible:
            self.tagged(class_, values)
        self.line(f"{target} = {self.constant(class_)}({', '.join(values)})")

    def default(self, field: Field) -> str:
        value = default_of(self.root, field, self.version)
        if isinstance(value, list):
            return "[]"
        if isinstance(value, (int, float, str, bytes, type(None))) and value != ZERO_UUID:
            return repr(value)
        return self.constant(value) if value == ZERO_UUID else f"{self.constant(type(value))}()"

    def tagged(self, class_: Any, values: list[str]) -> None:
        known = [(i, f) for i, f in enumerate(class_.SCHEMA) if f.tag >= 0 and in_version(f, self.version)]
        if not known:
            self.line("t = buf[p]; p += 1")
            self.line("if t:")
            self.indent += 1
            self.line("t, _ = read_uvarint(buf, p - 1)")
            self.count("t")
            self.line("p = skip_tagged(buf, p - 1, end)")
            self.indent -= 1
            return
        for index, field in known:
            target = self.name("v")
            self.line(f"{target} = {self.default(field)}")
            values[index] = target
        count, tag, stop = self.name("n"), self.name("t"), self.name("e")
        self.line(f"{count}, p = read_uvarint(buf, p)")
        self.line(f"if {count} > end - p: raise too_short()")
        self.count(count)
        self.line(f"for _ in range({count}):")
        self.indent += 1
        self.line(f"{tag}, p = read_uvarint(buf, p)")
        self.line(f"{stop}, p = read_uvarint(buf, p)")
        self.line(f"{stop} += p")
        self.line(f"if {stop} > end: raise too_short()")
        word = "if"
        for index, field in known:
            self.line(f"{word} {tag} == {field.tag}:")
            self.indent += 1
            value = self.field(field)
            self.flush()
            self.line(f"{values[index]} = {value}")
            self.indent -= 1
            word = "elif"
        self.line(f"else: p = {stop}")
        self.line(f"if p != {stop}: raise too_short()")
        self.indent -= 1


class EncoderSource(Source):
    """Writes `encode(m, w)`, where `w` accepts one buffer after another. `in_steps`: as a generator, which yields after
    each element of an array of structs or strings.
    """

    def __init__(self, root: Any, version: int, names: dict[str, Any], *, in_steps: bool) -> None:
        super().__init__(root, version, names)
        self.in_steps = in_steps
        self.format = ""
        self.values: list[str] = []
        self.sink = "w"

    def fixed(self, format_: str, value: str | None) -> None:
        self.format += format_
        if value is not None:
            self.values.append(value)

    def flush(self) -> None:
        if not self.format:
            return
        if self.values:
            pack = self.constant(struct.Struct(">" + self.format).pack)
            self.line(f"{self.sink}({pack}({', '.join(self.values)}))")
        else:
            self.line(f"{self.sink}({bytes(len(self.format))!r})")
        self.format, self.values = "", []

    def length(self, n: str, format_: str, compact: bool) -> None:
        if compact:
            self.flush()
            self.line(f"{n} += 1")
            self.line(f"{self.sink}(SMALL_UVARINTS[{n}] if {n} < 128 else uvarint({n}))")
        else:
            self.fixed(format_, n)
            self.flush()

    def field(self, field: Field, value: str) -> None:
        if field.is_array:
            self.array(field, value)
        else:
            self.value(field, field.type, value)

    def value(self, field: Field, type_: str, value: str) -> None:
        nullable = self.version >= field.nullable and not field.is_array
        if type_ in type_formats:
            self.fixed(type_formats[type_], value)
        elif type_ in ("string", "bytes", "records"):
            self.blob(field, type_, value, nullable)
        elif nullable:
            self.flush()
            local = self.name("m")
            self.line(f"{local} = {value}")
            self.line(f"if {local} is None: {self.sink}(b'\\xff')")
            self.line("else:")
            self.indent += 1
            self.line(f"{self.sink}(b'\\x01')")
            self.struct(getattr(self.root, type_), local)
            self.flush()
            self.indent -= 1
        else:
            local = self.name("m")
            self.line(f"{local} = {value}")
            struct_class = getattr(self.root, type_)
            if field.tag < 0 and not field.is_array:
                self.line(f"if {local} is None: {local} = {self.constant(struct_class)}()")
            self.struct(struct_class, local)

    def blob(self, field: Field, type_: str, value: str, nullable: bool) -> None:
        data, n = self.name("b"), self.name("n")
        encode = ".encode()" if type_ == "string" else ""
        self.line(f"{data} = {value}")
        if nullable:
            self.line(f"if {data} is None: {data} = b''; {n} = -1")
            self.line("else:")
            self.indent += 1
        if encode:
            self.line(f"{data} = {data}{encode}")
        self.line(f"{n} = len({data})")
        if nullable:
            self.indent -= 1
        self.length(n, "h" if type_ == "string" else "i", self.flexible and not field.fixed_length)
        self.line(f"{self.sink}({data})")

    def array(self, field: Field, value: str) -> None:
        values, n = self.name("a"), self.name("n")
        self.line(f"{values} = {value}")
        if self.version >= field.nullable:
            self.line(f"{n} = -1 if {values} is None else len({values})")
        else:
            self.line(f"{n} = len({values})")
        self.length(n, "i", self.flexible)
        format_ = type_formats.get(field.element)
        if format_:
            self.line(f"if {values}: {self.sink}(pack('>' + len({values}) * '{format_}', *{values}))")
            return
        element = self.name("x")
        self.line(
            f"for {element} in {values} or ():" if self.version >= field.nullable else f"for {element} in {values}:"
        )
        self.indent += 1
        self.value(field, field.element, element)
        self.flush()
        if self.in_steps:
            self.line("yield")
        self.indent -= 1

    def struct(self, class_: Any, value: str) -> None:
        fields = [f for f in class_.SCHEMA if in_version(f, self.version)]
        for field in fields:
            if field.tag < 0:
                self.field(field, f"{value}.{field.name}")
        if self.flexible:
            tagged = sorted((f for f in fields if f.tag >= 0), key=lambda f: f.tag)
            if tagged:
                self.tagged(tagged, value)
            else:
                self.fixed("x", None)

    def tagged(self, fields: list[Field], value: str) -> None:
        """Emits code for the tagged section: each field that differs from its default, after its tag and size."""
        self.flush()
        count, parts, outer = self.name("n"), self.name("t"), self.sink
        self.line(f"{count} = 0; {parts} = []")
        for field in fields:
            attribute = f"{value}.{field.name}"
            is_struct = not field.is_array and field.type not in type_formats and hasattr(self.root, field.type)
            if is_struct:
                empty = self.constant(getattr(self.root, field.type)())
                condition = f"{attribute} is not None and {attribute} != {empty}"
                if self.version >= field.nullable:
                    condition = f"{attribute} is not None"
            else:
                condition = f"{attribute} != {self.constant(default_of(self.root, field, self.version))}"
            self.line(f"if {condition}:")
            self.indent += 1
            inner = self.name("i")
            self.line(f"{count} += 1; {inner} = []; {inner}w = {inner}.append")
            self.sink = f"{inner}w"
            self.field(field, attribute)
            self.flush()
            self.line(f"{inner} = b''.join({inner})")
            self.line(f"{parts} += (uvarint({field.tag}), uvarint(len({inner})), {inner})")
            self.indent -= 1
            self.sink = outer
        self.line(f"{outer}(uvarint({count}))")
        self.line(f"if {count}: {outer}(b''.join({parts}))")


def decoder_source(class_: Any, version: int, names: dict[str, Any], *, in_steps: bool = False) -> str:
    source = DecoderSource(class_, version, names, in_steps=in_steps)
    source.struct(class_, "m")
    source.line("if p > end: raise too_short()")
    source.line("return m, p")
    if in_steps:
        source.line("yield")  # a generator, even where there is no array
    return source.text("def decode(buf, p, end, left):")


def encoder_source(class_: Any, version: int, names: dict[str, Any], *, in_steps: bool = False) -> str:
    source = EncoderSource(class_, version, names, in_steps=in_steps)
    source.struct(class_, "m")
    source.flush()
    source.line("return")
    if in_steps:
        source.line("yield")  # a generator, even where there is no array
    return source.text("def encode(m, w):")


def base_names() -> dict[str, Any]:
    return {
        "read_uvarint": read_uvarint,
        "skip_tagged": skip_tagged,
        "too_long": too_long,
        "too_many": too_many,
        "too_short": too_short,
        "unexpected_null": unexpected_null,
        "unpack_from": struct.unpack_from,
        "pack": struct.pack,
        "uvarint": uvarint,
        "SMALL_UVARINTS": SMALL_UVARINTS,
    }


@cache
def decoder(class_: type, version: int) -> Decoder:
    """The function that decodes this message in this version."""
    names = base_names()
    exec(compile(decoder_source(class_, version, names), f"<decode {class_.__name__} {version}>", "exec"), names)
    return names["decode"]  # type: ignore[no-any-return]


@cache
def encoder(class_: type, version: int) -> Encoder:
    """The function that encodes this message in this version."""
    names = base_names()
    exec(compile(encoder_source(class_, version, names), f"<encode {class_.__name__} {version}>", "exec"), names)
    return names["encode"]  # type: ignore[no-any-return]


@cache
def step_encoder(class_: type, version: int) -> StepEncoder:
    """As `encoder`, with a yield after each element of an array."""
    names = base_names()
    source = encoder_source(class_, version, names, in_steps=True)
    exec(compile(source, f"<encode {class_.__name__} {version} in steps>", "exec"), names)
    return names["encode"]  # type: ignore[no-any-return]


def decode(
    class_: Any, version: int, buffer: Buffer, position: int = 0, elements_max: int = ELEMENTS_UNLIMITED
) -> tuple[Any, int]:
    """The message at `position`, and the position after it. Raises ProtocolError, also if it has too many elements."""
    try:
        return decoder(class_, version)(buffer, position, len(buffer), elements_max)
    except (struct.error, IndexError, ValueError) as error:
        raise ProtocolError(f"{class_.__name__} version {version}: {error}") from error


@cache
def step_decoder(class_: type, version: int) -> StepDecoder:
    """As `decoder`, with a yield after each element of an array."""
    names = base_names()
    source = decoder_source(class_, version, names, in_steps=True)
    exec(compile(source, f"<decode {class_.__name__} {version} in steps>", "exec"), names)
    return names["decode"]  # type: ignore[no-any-return]


def decode_in_steps(
    class_: Any, version: int, buffer: Buffer, position: int, elements_max: int
) -> Steps[tuple[Any, int]]:
    """As `decode`, in steps: for a message that may have very many elements."""
    try:
        return (yield from step_decoder(class_, version)(buffer, position, len(buffer), elements_max))
    except (struct.error, IndexError, ValueError) as error:
        raise ProtocolError(f"{class_.__name__} version {version}: {error}") from error


def encode_parts(message: Any, version: int, parts: list[Buffer]) -> None:
    """Appends the message's bytes to `parts`, records as the buffers they are; raises ProtocolError."""
    try:
        message_class: type = type(message)
        encoder(message_class, version)(message, parts.append)
    except (struct.error, AttributeError, TypeError) as error:
        raise ProtocolError(f"{type(message).__name__} version {version}: {error}") from error


def encode_parts_in_steps(message: Any, version: int, parts: list[Buffer]) -> Steps[None]:
    """As `encode_parts`, in steps: for a message that may be large."""
    try:
        message_class: type = type(message)
        yield from step_encoder(message_class, version)(message, parts.append)
    except (struct.error, AttributeError, TypeError) as error:
        raise ProtocolError(f"{type(message).__name__} version {version}: {error}") from error


def encode(message: Any, version: int) -> bytes:
    """The message's bytes. Raises ProtocolError for a value that the version cannot represent."""
    parts: list[Buffer] = []
    encode_parts(message, version, parts)
    return b"".join(parts)


if __name__ == "__main__":
    import sys

    from headwater.protocol.api_classes import request_class, response_class
    from headwater.protocol.apis import ApiKey

    api, kind, wanted = sys.argv[1:4]
    shown = (request_class if kind == "request" else response_class)(ApiKey[api])
    print(decoder_source(shown, int(wanted), {}))
    print(encoder_source(shown, int(wanted), {}))
