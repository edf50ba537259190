"""The broker without its sockets: what it keeps, and how its parts meet.

The core is driven from outside and never waits. A shell hands it requests (`dispatch.py`), is told by the journal's
driver what to sync (`durability.py`) and says when that is done, and calls the timers when they are due. So the test
broker is this broker on an in-memory disk and a clock that is moved by hand.
"""

import contextlib
from collections.abc import Callable
from functools import cached_property
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from headwater.broker.cluster import PLAINTEXT, Cluster
from headwater.broker.configs import topic_configs
from headwater.broker.configs.dynamic import DynamicConfigs
from headwater.broker.configs.settings import Settings
from headwater.broker.durability import Durability
from headwater.broker.fetching import FetchSessions, FetchWait
from headwater.broker.limited_log import LimitedLog
from headwater.broker.metadata import (
    METADATA_TOPIC,
    METADATA_TOPIC_ID,
    OFFSETS_TOPIC,
    TRANSACTIONS_TOPIC,
    Metadata,
    MetadataRecordType,
    Topic,
    decode_record,
    encode_record,
)
from headwater.broker.state_topics import StateTopics
from headwater.broker.statistics import Statistics
from headwater.effects.callbacks import call_all
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy, random_uuid
from headwater.effects.files import Files, SyncError
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.effects.work import RunElsewhere, Steps, Work, WorkQueue
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.records import Record
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Acls
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError, StorageError
from headwater.storage.log import Log
from headwater.storage.store import LogStore

if TYPE_CHECKING:
    from headwater.broker.compacting import Compacting
    from headwater.broker.connection import Connection
    from headwater.storage.cleaner import Cleaned, CleanJob

logger = get_logger(__name__)

Answer = TypeVar("Answer")
METADATA_CONFIG = LogConfig(retention_ms=-1, segment_bytes=64 << 20)


def run_here(function: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """Where nothing else runs, at once."""
    done(function())


def retention_ended(error: Exception | None) -> None:
    if error is not None:
        logger.error("retention: %s", error)


class BrokerCore:
    """See the module's text. A new core has its state back from disk and is ready for requests."""

    def __init__(
        self,
        settings: Settings,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        *,
        directory: str,
        host: str = "127.0.0.1",
        port: int = 9092,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.entropy = entropy
        self.cluster = Cluster(settings.node_id, settings.headwater_nodes, settings.broker_rack or None)
        for node_id in self.cluster.node_ids:
            self.cluster.advertise(PLAINTEXT, node_id, host, port)
        self.timers = Timers(clock)
        self.work = WorkQueue(clock, self.timers)
        self.retention: Work | None = None
        self.statistics = Statistics()
        self.fetch_waits: dict[Log, dict[FetchWait, None]] = {}  # in the order in which they began
        self.sessions = FetchSessions(clock, entropy, settings.max_incremental_fetch_session_cache_slots)
        self.topic_log_configs: dict[bytes, LogConfig] = {}
        # Topics whose deletion is not durable yet, and the sync that makes it so.
        self.deletions: dict[str, SyncNumber] = {}
        self.producer_ids = iter(range(0))
        # The shell may compact elsewhere than in the owner's thread.
        self.run_cleaning: Callable[[CleanJob, Callable[[Cleaned | None, str], None]], None] | None = None
        # A function that takes long and touches nothing of the core, and what its result is given to, in the owner's thread.
        self.run_elsewhere: RunElsewhere = run_here
        self.refusals = LimitedLog(logger, clock.steady_ms)
        self.are_coordinators_loaded = self.has_authorizer = False
        self.store = LogStore(
            files,
            directory,
            clock,
            entropy,
            use_journal=settings.headwater_durability == "journal",
            journal_file_bytes=settings.headwater_journal_file_bytes,
            node_id=settings.node_id,
        )
        self.durability = Durability(
            self.store, self.statistics, logs_grew=self.wake_readers, checkpoint_taken=self.compact
        )
        self.when_durable = self.durability.when_durable
        self.answer_when_durable = self.durability.answer_when_durable
        try:
            self.metadata = Metadata(self.cluster, is_journaled=self.store.use_journal)
            self.dynamic_configs = DynamicConfigs(settings, self.cluster.node_ids, self.metadata.broker_configs)
            self.state_topics = StateTopics(self)
            self.groups = self.state_topics.new_groups()
            self.transactions = self.state_topics.new_transactions()
            self.metadata_log = self.load_metadata()
            self.dynamic_configs.warn_of_unserved()
            self.apply_configs()
            self.load_coordinators()
        except BaseException:
            self.store.abandon()
            raise
        self.schedule_chores()

    # -- start

    def load_metadata(self) -> Log:
        """Brings the metadata back, then every log that the journal speaks of.

        Raises StorageError where the metadata is damaged or incomplete: then nothing in the directory is touched.
        """
        store, metadata = self.store, self.metadata
        log = store.open_log(METADATA_TOPIC, METADATA_TOPIC_ID, 0, METADATA_CONFIG)
        if log.damages:
            start, end = log.damages[0]
            raise StorageError(
                f"{log.directory} was on disk, but its offsets {start} to {end - 1} are gone: restore this directory "
                "from a copy"
            )
        store.recover_log(log)
        deleted = set()
        for _, record in self.state_topics.read_records(log):
            if record.value is not None:
                change = decode_record(record.value)
                if change.RECORD_TYPE == MetadataRecordType.REMOVE_TOPIC:
                    deleted.add(change.topic_id)
                metadata.replay(change)
        if not log.end_offset and store.directories.has_logs(besides=METADATA_TOPIC):
            raise StorageError(
                f"{log.directory} is empty, but there are logs beside it: restore this directory from a copy"
            )
        store.leader_epoch = max(0, metadata.broker_epoch + (0 if store.was_clean else 1))
        log.leader_epoch = store.leader_epoch
        store.directories.sort(self.is_known_partition, deleted, set(metadata.by_id))
        store.recover(self.find_partition)
        self.durability.last_synced = store.journal.newest_sync  # of what the start has found
        store.open_slow(
            (topic.name, topic.topic_id, partition, self.log_config(topic))
            for topic in list(metadata.topics.values())
            for partition in range(topic.partitions)
        )
        if not store.was_clean:
            self.append_metadata(metadata.register_broker(random_uuid(self.entropy)))
        return log

    def is_known_partition(self, topic: str, partition: int) -> bool:
        known = self.metadata.topics.get(topic)
        return topic == METADATA_TOPIC or (known is not None and partition < known.partitions)

    def find_partition(self, topic_id: bytes, partition: int) -> tuple[str, LogConfig] | None:
        """What the store wants to know of a partition in the journal; None when it was deleted."""
        if topic_id == METADATA_TOPIC_ID:
            return METADATA_TOPIC, METADATA_CONFIG
        topic = self.metadata.by_id.get(topic_id)
        return (topic.name, self.log_config(topic)) if topic is not None else None

    def load_coordinators(self) -> None:
        """Brings groups and transactions back, and continues what a crash interrupted. Raises OSError."""
        self.state_topics.load()
        used = max((t.producer_id for t in self.transactions.transactions.values()), default=-1)
        self.metadata.next_producer_id = max(self.metadata.next_producer_id, used + 1)
        self.are_coordinators_loaded = True
        for log in list(self.store.logs.values()):
            self.state_topics.end_hanging(log)
        self.transactions.started()

    # -- security

    @property
    def acls(self) -> Acls | None:
        """The authorizer; None where there is none and all may do everything."""
        return self.metadata.acls if self.has_authorizer else None

    def apply_configs(self) -> None:
        """Puts the broker's configuration in force, with what the metadata have of it now."""
        self.dynamic_configs.apply()
        self.settings = self.dynamic_configs.settings
        self.topic_log_configs.clear()
        for topic in self.metadata.topics.values():
            self.config_changed(topic)
        self.apply_security()

    def apply_security(self) -> None:
        """Reads the super users.

        There is an authorizer where `authorizer.class.name` asks for one, and where there is a super user.
        """
        acls = self.metadata.acls
        acls.super_users = self.dynamic_configs.super_users()
        acls.allow_if_no_acl = self.settings.allow_everyone_if_no_acl_found
        self.has_authorizer = bool(self.settings.authorizer_class_name or acls.super_users)

    # -- nodes

    def node_id(self, connection: "Connection") -> int:
        """The node that the client is connected to."""
        node_id = connection.endpoint.node_id
        return node_id if node_id >= 0 else self.cluster.node_ids[0]

    def nodes(self, connection: "Connection") -> list[tuple[int, str, int]]:
        """(id, host, port) of every node, as clients of that listener reach it."""
        listener = connection.endpoint.listener
        return [(node_id, *self.cluster.address(listener, node_id)) for node_id in self.cluster.node_ids]

    # -- partitions

    def log_config(self, topic: Topic) -> LogConfig:
        """What the topic's configuration comes to."""
        config = self.topic_log_configs.get(topic.topic_id)
        if config is None:
            config = topic_configs.log_config(topic.configs, self.dynamic_configs.layers)
            self.topic_log_configs[topic.topic_id] = config
        return config

    def find_log(
        self,
        topic: Topic | None,
        partition: int,
        leader_epoch: int = -1,
        *,
        connection: "Connection | None" = None,
        from_follower: bool = False,
    ) -> tuple[Log | None, ErrorCode]:
        """The log of a partition, or why a client cannot have it; an epoch of -1 is not checked (KIP-320).

        With a connection its node must lead the partition, or have it as a follower where that is enough.
        """
        if topic is None or not 0 <= partition < topic.partitions:
            return None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if connection is not None and not self.cluster.is_single:
            replicas = self.metadata.replicas(topic, partition)
            if self.node_id(connection) not in (replicas if from_follower else replicas[:1]):
                return None, ErrorCode.NOT_LEADER_OR_FOLLOWER
        try:
            log = self.log(topic, partition)
        except OSError:
            return None, ErrorCode.KAFKA_STORAGE_ERROR
        if leader_epoch < 0 or leader_epoch == log.leader_epoch:
            return log, ErrorCode.NONE
        is_old = leader_epoch < log.leader_epoch
        return None, ErrorCode.FENCED_LEADER_EPOCH if is_old else ErrorCode.UNKNOWN_LEADER_EPOCH

    def log(self, topic: Topic, partition: int) -> Log:
        """The log of a partition that exists. Raises OSError where its files cannot be read."""
        log = self.store.logs.get((topic.topic_id, partition))
        if log is None:
            try:
                log = self.store.open_log(topic.name, topic.topic_id, partition, self.log_config(topic))
            except DamagedLogError:
                raise  # it was named when it was found
            except OSError as error:
                logger.error("%s-%d cannot be opened: %s", topic.name, partition, error)
                if isinstance(error, SyncError):
                    self.broken_by(error)
                raise
            if log.producers.ongoing and self.are_coordinators_loaded:
                try:
                    self.state_topics.end_hanging(log)
                except (
                    OSError
                ) as error:  # what is open stays in the way of readers of committed records until a restart
                    logger.error("%s: an open transaction cannot be seen to: %s", log.directory, error)
        return log

    def open_log(self, name: str, partition: int) -> Log | None:
        """The log of a partition that has been used since the start; only such a log has what is not durable yet."""
        topic = self.metadata.topics.get(name)
        return self.store.logs.get((topic.topic_id, partition)) if topic is not None else None

    def config_changed(self, topic: Topic) -> None:
        """Lets the topic's open logs follow a change of its configuration."""
        self.topic_log_configs.pop(topic.topic_id, None)
        config = self.log_config(topic)
        for partition in range(topic.partitions):
            log = self.store.logs.get((topic.topic_id, partition))
            if log is not None:
                log.config = config

    # -- appending

    def wake_readers(self, logs: list[Log]) -> None:
        """Readers may see more of these logs."""
        for log in logs:
            if log in self.fetch_waits:
                self.wake_fetches(log)

    def wake_fetches(self, log: Log) -> None:
        for wait in list(self.fetch_waits.get(log, ())):
            wait.check(log)

    def log_grew(self, log: Log) -> None:
        """To be called after an append that is visible at once (durability page-cache)."""
        if log in self.fetch_waits:
            self.wake_fetches(log)

    # -- metadata

    def append_metadata(self, changes: list[Any]) -> SyncNumber:
        """Appends one decision to the metadata log and takes it into the state; returns the sync that makes it durable.

        The state may run ahead of the disk here: whatever is promised on top of it goes through the same journal later.
        """
        now_ms = self.clock.wall_ms()
        log = self.store.logs[METADATA_TOPIC_ID, 0]
        sync = self.state_topics.append(log, [Record(None, encode_record(c), (), now_ms) for c in changes])
        for change in changes:
            self.metadata.replay(change)
        return sync

    def append_and_answer(self, changes: list[Any], answer: Answer, not_written: Answer) -> Answer | Deferred[Answer]:
        """Appends a decision, if there is one, and gives an answer when it is on disk; another where that fails."""
        if not changes:
            return answer
        try:
            return self.answer_when_durable(self.append_metadata(changes), answer)
        except OSError as error:
            logger.error("the metadata cannot be written: %s", error)
            return not_written

    def create_topic(
        self,
        name: str,
        partitions: int,
        own_configs: dict[str, str | None],
        replication: int | None = None,
        assignments: dict[int, list[int]] | None = None,
    ) -> SyncNumber:
        """Creates a topic; returns the sync that makes it durable. Without a replication it has the broker's default.

        Raises ApiError and OSError.
        """
        if name in self.deletions:  # a crash may still bring it back, and its directory has the name
            raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' is being deleted.")
        topic_id = random_uuid(self.entropy)
        if replication is None:
            replication = min(self.settings.default_replication_factor, len(self.cluster.node_ids))
        epoch = self.store.leader_epoch
        changes = self.metadata.create_topic(name, topic_id, partitions, own_configs, epoch, replication, assignments)
        try:
            self.store.free_name(name)
        except SyncError as error:
            self.broken_by(error)
            raise
        return self.append_metadata(changes)

    def auto_create_topic(self, name: str) -> None:
        """Creates a topic that a client asked for, with the broker's defaults. Raises ApiError and OSError."""
        if name == OFFSETS_TOPIC:
            self.state_topics.offsets_topic()
            return
        if name == TRANSACTIONS_TOPIC:
            self.state_topics.transactions_topic()
            return
        self.create_topic(name, self.settings.num_partitions, {})

    def reassign(self, name: str, partition: int, replicas: list[int]) -> SyncNumber:
        """Gives a partition of a topic other nodes; returns the sync that makes it durable. Raises OSError."""
        changes = self.metadata.reassign(self.metadata.topics[name], partition, replicas)
        if not changes:
            return NO_SYNC
        sync = self.append_metadata(changes)
        log = self.open_log(name, partition)
        if log is not None:  # a fetch that waits at the old leader learns of the new one
            for wait in list(self.fetch_waits.get(log, ())):
                wait.finish()
        return sync

    def delete_topic(self, topic: Topic) -> SyncNumber:
        """Deletes a topic and its data; returns the sync that makes it durable. Raises OSError."""
        sync = self.append_metadata(self.metadata.delete_topic(topic))
        self.topic_log_configs.pop(topic.topic_id, None)
        for partition in range(topic.partitions):
            log = self.store.logs.get((topic.topic_id, partition))
            if log is not None:
                for wait in list(self.fetch_waits.get(log, ())):
                    wait.finish()
        self.deletions[topic.name] = sync
        # The data goes when nothing can bring the topic back.
        self.when_durable(sync, lambda: self.remove_topic_data(topic))
        self.groups.forget_topic(topic.name, topic.partitions)
        return sync

    def remove_topic_data(self, topic: Topic) -> None:
        self.deletions.pop(topic.name, None)
        for partition in range(topic.partitions):
            try:
                self.store.delete_log(topic.name, topic.topic_id, partition)
            except OSError as error:
                logger.error(
                    "%s-%d is deleted, but its data cannot be removed, the next start tries again: %s",
                    topic.name,
                    partition,
                    error,
                )

    def next_producer_id(self) -> tuple[int, SyncNumber]:
        """A producer id that nobody has, and the sync of the journal that makes it so. Raises OSError."""
        producer_id = next(self.producer_ids, None)
        if producer_id is not None:
            return producer_id, NO_SYNC
        first = self.metadata.next_producer_id
        sync = self.append_metadata(self.metadata.allocate_producer_ids())
        self.producer_ids = iter(range(first + 1, self.metadata.next_producer_id))
        return first, sync

    # -- chores

    def schedule_chores(self) -> None:
        settings = self.settings
        self.repeat(settings.log_cleaner_backoff_ms, self.compact)
        self.repeat(settings.log_retention_check_interval_ms, self.apply_retention)
        self.repeat(settings.offsets_retention_check_interval_ms, self.expire_offsets)
        self.repeat(settings.producer_id_expiration_check_interval_ms, self.expire_producers)
        self.repeat(settings.log_flush_offset_checkpoint_interval_ms, self.durability.checkpoint_regularly)
        self.repeat(settings.log_flush_offset_checkpoint_interval_ms, self.state_topics.shorten_all)
        self.repeat(
            settings.transaction_abort_timed_out_transaction_cleanup_interval_ms, self.transactions.abort_overdue
        )
        self.repeat(
            settings.transaction_remove_expired_transaction_cleanup_interval_ms, self.transactions.remove_expired
        )

    def repeat(self, interval_ms: int, chore: Callable[[], object]) -> None:
        def run() -> None:
            self.timers.call_later(interval_ms, run)
            try:
                steps = chore()
                if isinstance(steps, GeneratorType):
                    self.work_off(chore.__name__, steps)
            except OSError as error:
                logger.error("%s: %s", chore.__name__, error)

        self.timers.call_later(interval_ms, run)

    def apply_retention(self) -> None:
        """Begins a pass over all logs, in slices, unless the one before is still under way. Raises OSError."""
        if self.retention is None or self.retention.is_done:
            begun = self.work.begin(self.retention_steps())
            if isinstance(begun, Work):
                self.retention = begun
                begun.when_done(retention_ended)

    def retention_steps(self) -> Steps[None]:
        for topic in list(self.metadata.topics.values()):
            for partition in range(topic.partitions):
                is_there = self.metadata.by_id.get(topic.topic_id) is topic  # it may have been deleted meanwhile
                if is_there and (topic.name, partition) in self.store.directories:
                    with contextlib.suppress(OSError):  # it was named when it was found
                        self.log(topic, partition)
                yield
        removed = yield from self.store.apply_retention()
        if removed:
            logger.info("retention removed %d segments", removed)

    def expire_offsets(self) -> None:
        expired = self.groups.expire_offsets(lambda count: logger.info("%d committed offsets expired", count))
        self.work_off("expiring offsets", expired)

    def work_off(self, what: str, steps: Steps[None]) -> None:
        """Does a chore of the broker's own in slices."""

        def ended(error: Exception | None) -> None:
            if error is not None:
                logger.error("%s: %s", what, error, exc_info=error)

        result = self.work.begin(steps)
        if isinstance(result, Work):
            result.when_done(ended)

    def expire_producers(self) -> Steps[None]:
        before_ms = self.clock.wall_ms() - self.settings.producer_id_expiration_ms
        for log in list(self.store.logs.values()):
            log.producers.expire(before_ms)
            yield

    # -- the end

    @property
    def is_failed(self) -> bool:
        """Whether the disk has failed the broker: nothing is acknowledged any more."""
        return self.durability.is_failed

    @cached_property
    def compacting(self) -> "Compacting":
        """What compacts; imported with the first log that may need it."""
        from headwater.broker.compacting import Compacting

        return Compacting(self)

    def compact(self) -> None:
        """Begins to compact the log that needs it most, if one does."""
        if any(log.config.compact and log.segments for log in self.store.logs.values()):
            self.compacting.start_next()

    def broken_by(self, error: OSError) -> None:
        """The files no longer match the state in memory: the broker has to end."""
        self.durability.fail(error)

    def close(self) -> None:
        """Ends the waits and leaves everything synced. Raises OSError; the directory is given back then too."""
        for waits in list(self.fetch_waits.values()):
            for wait in list(waits):
                wait.finish()
        try:
            self.durability.flush()
        except BaseException:
            self.store.abandon()
            raise
        try:
            call_all(self.durability.release_waits())
        finally:
            self.store.close()
