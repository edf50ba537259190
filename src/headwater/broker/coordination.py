"""The coordinators of this broker: built from the settings, loaded from their topics, and kept short there.

`__consumer_offsets` stores the groups and `__transaction_state` the transactions. Each topic is created with the first group
or transaction, configured as in Kafka.
"""

from collections.abc import Callable, Iterator
from functools import partial

from headwater.broker.configs.settings import Settings
from headwater.broker.markers import Markers
from headwater.broker.metadata import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic
from headwater.broker.occurrences import Occurrences
from headwater.broker.partitions import Partitions
from headwater.broker.producer_ids import ProducerIds
from headwater.broker.state_logs import READ_BYTES, StateLogs, StateTopic
from headwater.broker.topics import Topics
from headwater.coordinators.groups.classic.membership import GroupLimits
from headwater.coordinators.groups.consumer.records import read_consumer_key
from headwater.coordinators.groups.consumer.subscriptions import ConsumerGroupLimits
from headwater.coordinators.groups.coordinator import GroupCoordinator, partition_for
from headwater.coordinators.groups.records import read_key
from headwater.coordinators.transactions.coordinator import TransactionCoordinator
from headwater.coordinators.transactions.transaction import encoded_record, read_record
from headwater.effects.buffers import Buffer
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import Record, batches, check_batch, read_marker, records
from headwater.replay.state_record import NO_PRODUCER, StateRecord
from headwater.storage.errors import DamagedLogError, StorageError
from headwater.storage.log import Log

logger = get_logger(__name__)

SNAPSHOT_BATCH_RECORDS = 1000
NAMES_SHOWN = 20


def group_of(key: Buffer | None) -> str:
    """The group that a record of `__consumer_offsets` is about; "" if the record does not say."""
    try:
        named = None if key is None else read_key(key) or read_consumer_key(key)
    except ProtocolError:
        return ""
    return "" if named is None else str(getattr(named, "group", "") or getattr(named, "group_id", ""))


def as_it_is(record: StateRecord) -> StateRecord:
    """The records of groups are the log's records already."""
    return record


class Coordination:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        timers: Timers,
        entropy: Entropy,
        partitions: Partitions,
        logs: StateLogs,
        topics: Topics,
        producer_ids: ProducerIds,
        occurrences: Occurrences,
    ) -> None:
        self.partitions = partitions
        self.logs = logs
        self.damaged: set[int] = set()  # partitions of `__consumer_offsets` whose groups are not known
        self.offsets_topic = StateTopic(
            OFFSETS_TOPIC, logs, partial(topics.ensure_state_topic, OFFSETS_TOPIC), as_it_is
        )
        self.transactions_topic = StateTopic(
            TRANSACTIONS_TOPIC, logs, partial(topics.ensure_state_topic, TRANSACTIONS_TOPIC), encoded_record
        )
        self.groups = GroupCoordinator(
            clock,
            timers,
            entropy,
            GroupLimits(
                settings.group_min_session_timeout_ms,
                settings.group_max_session_timeout_ms,
                settings.group_initial_rebalance_delay_ms,
                settings.group_max_size,
            ),
            self.offsets_topic,
            topics=partitions.metadata,
            consumer_limits=ConsumerGroupLimits(
                settings.group_consumer_session_timeout_ms,
                settings.group_consumer_heartbeat_interval_ms,
                settings.group_consumer_max_size,
                tuple(name.strip() for name in settings.group_consumer_assignors.split(",")),
                settings.group_consumer_regex_refresh_interval_ms,
            ),
            configs_of=self.group_limits,
            assignment_interval_of=self.assignment_interval_ms,
            migration_policy=settings.group_consumer_migration_policy,
            offset_metadata_bytes_max=settings.offset_metadata_max_bytes,
            offsets_retention_ms=settings.offsets_retention_minutes * 60_000,
            rebalanced=occurrences.rebalanced,
        )
        self.markers = Markers(partitions, logs, self.offsets_topic, self.groups, clock)
        self.transactions = TransactionCoordinator(
            clock,
            self.transactions_topic,
            self.markers,
            lambda: producer_ids.next()[0],
            timeout_ms_max=settings.transaction_max_timeout_ms,
            expiration_ms=settings.transactional_id_expiration_ms,
            ended=occurrences.transaction_ended,
        )

    def group_limits(self, group_id: str) -> ConsumerGroupLimits:
        """The limits of one group: its own configuration comes first."""
        own = self.partitions.metadata.group_configs.get(group_id)
        limits = self.groups.consumers.limits
        if not own:
            return limits
        session = own.get("consumer.session.timeout.ms", limits.session_timeout_ms)
        interval = own.get("consumer.heartbeat.interval.ms", limits.heartbeat_interval_ms)
        return limits._replace(session_timeout_ms=int(session), heartbeat_interval_ms=int(interval))

    def assignment_interval_ms(self, group_id: str) -> int:
        """How old a group's target assignment must be before there is another, within the broker's bounds as they are now."""
        settings = self.partitions.configs.settings
        own = self.partitions.metadata.group_configs.get(group_id, {}).get("consumer.assignment.interval.ms")
        interval_ms = settings.group_consumer_assignment_interval_ms if own is None else int(own)
        low_ms = settings.group_consumer_min_assignment_interval_ms
        return max(low_ms, min(interval_ms, settings.group_consumer_max_assignment_interval_ms))

    # -- loading

    def load(self) -> None:
        """Loads the coordinators' states, and continues what a crash interrupted. Raises OSError."""
        self.load_transactions()
        self.load_groups()
        metadata = self.partitions.metadata
        used = max((t.producer_id for t in self.transactions.transactions.values()), default=NO_PRODUCER)
        metadata.next_producer_id = max(metadata.next_producer_id, used + 1)
        self.partitions.opened = self.end_hanging
        for log in list(self.partitions.store.logs.values()):
            self.end_hanging(log)
        self.transactions.started()

    def end_hanging(self, log: Log) -> None:
        """Resolves open transactions in a log that was opened. Raises OSError."""
        self.markers.end_hanging(log, self.transactions)

    def load_transactions(self) -> None:
        for topic, partition in self.transactions_topic.written_partitions():
            log = self.partitions.log(topic, partition)
            self.logs.check_is_whole(log)
            for header, record in self.logs.read_records(log):
                if record.key is not None and not header.is_control:  # an administrator may have written a marker there
                    self.transactions.replay(read_record(record.key, record.value))

    def load_groups(self) -> None:
        for log in self.whole_logs_of_groups():
            belongs = self.offsets_topic.belongs_to(log.partition)
            for header, record in self.logs.read_records(log):
                if header.is_control:
                    commit, _ = read_marker(record)
                    self.groups.end_transaction(header.producer_id, belongs, commit=commit)
                elif record.key is not None:
                    producer = header.producer_id if header.is_transactional else NO_PRODUCER
                    self.groups.replay(StateRecord(record.key, record.value, producer, header.producer_epoch))
        self.groups.started()

    def whole_logs_of_groups(self) -> Iterator[Log]:
        """The logs of groups that are whole.

        Groups in other logs are not served: without the lost state, a consumer would start over, or at a position that is
        long past. As in Kafka, those groups have no coordinator, while all others do.
        """
        for topic, partition in self.offsets_topic.written_partitions():
            try:
                log = self.partitions.log(topic, partition)
                self.logs.check_is_whole(log)
            except StorageError as error:
                self.leave_out(topic, partition, error)
            else:
                yield log

    def leave_out(self, topic: Topic, partition: int, error: StorageError) -> None:
        """Stops serving the groups of a damaged log, until the next start."""
        log = self.partitions.store.logs.get((topic.topic_id, partition))
        names = self.readable_groups(log) if log is not None else []
        shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
        self.damaged.add(partition)
        damage = error if isinstance(error, DamagedLogError) else DamagedLogError(str(error))
        self.partitions.store.put_out_of_use(topic.topic_id, partition, damage)
        logger.error(
            "%s-%d: requests for its groups fail with COORDINATOR_NOT_AVAILABLE. Groups that can be read there: %s",
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
        """Whether the state of the group's partition is known. Otherwise the group cannot be served."""
        if not self.damaged:
            return True
        topic = self.partitions.metadata.topics[OFFSETS_TOPIC]
        return partition_for(group_id, topic.partitions) not in self.damaged

    # -- within transactions

    def check_producer(self, group_id: str, producer_id: int, epoch: int) -> ErrorCode:
        """Whether a producer may still add offsets of a group to its transaction: a newer epoch has fenced older ones."""
        try:
            entry = self.offsets_topic.log_of(group_id).producers.entries.get(producer_id)
        except OSError as error:
            logger.error("group %s cannot be written: %s", group_id, error)
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        is_fenced = entry is not None and epoch < entry.epoch
        return ErrorCode.INVALID_PRODUCER_EPOCH if is_fenced else ErrorCode.NONE

    # -- keeping the topics short

    def shorten(self) -> None:
        """Shortens the logs of both topics if that pays off. Raises OSError."""
        for log, belongs in self.transactions_topic.loaded_logs():
            self.logs.shorten(log, partial(self.snapshot_of_transactions, belongs), SNAPSHOT_BATCH_RECORDS)
        for log, belongs in self.offsets_topic.loaded_logs():
            if self.groups.is_settled(belongs) and not log.producers.ongoing:
                self.logs.shorten(log, partial(self.snapshot_of_groups, belongs), SNAPSHOT_BATCH_RECORDS)

    def snapshot_of_transactions(self, belongs: Callable[[str], bool]) -> list[Record]:
        return self.transactions_topic.encode_snapshot(self.transactions.snapshot(belongs))

    def snapshot_of_groups(self, belongs: Callable[[str], bool]) -> list[Record]:
        return self.offsets_topic.encode_snapshot(self.groups.snapshot(belongs))
