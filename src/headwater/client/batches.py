"""Events in batches, as librdkafka hands them over."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from confluent_kafka import Message

from headwater.events.event import Event

Value = TypeVar("Value")


class Batch(Sequence[Event[Value]], Generic[Value]):
    """A sequence of events. An event is made when it is looked at; `raw_values` and `raw_keys` make none."""

    __slots__ = ("make", "messages")

    def __init__(self, messages: list[Message], make: Callable[[Message], Event[Value]]) -> None:
        self.messages, self.make = messages, make

    @property
    def values(self) -> list[Value]:
        """Each event's value, decoded."""
        return [self.make(message).value for message in self.messages]

    @property
    def raw_values(self) -> list[bytes | None]:
        return list(map(Message.value, self.messages))

    @property
    def raw_keys(self) -> list[bytes | None]:
        return list(map(Message.key, self.messages))

    def __iter__(self) -> Iterator[Event[Value]]:
        return map(self.make, self.messages)

    def __len__(self) -> int:
        return len(self.messages)

    @overload
    def __getitem__(self, index: int) -> Event[Value]: ...
    @overload
    def __getitem__(self, index: slice) -> "Batch[Value]": ...
    def __getitem__(self, index: Any) -> Any:
        found = self.messages[index]
        return Batch(found, self.make) if isinstance(index, slice) else self.make(found)
