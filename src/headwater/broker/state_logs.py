"""The logs of replayed machines: they are read at the start, appended to, and kept short.

Three topics keep state: `__cluster_metadata`, `__consumer_offsets` and `__transaction_state`. Their records are in Kafka's
formats. If a log has many more records than there is state, a snapshot of the state is appended, and the log then begins
there. Like compaction, this keeps the last value of every key.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic

from headwater.broker.metadata import METADATA_TOPIC_ID, Metadata, Topic
from headwater.broker.metadata_records import decode_record, encode_record
from headwater.broker.partitions import Partitions
from headwater.coordinators.groups.coordinator import partition_for
from headwater.effects.buffers import Buffer
from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.protocol.errors import ApiError, ProtocolError
from headwater.protocol.records import (
    TRANSACTIONAL,
    BatchHeader,
    CorruptBatchError,
    Record,
    batches,
    build_batch,
    check_batch,
    read_header,
    records,
)
from headwater.replay.decision import Input, RecordTooLargeError
from headwater.replay.state_record import NO_PRODUCER, StateRecord
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.errors import DamagedLogError, StorageError
from headwater.storage.log import Log

logger = get_logger(__name__)

METADATA_BATCH_RECORDS = 2**31 - 1
SNAPSHOT_RECORDS_MIN = 5000
READ_BYTES = 1 << 20


def damaged_at(log: Log, offset: int, error: Exception) -> StorageError:
    return StorageError(
        f"{log.directory} is damaged at offset {offset}: {error}; restore this directory from a copy, or run headwater "
        "doctor"
    )


class StateLogs:
    """The logs of all machines."""

    def __init__(self, partitions: Partitions, clock: Clock) -> None:
        self.partitions = partitions
        self.clock = clock
        self.lengths: dict[Log, int] = {}  # the number of records in each
        self.shorten_from: dict[Log, int] = {}  # the number of records from which shortening may pay off
        self.when_durable = partitions.durability.when_durable

    # -- reading

    def check_is_whole(self, log: Log) -> None:
        """Raises StorageError if records of a state log are missing or damaged."""
        if log.damages:
            start, end = log.damages[0]
            raise StorageError(
                f"{log.directory}: offsets {start} to {end - 1} are gone; restore this directory from a copy, or run "
                "headwater doctor"
            )
        for _ in self.read_batches(log):
            continue

    def read_records(self, log: Log) -> Iterable[tuple[BatchHeader, Record]]:
        """Every record of a state log, decoded, with the header of its batch. Raises StorageError like `read_batches`."""
        for offset, header, batch in self.read_batches(log):
            try:
                yield from ((header, record) for record in records(header, batch) if record.offset >= offset)
            except ProtocolError as error:
                raise damaged_at(log, header.base_offset, error) from error

    def read_batches(self, log: Log) -> Iterator[tuple[int, BatchHeader, Buffer]]:
        """Every batch of a state log, and the offset from which its records count.

        Each batch is checked: its CRC, and that it follows the one before. State that was read from damaged bytes would
        decide what is kept and what is removed. Raises StorageError with the log's name and the offset.
        """
        offset = log.start_offset
        self.lengths[log] = log.end_offset - offset
        while offset < log.end_offset:
            following = offset
            try:
                for header, batch in batches(log.read(offset, READ_BYTES, at_least_one=True)):
                    check_batch(batch)
                    if not header.base_offset <= following <= header.last_offset:
                        raise CorruptBatchError(
                            f"it is followed by the offsets {header.base_offset} to {header.last_offset}"
                        )
                    yield offset, header, batch
                    following = header.next_offset
                if following == offset:
                    raise CorruptBatchError("the batch is incomplete")
            except (ProtocolError, DamagedLogError) as error:
                raise damaged_at(log, following, error) from error
            offset = following

    # -- appending

    def append(self, log: Log, content: list[Record], producer: tuple[int, int] | None = None) -> SyncNumber:
        """Appends records as one batch; returns the sync that makes them durable. Raises OSError.

        `producer` is the id and epoch of a transaction that the records belong to.
        """
        if producer is None:
            batch = build_batch(content)
        else:
            batch = build_batch(
                content,
                attributes=TRANSACTIONAL,
                producer_id=producer[0],
                producer_epoch=producer[1],
                base_sequence=0,
            )
        _, sync = self.partitions.append(log, batch, read_header(batch))
        self.note_appended(log, len(content))
        return sync

    def note_appended(self, log: Log, count: int) -> None:
        """Counts records that were appended to a state log."""
        self.lengths[log] = self.lengths.get(log, 0) + count

    # -- keeping them short

    def shorten(self, log: Log, state: Callable[[], Iterable[Record]], batch_records: int) -> None:
        """Writes the state again if the log is four times as long. The state is only built if that is possible."""
        count = self.lengths.get(log, 0)
        if count < self.shorten_from.get(log, SNAPSHOT_RECORDS_MIN) or log.end_offset != log.high_watermark:
            return
        live = list(state())
        self.shorten_from[log] = max(SNAPSHOT_RECORDS_MIN, 4 * len(live))
        if count < self.shorten_from[log]:
            return
        start, sync, now_ms = log.end_offset, NO_SYNC, self.clock.wall_ms()
        live = [replace(record, timestamp=now_ms) for record in live]
        for at in range(0, len(live), batch_records):
            sync = self.append(log, live[at : at + batch_records])
        self.lengths[log] = len(live)
        self.when_durable(sync, lambda: self.drop_before(log, start))

    def drop_before(self, log: Log, offset: int) -> None:
        """Begins the log at `offset`, as soon as the disk allows it; until then the log is longer than necessary."""
        try:
            if log.segments and log.segments[-1].base_offset < offset:
                log.roll()
            self.partitions.store.advance_start({log: offset})
        except OSError as error:
            logger.error("%s cannot be shortened for now: %s", log.directory, error)


class MetadataLog:
    """The log of the metadata: a single one, without keys."""

    def __init__(self, logs: StateLogs) -> None:
        self.logs = logs
        self.when_durable = logs.when_durable

    @property
    def log(self) -> Log:
        return self.logs.partitions.store.logs[METADATA_TOPIC_ID, 0]

    def append(self, key: str, records: Sequence[Any]) -> SyncNumber:
        """Appends a decision as one batch; returns the sync that makes it durable. Raises OSError."""
        now_ms = self.logs.clock.wall_ms()
        return self.logs.append(self.log, [Record(None, encode_record(record), (), now_ms) for record in records])

    def read(self) -> Iterator[Any]:
        """Every record, in order. Raises StorageError."""
        for _, record in self.logs.read_records(self.log):
            if record.value is not None:
                yield decode_record(record.value)

    def shorten(self, metadata: Metadata) -> None:
        """Writes the state again if that pays off, as one batch: a crash must not leave a topic without partitions.

        Raises OSError.
        """
        self.logs.shorten(
            self.log, lambda: [Record(None, encode_record(r)) for r in metadata.snapshot()], METADATA_BATCH_RECORDS
        )


class StateTopic(Generic[Input]):
    """A topic that keeps a machine's state by key, in several partitions.

    `ensure` returns the topic, and creates it on first use; it raises ApiError and OSError. `encode` turns an input of the
    machine into a log record.
    """

    def __init__(
        self, name: str, logs: StateLogs, ensure: Callable[[], Topic], encode: Callable[[Input], StateRecord]
    ) -> None:
        self.name = name
        self.logs = logs
        self.partitions = logs.partitions
        self.ensure = ensure
        self.encode = encode
        self.when_durable = logs.when_durable

    def append(self, key: str, records: Sequence[Input]) -> SyncNumber:
        """Appends records as one batch to the partition of the key; returns the sync that makes them durable.

        Raises OSError, and RecordTooLargeError if a record is larger than the topic allows.
        """
        log = self.log_of(key)
        size_max, now_ms = log.config.max_message_bytes, self.logs.clock.wall_ms()
        content, producer = [], None
        for record in records:
            encoded_key, value, producer_id, producer_epoch = self.encode(record)
            if value is not None and len(value) > size_max:
                raise RecordTooLargeError(f"its state is larger than max.message.bytes of {self.name}, {size_max}")
            if producer_id != NO_PRODUCER:
                producer = producer_id, producer_epoch  # either all records belong to one transaction, or none does
            content.append(Record(encoded_key, value, (), now_ms))
        return self.logs.append(log, content, producer)

    def log_of(self, key: str) -> Log:
        """The log that keeps a key. The topic is created if it does not exist. Raises OSError."""
        try:
            topic = self.ensure()
        except ApiError as error:
            raise OSError(f"{self.name} cannot be created: {error}") from error
        return self.partitions.log(topic, partition_for(key, topic.partitions))

    def partition_of(self, key: str) -> tuple[str, int]:
        """The topic and partition that keep a key. Raises ApiError and OSError."""
        topic = self.ensure()
        return topic.name, partition_for(key, topic.partitions)

    def encode_snapshot(self, state: Iterable[Input]) -> list[Record]:
        """A snapshot as log records."""
        return [Record(key, value) for key, value, *_ in map(self.encode, state)]

    def belongs_to(self, partition: int) -> Callable[[str], bool]:
        """Returns a function that says whether a key is kept in that partition."""
        partitions = self.partitions.metadata.topics[self.name].partitions
        return lambda key: partition_for(key, partitions) == partition

    def loaded_logs(self) -> list[tuple[Log, Callable[[str], bool]]]:
        """The logs that have been read or written since the start, with functions that say which keys each keeps."""
        logs = [log for log in self.logs.lengths if log.topic == self.name]
        return [(log, self.belongs_to(log.partition)) for log in logs]

    def written_partitions(self) -> Iterator[tuple[Topic, int]]:
        """The partitions that have been written."""
        topic = self.partitions.metadata.topics.get(self.name)
        if topic is not None:
            for partition in range(topic.partitions):
                if self.partitions.was_written(topic, partition):
                    yield topic, partition
