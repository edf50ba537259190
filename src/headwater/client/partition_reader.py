"""Reads given partitions, without a group: the base of a replayed topic, and of `hw.Reader`.

librdkafka fetches, and this module says what its events mean. They are of three kinds: records, the ends of partitions,
and errors. Some errors pass, and librdkafka keeps trying. The others say that the wanted records are not there, and are
raised.

The end of a partition needs care. The last offset need not be that of a record: the markers of transactions
have offsets too, records of aborted transactions are left out, and compaction and deletion remove others. So `positions`
takes the greater of two: the offset after the last record, and the offset at which librdkafka says that the end is.
"""

from typing import Any

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from headwater.client.arrivals import arrivals
from headwater.client.connections import BrokerLike, Notes, Settings, make_client, merge_settings
from headwater.client.errors import ClientError, LostRecordsError, UnknownTopicError, client_error
from headwater.client.offsets import last_offsets
from headwater.client.positions import Partition

UNKNOWN_TOPIC_ID = 100  # librdkafka has no name for it
LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
UNKNOWN = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, UNKNOWN_TOPIC_ID}
)
PASSING = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT})
DEFAULTS: dict[str, Any] = {
    "client.id": "headwater",
    "auto.offset.reset": "error",
    "allow.auto.create.topics": False,
    "isolation.level": "read_committed",
    # What is fetched and not handed over yet. librdkafka's own default is 64 MiB.
    "queued.max.messages.kbytes": 16_384,
}
# A reader is not a member of a group, but librdkafka wants a name; nothing is committed.
FORCED: dict[str, Any] = {"enable.auto.commit": False, "enable.auto.offset.store": False, "enable.partition.eof": True}


class PartitionReader:
    """See the module's docstring. It reads each partition from an offset on. Raises ClientError."""

    def __init__(
        self, broker: BrokerLike, starts: dict[Partition, int], *, what: str, settings: Settings | None = None
    ) -> None:
        self.what, self.notes = what, Notes()
        found = {**merge_settings(broker, {**DEFAULTS, "group.id": "headwater-reader"}, settings, self.notes), **FORCED}
        self.address = found["bootstrap.servers"]
        self.positions = dict(starts)
        self.failure: ClientError | None = None  # raised after the records that come before it
        self.raw: Any = make_client(RawConsumer, found, "the reader", self.notes)
        try:
            self.raw.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        except KafkaException as error:
            self.raw.close()
            raise client_error(error.args[0], what) from error

    def poll(self, number_max: int, timeout_s: float) -> list[Message]:
        """The next records; none if none came in time. Raises ClientError."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        first = self.raw.poll(timeout_s)
        if first is None:
            refusal, self.notes.refusal = self.notes.refusal, None
            if refusal is not None:
                raise client_error(refusal, f"{self.what} at {self.address}")
            self.notes.look_for_broker(self.raw.list_topics)
            return []
        # Only records that are there already: asking for many with a timeout would wait for all of them.
        rest = self.raw.consume(number_max - 1, 0) if number_max > 1 else []
        return self.records([first, *rest])

    def records(self, brought: list[Message]) -> list[Message]:
        messages, ends, errors = arrivals(brought)
        for place, position in (*last_offsets(messages).items(), *ends.items()):
            partition = Partition(*place)
            self.positions[partition] = max(self.positions[partition], position)
        if messages or ends:
            self.notes.answered()
        for place, error in errors:
            self.failure = self.failure or self.error_of(error, Partition(*place))
        if self.failure is not None and not messages:
            failure, self.failure = self.failure, None
            raise failure
        return messages

    def error_of(self, error: KafkaError, place: Partition) -> ClientError | None:
        """What an error means; None if it passes."""
        what = f"{self.what} at {self.address}"
        if error.code() in UNKNOWN:
            return UnknownTopicError(f"{what}: partition {place.partition} of {place.topic} is not there", error.name())
        if error.code() in LOST:
            return LostRecordsError(
                f"{what}: offset {self.positions.get(place)} of {place.topic}-{place.partition} is not there"
            )
        if error.retriable() or error.code() in PASSING or error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return None  # librdkafka asks for the group's coordinator, which is not needed here
        return client_error(error, what)

    def close(self) -> None:
        self.notes.log.is_closed = True
        self.raw.close()
