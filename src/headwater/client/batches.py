"""Events as librdkafka hands them over: many in one call."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from confluent_kafka import Message

from headwater.events.event import Event

Value = TypeVar("Value")


class Batch(Sequence[Event[Value]], Generic[Value]):
    """A sequence of events that are made when they are looked at; `raw_values` and `raw_keys` make none."""

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


def last_offsets(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """The position after the last message of each partition.

    Messages of a partition come in runs, so runs are skipped by halves: where both ends of a stretch are of the same
    partition and lie as many offsets apart as places, the whole stretch is most probably one run. Where compaction or a
    transaction's marker has left a gap, messages of another partition may lie between, so that is looked at.
    """
    found: dict[tuple[str, int], int] = {}
    stretches = [(0, len(messages) - 1)] if messages else []
    while stretches:
        first, last = stretches.pop()
        end = messages[last]
        place = end.topic(), end.partition()
        found[place] = max(found.get(place, 0), end.offset() + 1)
        begin = messages[first]
        if first == last or (
            (begin.topic(), begin.partition()) == place
            and end.offset() - begin.offset() == last - first
            and is_of_one_place(messages[first : last + 1])
        ):
            continue
        middle = (first + last) // 2
        stretches += [(first, middle), (middle + 1, last)]
    return found


def is_of_one_place(messages: Sequence[Message]) -> bool:
    """Whether all are of the same partition. Without a loop in Python: it is paid for every message."""
    return len(set(map(Message.partition, messages))) == 1 and len(set(map(Message.topic, messages))) == 1


def outside(messages: Sequence[Message], places: Collection[tuple[str, int]]) -> list[Message]:
    """The messages of other partitions than these."""
    return [message for message in messages if (message.topic(), message.partition()) not in places]


def first_offsets(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """The position of the first message of each partition."""
    return {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}
