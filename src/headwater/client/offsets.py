"""Offsets of many messages at once, without a Python loop over all of them: every message would pay for it.

A message is anything with a topic, a partition and an offset, as librdkafka's have them: methods, and not attributes.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeAlias, TypeVar

Place: TypeAlias = tuple[str, int]
"""A topic and the number of a partition."""


class Placed(Protocol):
    """What this module needs of a message: its place in the log."""

    def topic(self) -> str: ...

    def partition(self) -> int: ...

    def offset(self) -> int: ...


Message = TypeVar("Message", bound=Placed)


def place_of(message: Placed) -> Place:
    return message.topic(), message.partition()


def last_offsets(messages: Sequence[Placed], *, is_of_one_topic: bool = False) -> dict[Place, int]:
    """The position after the last message of each partition; the caller may know that all are of one topic.

    Messages of a partition come in runs, so runs are skipped by halves: if both ends of a stretch are of the same
    partition, and are as many offsets apart as places, the whole stretch is most probably one run. If compaction or a
    transaction's marker has left a gap, messages of another partition may be between them, so that is checked.
    """
    found: dict[Place, int] = {}
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
            and is_of_one_place(messages[first : last + 1], is_of_one_topic)
        ):
            continue
        middle = (first + last) // 2
        stretches += [(first, middle), (middle + 1, last)]
    return found


def is_of_one_place(messages: Sequence[Placed], is_of_one_topic: bool) -> bool:
    """Whether all are of the same partition."""
    kind = type(messages[0])  # its functions are called without looking them up for each message
    if len(set(map(kind.partition, messages))) > 1:
        return False
    return is_of_one_topic or len(set(map(kind.topic, messages))) == 1


def outside(messages: Sequence[Message], places: Collection[Place]) -> list[Message]:
    """The messages of other partitions than these."""
    return [message for message in messages if (message.topic(), message.partition()) not in places]


def first_offsets(messages: Sequence[Placed]) -> dict[Place, int]:
    """The position of the first message of each partition."""
    return {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}
