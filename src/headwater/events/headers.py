"""An event's headers, as Kafka keeps them: in order, with repeated names allowed, and values that are bytes or null."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from headwater.events.errors import DeserializationError, SerializationError

HeaderValue: TypeAlias = str | bytes | None
HeadersLike: TypeAlias = Mapping[str, str] | Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]]
Pairs: TypeAlias = list[tuple[str, bytes | None]]


def header_pairs(headers: HeadersLike | None) -> Pairs:
    """Headers as Kafka keeps them, with text as UTF-8. Raises SerializationError for other names or values."""
    if not headers:
        return []
    given: object = headers
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise SerializationError(
            f"headers are of type {type(headers).__name__}; give a dict, or pairs of name and value"
        )
    pairs: Pairs = []
    for pair in headers.items() if isinstance(headers, Mapping) else headers:
        try:
            name, value = pair
            if not name.isascii():
                name.encode()  # librdkafka's binding ends the process for a name that is not UTF-8
            if isinstance(value, str):
                value = value.encode()
        except (AttributeError, TypeError, ValueError) as error:
            raise SerializationError(
                f"header {pair!r}: give a name as text, and a value as text, bytes or None"
            ) from error
        if not isinstance(name, str) or not (value is None or isinstance(value, bytes)):
            raise SerializationError(
                f"header {name!r} is {type(value).__name__}; a name is text, and a value is str, bytes or None"
            )
        pairs.append((name, value))
    return pairs


class Headers:
    """Read-only headers. `headers["origin"]` is the last value of that name as text; `raw` gives bytes, `all` every value."""

    __slots__ = ("pairs",)

    def __init__(self, headers: HeadersLike | None = None) -> None:
        self.pairs: Pairs = header_pairs(headers)

    def raw(self, name: str) -> bytes | None:
        """The last value of that name as bytes; None if there is none."""
        for known, value in reversed(self.pairs):
            if known == name:
                return value
        return None

    def get(self, name: str, default: str | None = None) -> str | None:
        """The last value of that name as text. Raises DeserializationError if it is not UTF-8."""
        value = self.raw(name)
        return default if value is None else text(name, value)

    def all(self, name: str) -> list[str]:
        """Every value of that name that is not null, in order, as text."""
        return [text(name, value) for known, value in self.pairs if known == name and value is not None]

    def with_added(self, name: str, value: HeaderValue) -> "Headers":
        """The same headers, with one more at the end."""
        return Headers([*self.pairs, (name, value)])

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return any(known == name for known, _ in self.pairs)

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(tuple(self.pairs))

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


def text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DeserializationError(f"header {name!r} is not text; headers.raw({name!r}) gives its bytes") from None
