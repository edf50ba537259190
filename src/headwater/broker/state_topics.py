"""The topics in which the coordinators keep their state: `__consumer_offsets` and `__transaction_state`.

They come into being with the first group or transaction, are written in Kafka's formats, read back at the start, and kept
short: a log with many more records than there is state is written again at its end and begins there. As compaction, that
keeps the last value of every key.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from headwater.broker.metadata import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, encode_record
from headwater.coordinators.groups.classic.membership import GroupLimits
from headwater.coordinators.groups.consumer.coordinator import ConsumerGroupLimits
from headwater.coordinators.groups.consumer.records import read_consumer_key
from headwater.coordinators.groups.coordinator import GroupCoordinator, partition_for
from headwater.coordinators.groups.records import read_key
from headwater.coordinators.state_records import StateRecord
from headwater.coordinators.transactions.coordinator import TransactionCoordinator
from headwater.coordinators.transactions.transaction import EPOCH_PER_TRANSACTION, Transaction
from headwater.effects.buffers import Buffer
from headwater.effects.logs import get_logger
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError, ProtocolError
from headwater.protocol.records import (
    CONTROL,
    TRANSACTIONAL,
    BatchHeader,
    CorruptBatchError,
    Record,
    batches,
    build_batch,
    check_batch,
    control_record,
    read_header,
    read_marker,
    records,
)
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.errors import DamagedLogError, StorageError
from headwater.storage.log import Log
from headwater.storage.producers import FORGETTING_COORDINATOR_EPOCH, FencedMarkerError

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore

logger = get_logger(__name__)
Answer = TypeVar("Answer")

SNAPSHOT_BATCH_RECORDS = 1000
METADATA_BATCH_RECORDS = 2**31 - 1
SNAPSHOT_RECORDS_MIN = 5000
READ_BYTES = 1 << 20
NAMES_SHOWN = 20
COORDINATOR_EPOCH = 0  # one node: no other coordinator ever takes over


def damaged_at(log: Log, offset: int, error: Exception) -> StorageError:
    return StorageError(
        f"{log.directory} is damaged at offset {offset}: {error}; restore this directory from a copy, or see what headwater "
        "doctor says"
    )


def group_of(key: Buffer | None) -> str:
    """The group that a record of `__consumer_offsets` is about; "" where it cannot be told."""
    try:
        named = None if key is None else read_key(key) or read_consumer_key(key)
    except ProtocolError:
        return ""
    return "" if named is None else str(getattr(named, "group", "") or getattr(named, "group_id", ""))


def belongs_to(partition: int, partitions: int, key: str) -> bool:
    return partition_for(key, partitions) == partition


class StateTopics:
    """See the module's text. Also writes transactions' markers, and what groups commit within transactions."""

    def __init__(self, core: "BrokerCore") -> None:
        self.core = core
        self.lengths: dict[Log, int] = {}  # of each state log, the records in it
        self.shorten_from: dict[Log, int] = {}  # and from how many on it may be worth shortening
        self.damaged: set[int] = set()  # partitions of `__consumer_offsets` whose groups are not known

    def new_groups(self) -> GroupCoordinator:
        core, settings = self.core, self.core.settings
        limits = GroupLimits(
            settings.group_min_session_timeout_ms,
            settings.group_max_session_timeout_ms,
            settings.group_initial_rebalance_delay_ms,
            settings.group_max_size,
        )
        return GroupCoordinator(
            core.clock,
            core.timers,
            core.entropy,
            limits,
            self.append_group_records,
            topics=core.metadata,
            log=self,
            consumer_limits=self.consumer_limits(),
            configs_of=self.group_limits,
            migration_policy=settings.group_consumer_migration_policy,
            offset_metadata_bytes_max=settings.offset_metadata_max_bytes,
            offsets_retention_ms=settings.offsets_retention_minutes * 60_000,
        )

    def consumer_limits(self) -> ConsumerGroupLimits:
        settings = self.core.settings
        return ConsumerGroupLimits(
            settings.group_consumer_session_timeout_ms,
            settings.group_consumer_heartbeat_interval_ms,
            settings.group_consumer_max_size,
            tuple(name.strip() for name in settings.group_consumer_assignors.split(",")),
        )

    def group_limits(self, group_id: str) -> ConsumerGroupLimits:
        """What holds for one group: its own configuration comes first."""
        own = self.core.metadata.group_configs.get(group_id)
        limits = self.core.groups.consumers.limits
        if not own:
            return limits
        session = own.get("consumer.session.timeout.ms", limits.session_timeout_ms)
        interval = own.get("consumer.heartbeat.interval.ms", limits.heartbeat_interval_ms)
        return limits._replace(session_timeout_ms=int(session), heartbeat_interval_ms=int(interval))

    def new_transactions(self) -> TransactionCoordinator:
        settings = self.core.settings
        return TransactionCoordinator(
            self.core.clock,
            self,
            timeout_ms_max=settings.transaction_max_timeout_ms,
            expiration_ms=settings.transactional_id_expiration_ms,
        )

    # -- the topics

    def offsets_topic(self) -> Topic:
        """The topic that keeps the groups, configured as Kafka configures it. Raises ApiError and OSError."""
        settings = self.core.settings
        return self.ensure(OFFSETS_TOPIC, settings.offsets_topic_num_partitions, settings.offsets_topic_segment_bytes)

    def transactions_topic(self) -> Topic:
        """The topic that keeps the transactions. Raises ApiError and OSError."""
        settings = self.core.settings
        return self.ensure(
            TRANSACTIONS_TOPIC,
            settings.transaction_state_log_num_partitions,
            settings.transaction_state_log_segment_bytes,
        )

    def ensure(self, name: str, partitions: int, segment_bytes: int) -> Topic:
        topics = self.core.metadata.topics
        if name not in topics:
            own: dict[str, str | None] = {
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(segment_bytes),
            }
            self.core.create_topic(name, partitions, own)
        return topics[name]

    # -- loading

    def load(self) -> None:
        """Brings the coordinators' states back; both must exist, empty."""
        core = self.core
        for log in self.existing_logs(TRANSACTIONS_TOPIC):
            self.check_is_whole(log)
            for header, record in self.read_records(log):
                if not header.is_control:  # an administrator may have written a marker there
                    core.transactions.replay(record.key, record.value)
        for log in self.existing_groups():
            for header, record in self.read_records(log):
                if header.is_control:
                    commit, _ = read_marker(record)
                    core.groups.end_transaction(header.producer_id, log.partition, commit=commit)
                else:
                    producer_id = header.producer_id if header.is_transactional else -1
                    core.groups.replay(record.key, record.value, producer_id, log.partition)
        core.groups.started()

    def check_is_whole(self, log: Log) -> None:
        """Raises StorageError where records of a state log are missing or damaged."""
        if log.damages:
            start, end = log.damages[0]
            raise StorageError(
                f"{log.directory}: the offsets {start} to {end - 1} are gone; restore this directory from a copy, or see "
                "what headwater doctor says"
            )
        for _ in self.read_batches(log):
            continue

    def existing_groups(self) -> Iterable[Log]:
        """The logs of groups that are whole.

        The groups of one that is not are not served: without the state that is lost a consumer would start over, or at a
        position that is long past. As in Kafka they have no coordinator, and all others do.
        """
        topic = self.core.metadata.topics.get(OFFSETS_TOPIC)
        for partition in range(topic.partitions if topic is not None else 0):
            assert topic is not None
            if not self.exists(topic, partition):
                continue
            try:
                log = self.core.log(topic, partition)
                self.check_is_whole(log)
            except StorageError as error:
                self.leave_out(topic, partition, error)
            else:
                yield log

    def leave_out(self, topic: Topic, partition: int, error: StorageError) -> None:
        """Serves the groups of a damaged log no more, in this life."""
        log = self.core.store.logs.get((topic.topic_id, partition))
        names = self.readable_groups(log) if log is not None else []
        shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
        self.damaged.add(partition)
        damage = error if isinstance(error, DamagedLogError) else DamagedLogError(str(error))
        self.core.store.put_out_of_use(topic.topic_id, partition, damage)
        logger.error(
            "%s-%d: its groups are answered with COORDINATOR_NOT_AVAILABLE. Those that can be read there: %s",
            topic.name,
            partition,
            shown or "none",
        )

    def readable_groups(self, log: Log) -> list[str]:
        """The groups whose records are in the sound part of a damaged log."""
        names: set[str] = set()
        offset = log.start_offset
        while offset < log.end_offset:
            try:
                following = offset
                for header, batch in batches(log.read(offset, READ_BYTES, at_least_one=True)):
                    check_batch(batch)
                    following = header.next_offset
                    if not header.is_control:
                        names.update(group_of(record.key) for record in records(header, batch))
            except DamagedLogError as error:
                following = error.end_offset
            except ProtocolError:
                following = offset
            if following <= offset:
                break
            offset = following
        return sorted(names - {""})

    def is_known(self, group_id: str) -> bool:
        """Whether the state of the group's partition is; only then the group can be served."""
        if not self.damaged:
            return True
        topic = self.core.metadata.topics[OFFSETS_TOPIC]
        return partition_for(group_id, topic.partitions) not in self.damaged

    def exists(self, topic: Topic, partition: int) -> bool:
        """Whether the log was ever written, also where its directory is gone."""
        store, key = self.core.store, (topic.topic_id, partition)
        return (
            (topic.name, partition) in store.directories or key in store.logs or store.recovery_points.get(key, 0) > 0
        )

    def existing_logs(self, name: str) -> Iterable[Log]:
        """The logs of a topic that have been written."""
        core = self.core
        topic = core.metadata.topics.get(name)
        for partition in range(topic.partitions if topic is not None else 0):
            assert topic is not None
            if self.exists(topic, partition):
                yield core.log(topic, partition)

    def read_records(self, log: Log) -> Iterable[tuple[BatchHeader, Record]]:
        """Every record of a state log, decoded, with the header of its batch. Raises StorageError as `read_batches`."""
        for offset, header, batch in self.read_batches(log):
            try:
                yield from ((header, record) for record in records(header, batch) if record.offset >= offset)
            except ProtocolError as error:
                raise damaged_at(log, header.base_offset, error) from error

    def read_batches(self, log: Log) -> Iterable[tuple[int, BatchHeader, Buffer]]:
        """Every batch of a state log, and the offset from which on its records count.

        Each batch is checked by its CRC, and that it follows the one before: state that is read from damaged bytes would
        decide what is kept and what is not. Raises StorageError with the log's name and the offset.
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
        """Appends state records as one batch; returns the sync that makes them durable. Raises OSError.

        `producer` is the id and epoch of a transaction to which they belong.
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
        _, sync = self.core.store.append(log, batch, read_header(batch))
        self.lengths[log] = self.lengths.get(log, 0) + len(content)
        if sync == NO_SYNC:
            self.core.log_grew(log)
        return sync

    def stamped(self, changes: Iterable[StateRecord]) -> list[Record]:
        now_ms = self.core.clock.wall_ms()
        return [Record(key, value, (), now_ms) for key, value in changes]

    def append_group_records(
        self, group_id: str, changes: list[StateRecord], then: Callable[[ErrorCode], None]
    ) -> None:
        """What the group coordinator appends with."""
        try:
            topic = self.offsets_topic()
            log = self.core.log(topic, partition_for(group_id, topic.partitions))
            if any(len(value or b"") > log.config.max_message_bytes for _, value in changes):
                logger.error("group %s: its state is larger than max.message.bytes of %s", group_id, OFFSETS_TOPIC)
                then(ErrorCode.UNKNOWN_SERVER_ERROR)  # as in Kafka
                return
            sync = self.append(log, self.stamped(changes))
        except (OSError, ApiError) as error:
            logger.error("group %s: cannot write to %s: %s", group_id, OFFSETS_TOPIC, error)
            then(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            return
        self.core.when_durable(sync, lambda: then(ErrorCode.NONE))

    def append_group_state(self, group_id: str, records: list[StateRecord]) -> SyncNumber:
        """What groups of the new protocol append with; returns the sync that makes them durable. Raises OSError."""
        try:
            topic = self.offsets_topic()
        except ApiError as error:
            raise OSError(f"{OFFSETS_TOPIC} cannot be created: {error}") from error
        log = self.core.log(topic, partition_for(group_id, topic.partitions))
        return self.append(log, self.stamped(records))

    def answer_when_durable(self, sync: SyncNumber, answer: Answer) -> Deferred[Answer]:
        return self.core.answer_when_durable(sync, answer)

    def append_transaction(self, transactional_id: str, record: StateRecord) -> SyncNumber:
        """What the transaction coordinator appends with. Raises OSError."""
        try:
            topic = self.transactions_topic()
        except ApiError as error:
            raise OSError(f"{TRANSACTIONS_TOPIC} cannot be created: {error}") from error
        log = self.core.log(topic, partition_for(transactional_id, topic.partitions))
        return self.append(log, self.stamped([record]))

    def when_durable(self, sync: SyncNumber, callback: Callable[[], None]) -> None:
        self.core.when_durable(sync, callback)

    def next_producer_id(self) -> tuple[int, SyncNumber]:
        return self.core.next_producer_id()

    # -- offsets within transactions

    def group_partition(self, group_id: str) -> tuple[str, int]:
        """Where a group's offsets are kept. Raises ApiError and OSError."""
        topic = self.offsets_topic()
        return topic.name, partition_for(group_id, topic.partitions)

    def append_pending_offsets(
        self, group_id: str, producer_id: int, epoch: int, changes: list[StateRecord]
    ) -> Deferred[ErrorCode] | ErrorCode:
        """Appends offsets that count when their transaction commits; answers with an ErrorCode."""
        try:
            topic = self.offsets_topic()
            log = self.core.log(topic, partition_for(group_id, topic.partitions))
            entry = log.producers.entries.get(producer_id)
            if entry is not None and epoch < entry.epoch:
                return ErrorCode.INVALID_PRODUCER_EPOCH
            sync = self.append(log, self.stamped(changes), (producer_id, epoch))
        except (OSError, ApiError) as error:
            logger.error("group %s: cannot write to %s: %s", group_id, OFFSETS_TOPIC, error)
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        for key, value in changes:
            self.core.groups.replay(key, value, producer_id, log.partition)
        return self.core.answer_when_durable(sync, ErrorCode.NONE)

    # -- markers

    def write_markers(self, transaction: Transaction, *, commit: bool) -> SyncNumber:
        """Ends the transaction in each of its partitions; returns the last sync. Raises OSError."""
        last_sync = NO_SYNC
        for name, number in sorted(transaction.partitions):
            topic = self.core.metadata.topics.get(name)
            if topic is None or number >= topic.partitions:
                continue  # deleted meanwhile
            log = self.core.log(topic, number)
            try:
                sync = self.write_marker(log, transaction.producer_id, transaction.producer_epoch, commit=commit)
            except FencedMarkerError as error:
                logger.warning("transaction %s: %s: %s", transaction.transactional_id, log.directory, error)
                continue
            last_sync = max(last_sync, sync)
        return last_sync

    def write_marker(
        self, log: Log, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = COORDINATOR_EPOCH
    ) -> SyncNumber:
        """Ends a producer's transaction in one partition. Raises OSError and FencedMarkerError."""
        core = self.core
        marker = control_record(int(commit), coordinator_epoch, core.clock.wall_ms())
        batch = build_batch([marker], attributes=CONTROL | TRANSACTIONAL, producer_id=producer_id, producer_epoch=epoch)
        _, sync = core.store.append(log, batch, read_header(batch))
        if log.topic == OFFSETS_TOPIC:
            self.lengths[log] = self.lengths.get(log, 0) + 1
            end = partial(core.groups.end_transaction, producer_id, log.partition, commit=commit)
            core.when_durable(sync, end)
        if sync == NO_SYNC:
            core.log_grew(log)
        return sync

    def end_hanging(self, log: Log) -> None:
        """Resolves the open transactions that a start finds in a log.

        A batch may have reached the disk in a power cut and the record that took its partition into the transaction not.
        Where the producer is still the one of its transactional id, the partition is taken in now, so that the client's
        commit or abort finds it; else nobody will ever end it, so it is aborted here, and forgotten: should the client
        send the batch again, it is a new one. So is a batch that has already the epoch which its transactional id gets
        with the end that is being written: it is of the next transaction, which that end must not commit. Raises OSError.
        """
        transactions = self.core.transactions
        partition = (log.topic, log.partition)
        for producer_id in list(log.producers.ongoing):
            epoch = log.producers.entries[producer_id].epoch
            known = transactions.of_producer(producer_id, epoch)
            if known is not None and not known.state.is_prepared:
                if partition not in known.partitions:
                    transactions.change(known.begun_with([partition], self.core.clock.wall_ms(), known.client_version))
                continue
            is_next_one = known is not None and known.client_version >= EPOCH_PER_TRANSACTION
            decided = (t for t in transactions.transactions.values() if t.producer_id == producer_id)
            if not is_next_one and any(partition in t.partitions for t in decided):
                continue  # its marker is on the way
            logger.warning("%s: aborting what producer %d left open", log.directory, producer_id)
            self.write_marker(log, producer_id, epoch, commit=False, coordinator_epoch=FORGETTING_COORDINATOR_EPOCH)

    # -- keeping them short

    def shorten_all(self) -> None:
        """Shortens the logs that are worth it, the metadata's too. Raises OSError."""
        core = self.core
        # One batch: a crash must not leave a topic without its partitions.
        self.shorten(core.metadata_log, self.metadata_records, METADATA_BATCH_RECORDS)
        for log in [log for log in self.lengths if log is not core.metadata_log]:
            partitions = core.metadata.topics[log.topic].partitions
            belongs = partial(belongs_to, log.partition, partitions)
            if log.topic == TRANSACTIONS_TOPIC:
                self.shorten(log, partial(self.transaction_records, belongs), SNAPSHOT_BATCH_RECORDS)
            elif core.groups.is_settled(belongs) and not log.producers.ongoing:
                self.shorten(log, partial(self.group_records, belongs), SNAPSHOT_BATCH_RECORDS)

    def metadata_records(self) -> list[Record]:
        core = self.core
        return [Record(None, encode_record(change)) for change in core.metadata.snapshot(core.store.leader_epoch)]

    def group_records(self, belongs: Callable[[str], bool]) -> list[Record]:
        return self.stamped(self.core.groups.snapshot(belongs))

    def transaction_records(self, belongs: Callable[[str], bool]) -> list[Record]:
        return self.stamped(self.core.transactions.snapshot(belongs))

    def shorten(self, log: Log, state: Callable[[], list[Record]], batch_records: int) -> None:
        """Writes the state again if the log is four times as long; the state is only made where that can be so."""
        count = self.lengths.get(log, 0)
        if count < self.shorten_from.get(log, SNAPSHOT_RECORDS_MIN) or log.end_offset != log.high_watermark:
            return
        live = state()
        self.shorten_from[log] = max(SNAPSHOT_RECORDS_MIN, 4 * len(live))
        if count < self.shorten_from[log]:
            return
        start, sync, now_ms = log.end_offset, NO_SYNC, self.core.clock.wall_ms()
        live = [replace(record, timestamp=now_ms) for record in live]
        for at in range(0, len(live), batch_records):
            sync = self.append(log, live[at : at + batch_records])
        self.lengths[log] = len(live)
        self.core.when_durable(sync, lambda: self.drop_before(log, start))

    def drop_before(self, log: Log, offset: int) -> None:
        """Begins the log at `offset`, as soon as the disk lets it; until then it is longer than it needs to be."""
        try:
            if log.segments and log.segments[-1].base_offset < offset:
                log.roll()
            self.core.store.advance_start({log: offset})
        except OSError as error:
            logger.error("%s cannot be shortened for now: %s", log.directory, error)
