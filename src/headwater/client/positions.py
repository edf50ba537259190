"""Places in topics."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import TopicPartition


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


def as_partitions(places: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(place.topic, place.partition) for place in places]


def positions_at(
    raw: RawConsumer, assignment: list[TopicPartition], moment: datetime, timeout_s: float
) -> list[TopicPartition]:
    """The first offset of each partition at or after a time. Raises KafkaException, and ValueError without a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; use for example datetime.now(UTC)")
    timestamp_ms = int(moment.timestamp() * 1000)
    wanted = [TopicPartition(place.topic, place.partition, timestamp_ms) for place in assignment]
    found: list[TopicPartition] = raw.offsets_for_times(wanted, timeout_s) if wanted else []
    return found


def watermarks(
    raw: RawConsumer, places: Iterable[TopicPartition], timeout_s: float
) -> Iterator[tuple[TopicPartition, int, int]]:
    """Each partition with its first offset and the one behind its last."""
    for place in places:
        low, high = raw.get_watermark_offsets(place, timeout_s)
        yield place, low, high
