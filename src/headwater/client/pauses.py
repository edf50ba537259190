"""Partitions that are not read for a while: because the caller said so, or while one event takes long."""

from collections.abc import Iterable

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import Message, TopicPartition

from headwater.client.errors import raise_interrupt
from headwater.client.positions import Partition


class Pauses:
    """What the caller has paused. It stays paused until `resume`, also where a rebalance takes it away and brings it back."""

    def __init__(self) -> None:
        self.paused: set[tuple[str, int]] = set()

    def pause(self, raw: RawConsumer, partitions: Iterable[Partition] | None) -> None:
        places = places_of(raw, partitions)
        raw.pause(places)
        self.paused.update((p.topic, p.partition) for p in places)

    def resume(self, raw: RawConsumer, partitions: Iterable[Partition] | None) -> None:
        places = places_of(raw, partitions)
        self.paused.difference_update((p.topic, p.partition) for p in places)
        raw.resume(places)

    def pause_again(self, raw: RawConsumer, partitions: Iterable[TopicPartition]) -> None:
        """After these were assigned."""
        again = [p for p in partitions if (p.topic, p.partition) in self.paused]
        if again:
            raw.pause([TopicPartition(p.topic, p.partition) for p in again])

    def poll_nothing(self, raw: RawConsumer) -> None:
        """A poll that brings nothing, which the group takes as a sign of life. Raises KafkaException."""
        running = [p for p in raw.assignment() if (p.topic, p.partition) not in self.paused]
        raw.pause(running)
        message: Message | None = None
        try:
            message = raw.poll(0)
        except SystemError as error:
            raise_interrupt(error)
        finally:
            still = {(p.topic, p.partition) for p in raw.assignment()} - self.paused
            raw.resume([p for p in running if (p.topic, p.partition) in still])
        if message is not None and message.error() is None:
            # It was on its way before the pause: it comes again.
            raw.seek(TopicPartition(message.topic(), message.partition(), message.offset()))


def places_of(raw: RawConsumer, partitions: Iterable[Partition] | None) -> list[TopicPartition]:
    """These, or all that are assigned."""
    if partitions is None:
        assigned: list[TopicPartition] = raw.assignment()
        return assigned
    return [TopicPartition(p.topic, p.partition) for p in partitions]
