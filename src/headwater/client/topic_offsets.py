"""Where a topic of one partition begins and ends."""

import threading

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headwater.client.admin import Admin
from headwater.client.backoff import Backoff
from headwater.client.errors import ClientError
from headwater.effects.clock import Clock
from headwater.effects.entropy import SystemEntropy


def lacks_leader(error: ClientError) -> bool:
    """Whether the partition has no leader for now."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].code() in (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    )


def offset_of(admin: Admin, topic: str, spec: OffsetSpec, clock: Clock, timeout_ms: float) -> int:
    """An offset of the topic's only partition, for a reader of what is committed. Raises ClientError.

    A cluster elects a leader after it has created the topic, or when one is gone: until then it is asked again.
    """
    wanted = {TopicPartition(topic, 0): spec}
    deadline_ms, backoff = clock.steady_ms() + timeout_ms, Backoff(SystemEntropy())
    while True:
        try:
            (found,) = admin.call(
                lambda raw: raw.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED),
                f"asking for offsets of {topic}",
            ).values()
        except ClientError as error:
            pause_ms = backoff.record_failure()
            if not lacks_leader(error) or clock.steady_ms() + pause_ms > deadline_ms:
                raise
            threading.Event().wait(pause_ms / 1000)
        else:
            return int(found.offset)
