"""Places in a topic, and the offsets that they mean.

A reader names a place in a topic: its beginning or end, an offset, how many offsets before the end, a time, or an offset for each
partition. `TopicOffsets` asks the broker for the numbers. `offset_when_led` asks for one offset of a topic with one
partition, and has patience while that has no leader.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headwater.client.admin import Admin
from headwater.client.backoff import Backoff
from headwater.client.connections import Settings
from headwater.client.errors import ClientError, ConfigurationError
from headwater.client.positions import Partition
from headwater.effects.clock import Clock
from headwater.effects.entropy import SystemEntropy

Place: TypeAlias = int | datetime | Mapping[int, int]
StartPlace: TypeAlias = Literal["earliest", "latest"] | Place
EndPlace: TypeAlias = Literal["latest"] | Place
FIRST, LAST = "earliest", "latest"


def check_place(name: str, place: object, words: tuple[str, ...]) -> None:
    """Raises ConfigurationError if that does not name a place in a topic."""
    is_word = isinstance(place, str) and place in words
    if is_word or (isinstance(place, int | datetime | Mapping) and not isinstance(place, bool)):
        return
    known = " or ".join(map(repr, words))
    raise ConfigurationError(f"{name} is {known}, an offset, a datetime, or offsets by partition; not {place!r}")


class TopicOffsets:
    """Finds offsets in a topic, as a reader with these settings sees it."""

    def __init__(self, admin: Admin, topic: str, settings: Settings) -> None:
        self.admin, self.topic = admin, topic
        sees_all = settings.get("isolation.level") == "read_uncommitted"
        self.isolation = IsolationLevel.READ_UNCOMMITTED if sees_all else IsolationLevel.READ_COMMITTED

    def partitions(self, start: StartPlace, partitions: Sequence[int] | None) -> list[int]:
        """The partitions to read. Raises ConfigurationError and ClientError."""
        there = [found.partition for found in self.admin.describe_topic(self.topic).partitions]
        if partitions is None:
            partitions = sorted(start) if isinstance(start, Mapping) else there
        if missing := [number for number in partitions if number not in there]:
            raise ConfigurationError(
                f"topic {self.topic} has partitions 0 to {len(there) - 1}, not {', '.join(map(str, missing))}"
            )
        return list(partitions)

    def find(self, wanted: StartPlace, partitions: Sequence[int]) -> dict[Partition, int]:
        """An offset for each partition. Raises ConfigurationError and ClientError."""
        places = [Partition(self.topic, number) for number in partitions]
        if isinstance(wanted, Mapping):
            if missing := [place.partition for place in places if place.partition not in wanted]:
                raise ConfigurationError(f"{self.topic}: no offset for partition {', '.join(map(str, missing))}")
            return {place: wanted[place.partition] for place in places}
        if isinstance(wanted, datetime):
            if wanted.tzinfo is None:
                raise ConfigurationError(f"{wanted} has no time zone; use for example datetime.now(UTC)")
            found = self.ask(places, OffsetSpec.for_timestamp(int(wanted.timestamp() * 1000)))
            late = [place for place, offset in found.items() if offset < 0]  # all there is was before
            return {**found, **self.ask(late, OffsetSpec.latest())}
        if wanted == FIRST:
            return self.ask(places, OffsetSpec.earliest())
        if wanted == LAST:
            return self.ask(places, OffsetSpec.latest())
        if isinstance(wanted, int) and wanted < 0:
            firsts, lasts = self.ask(places, OffsetSpec.earliest()), self.ask(places, OffsetSpec.latest())
            return {place: max(firsts[place], last + wanted) for place, last in lasts.items()}
        return {place: int(wanted) for place in places}

    def ask(self, places: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        if not places:
            return {}
        wanted = {TopicPartition(*place): spec for place in places}
        found = self.admin.call(
            lambda raw: raw.list_offsets(wanted, isolation_level=self.isolation), f"asking for offsets of {self.topic}"
        )
        return {Partition(place.topic, place.partition): result.offset for place, result in found.items()}


def lacks_leader(error: ClientError) -> bool:
    """Whether the partition has no leader for now."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].code() in (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    )


def offset_when_led(admin: Admin, topic: str, spec: OffsetSpec, clock: Clock, timeout_ms: float) -> int:
    """An offset of the topic's only partition, for a reader of what is committed. Raises ClientError.

    A cluster elects a leader after it has created the topic, or when one is gone: until then it is asked again.
    """
    offsets, place = TopicOffsets(admin, topic, {}), Partition(topic, 0)
    deadline_ms, backoff = clock.steady_ms() + timeout_ms, Backoff(SystemEntropy())
    while True:
        try:
            return offsets.ask([place], spec)[place]
        except ClientError as error:
            pause_ms = backoff.record_failure()
            if not lacks_leader(error) or clock.steady_ms() + pause_ms > deadline_ms:
                raise
            threading.Event().wait(pause_ms / 1000)
