"""What one call of librdkafka brings: messages, the ends of partitions and errors, which come as messages of one kind.

The last message of a partition does not show where the partition ends: after it there may be markers of transactions and aborted records.
So librdkafka reports the end whenever a fetch finds nothing more (`enable.partition.eof`). A reported end is valid
until another message of the partition comes.
"""

from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import KafkaError, Message

from headwater.client.offsets import Place, place_of


class Arrivals(NamedTuple):
    """The messages of one call; the ends that are still valid, with their offsets; and the errors."""

    messages: list[Message]
    ends: dict[Place, int]
    errors: list[tuple[Place, KafkaError]]


def arrivals(found: list[Message]) -> Arrivals:
    """Sorts what one call has brought. If all are messages, that costs next to nothing."""
    if next(filter(Message.error, found), None) is None:  # the cheapest way: it is paid for every message
        return Arrivals(found, {}, [])
    ends: dict[Place, int] = {}
    for message in found:
        error = message.error()
        if error is None:
            ends.pop(place_of(message), None)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[place_of(message)] = message.offset()
    messages = [message for message in found if message.error() is None]
    return Arrivals(messages, ends, list(errors_of(found)))


def errors_of(found: list[Message]) -> Iterator[tuple[Place, KafkaError]]:
    for message in found:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            yield place_of(message), error
