"""Places in topics."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


def as_partitions(places: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(place.topic, place.partition) for place in places]


def place_of(partition: TopicPartition) -> tuple[str, int]:
    return partition.topic, partition.partition


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


def committed_or_start(
    raw: RawConsumer, places: list[TopicPartition], start: int, timeout_s: float
) -> list[TopicPartition]:
    """The group's committed positions, or the partition's beginning or end as it is now. Raises KafkaException."""
    found: list[TopicPartition] = raw.committed(places, timeout_s)
    # All are asked for in one request, so that all partitions begin at once. librdkafka would ask for each, and then
    # wait half a second for records of the first partition before it fetches those of the others. ListOffsets accepts
    # both as timestamps.
    new = [TopicPartition(place.topic, place.partition, start) for place in found if place.offset < 0]
    starts: list[TopicPartition] = raw.offsets_for_times(new, timeout_s) if new else []
    raise_error_of([*found, *starts])
    return [place for place in found if place.offset >= 0] + starts


def committed_offsets(raw: RawConsumer, places: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
    """The group's committed positions, or nothing if the broker does not answer in time. Raises KafkaException."""
    try:
        found: list[TopicPartition] = raw.committed(places, timeout_s) if places else []
        raise_error_of(found)
    except KafkaException as error:
        if error.args[0].code() in (KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT):
            return []
        raise
    return found


def raise_error_of(places: list[TopicPartition]) -> None:
    """Raises the first error of a partition, if there is one, as a KafkaException."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)


def seek(raw: RawConsumer, place: TopicPartition) -> bool:
    """Goes to a position. Returns False if librdkafka has not begun with the partition yet. Raises KafkaException."""
    try:
        raw.seek(place)
    except KafkaException as error:
        if error.args[0].code() == KafkaError._STATE:
            return False
        raise
    return True


def seek_each(raw: RawConsumer, positions: Mapping[tuple[str, int], int]) -> list[tuple[str, int]]:
    """Goes to these positions. Returns the partitions for which that is not possible yet."""
    refused = []
    for place, offset in positions.items():
        try:
            raw.seek(TopicPartition(*place, offset))
        except KafkaException:  # the caller asks the group for its position there
            refused.append(place)
    return refused


def lags(raw: RawConsumer, handled: Mapping[tuple[str, int], int], timeout_s: float) -> dict[Partition, int]:
    """How many records of each assigned partition are not handled, or else not committed. Raises KafkaException."""
    found = {}
    for place in raw.committed(raw.assignment(), timeout_s):
        low, high = raw.get_watermark_offsets(place, timeout_s)
        partition = Partition(place.topic, place.partition)
        found[partition] = max(0, high - max(low, handled.get(partition, place.offset)))
    return found
