"""How a message's fields are laid out on the wire: the data from which both codecs work.

A generated message class has `SCHEMA`, one `Field` per field in wire order, and `FLEXIBLE`, the first version with compact
lengths and tagged fields (KIP-482). Of a field:

- `low` and `high` are the first and last version that have it; `nullable` is the first version in which it may be null.
- If it has a `tag`, it is in the tagged section.
- If it is a struct, the struct's class is nested in the message's class, under the name that `type` gives.
- A `default` of `...` is the type's empty value.
- `fixed_length` keeps the old length prefix in flexible versions. Only the request header's client id has it, so that a
  header of any version can be read.

The Python value of a type: intN and uintN are int, float64 is float, boolean is bool, string is str, bytes is bytes,
uuid is 16 bytes, records is any buffer (never copied), `[]X` is a list. None for a tagged struct stands for its default.
"""

from typing import Any, ClassVar, NamedTuple, Protocol

UNBOUNDED = 32767
NEVER = 32768
ZERO_UUID = bytes(16)

type_formats = {
    "boolean": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}


class Message(Protocol):
    """What every generated message class has."""

    SCHEMA: ClassVar[tuple["Field", ...]]
    FLEXIBLE: ClassVar[int]


class Field(NamedTuple):
    """One field of a message: see the module's docstring."""

    name: str
    type: str
    low: int = 0
    high: int = UNBOUNDED
    nullable: int = NEVER
    tag: int = -1
    default: Any = ...

    fixed_length: bool = False

    @property
    def is_array(self) -> bool:
        return self.type.startswith("[]")

    @property
    def element(self) -> str:
        return self.type[2:]


def in_version(field: Field, version: int) -> bool:
    return field.low <= version <= field.high


def default_of(root: type, field: Field, version: int) -> Any:
    """The value of a field that is not on the wire."""
    if field.default is not ...:
        return field.default
    if field.is_array:
        return []
    return None if field.tag >= 0 or field.nullable <= version else getattr(root, field.type)()
