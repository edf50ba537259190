"""Partitions that are not read for now: the caller has paused them, or the handling of one event takes long."""

from collections.abc import Iterable

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import Message, TopicPartition

from headwater.client.errors import raise_interrupt
from headwater.client.positions import Partition


class Pauses:
    """The partitions that the caller has paused. They stay so until `resume`, even if they go and come back meanwhile."""

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
        """Pauses those of these partitions that were paused before they were assigned again."""
        again = [p for p in partitions if (p.topic, p.partition) in self.paused]
        if again:
            raw.pause([TopicPartition(p.topic, p.partition) for p in again])

    def poll_nothing(self, raw: RawConsumer) -> None:
        """Polls without reading, as a sign of life to the group. Raises KafkaException."""
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
            # A message that was on its way before the pause comes again.
            raw.seek(TopicPartition(message.topic(), message.partition(), message.offset()))


def places_of(raw: RawConsumer, partitions: Iterable[Partition] | None) -> list[TopicPartition]:
    """These partitions, or all assigned ones."""
    if partitions is None:
        assigned: list[TopicPartition] = raw.assignment()
        return assigned
    return [TopicPartition(p.topic, p.partition) for p in partitions]
