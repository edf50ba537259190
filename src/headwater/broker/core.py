"""The broker without its sockets: its state, and how its parts work together.

The core is driven from outside and never waits. A shell passes it requests (`dispatch.py`), runs the syncs that the journal's
driver orders (`durability.py`), reports their ends, and calls the timers when they are due. So the test broker is this
broker with an in-memory disk and a clock that is moved by hand.
"""

import contextlib
from collections.abc import Callable
from functools import cached_property
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from headwater.broker.cluster import PLAINTEXT, Cluster
from headwater.broker.configs.catalog import shorten
from headwater.broker.configs.dynamic import DynamicConfigs
from headwater.broker.configs.settings import Settings
from headwater.broker.coordination import Coordination
from headwater.broker.durability import Durability
from headwater.broker.fetch_sessions import FetchSessions
from headwater.broker.limited_log import LimitedLog
from headwater.broker.metadata import METADATA_TOPIC, METADATA_TOPIC_ID, Metadata, Topic
from headwater.broker.metadata_records import MetadataRecordType, token_removal
from headwater.broker.occurrences import Occurrences
from headwater.broker.partitions import Partitions
from headwater.broker.producer_ids import ProducerIds
from headwater.broker.state_logs import MetadataLog, StateLogs
from headwater.broker.throttling import Throttling
from headwater.broker.topics import Topics
from headwater.effects.callbacks import call_all
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy, random_uuid
from headwater.effects.files import Files
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.effects.work import RunElsewhere, Steps, Work, WorkQueue
from headwater.replay.decision import Decision, Runtime
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import SyncNumber
from headwater.security.acls import Acls
from headwater.security.scram import Credential, Mechanism
from headwater.storage.config import LogConfig
from headwater.storage.errors import StorageError
from headwater.storage.store import LogStore

if TYPE_CHECKING:
    from headwater.broker.bearer_logins import BearerLogins
    from headwater.broker.compaction_chore import CompactionChore, RunJob

logger = get_logger(__name__)

Answer = TypeVar("Answer")
METADATA_CONFIG = LogConfig(retention_ms=-1, segment_bytes=64 << 20)


def nothing_to_reload() -> None:
    """A broker without listeners of its own, as in a test, has no certificates."""


def run_here(function: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """Runs the function at once, if nothing else runs."""
    done(function())


def retention_ended(error: Exception | None) -> None:
    if error is not None:
        logger.error("retention: %s", error)


def new_store(
    settings: Settings, files: Files, directory: str, clock: Clock, entropy: Entropy, occurrences: Occurrences
) -> LogStore:
    store = LogStore(
        files,
        directory,
        clock,
        entropy,
        use_journal=settings.headwater_durability == "journal",
        journal_file_bytes=settings.headwater_journal_file_bytes,
        node_id=settings.node_id,
    )
    store.cleaned = occurrences.log_cleaned.emit
    return store


def new_metadata(settings: Settings, cluster: Cluster, store: LogStore) -> Metadata:
    return Metadata(cluster, is_journaled=store.use_journal, token_secret_key=settings.delegation_token_secret_key)


class BrokerCore:
    """See the module's docstring. A new core has its state back from disk and is ready for requests."""

    partitions_class = Partitions  # simulations have another
    has_authorizer = False
    reload_certificates: Callable[[], None] = staticmethod(nothing_to_reload)
    bearer_listener = ""  # the first listener with OAUTHBEARER; its rules are also for the tokens that planes hand on
    run_aside: RunElsewhere = staticmethod(run_here)  # as `run_elsewhere`, for what may wait for a network
    routed_requests = 0  # produce requests that were answered by a route

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
        self.occurrences = Occurrences()
        self.sessions = FetchSessions(clock, entropy, settings.max_incremental_fetch_session_cache_slots)
        # The shell may compact outside the owner's thread.
        self.run_cleaning: RunJob | None = None
        # Runs a slow function that does not use the core, and passes its result to a callback in the owner's thread.
        self.run_elsewhere: RunElsewhere = run_here
        self.refusals = LimitedLog(logger, clock.steady_ms)
        self.store = new_store(settings, files, directory, clock, entropy, self.occurrences)
        self.durability = Durability(
            self.store,
            self.occurrences,
            logs_grew=lambda logs: self.partitions.logs_grew(logs),
            checkpoint_taken=self.compact,
        )
        self.when_durable = self.durability.when_durable
        self.answer_when_durable = self.durability.answer_when_durable
        try:
            self.metadata = new_metadata(settings, self.cluster, self.store)
            self.throttling = Throttling(self.metadata.quotas, lambda: self.settings, clock, self.occurrences)
            self.dynamic_configs = DynamicConfigs(settings, self.cluster.node_ids, self.metadata.broker_configs)
            self.partitions = self.partitions_class(
                self.store, self.metadata, self.cluster, self.dynamic_configs, self.durability
            )
            self.state_logs = StateLogs(self.partitions, clock)
            self.metadata_log = MetadataLog(self.state_logs)
            self.metadata_runtime: Runtime[Any] = Runtime(self.metadata, self.metadata_log)
            self.topics = Topics(
                self.dynamic_configs, entropy, self.partitions, self.metadata_runtime, self.forget_topic
            )
            self.producer_ids = ProducerIds(self.metadata, self.metadata_runtime)
            self.coordination = Coordination(
                settings,
                clock,
                self.timers,
                entropy,
                self.partitions,
                self.state_logs,
                self.topics,
                self.producer_ids,
                self.occurrences,
            )
            self.groups, self.transactions = self.coordination.groups, self.coordination.transactions
            self.load_metadata()
            self.dynamic_configs.warn_of_unserved()
            self.apply_configs()
            self.load_coordinators()
        except BaseException:
            self.store.abandon()
            raise
        self.schedule_chores()

    # -- start

    def load_metadata(self) -> None:
        """Loads the metadata, then every log that has entries in the journal.

        Raises StorageError if the metadata is damaged or incomplete: then nothing in the directory is changed.
        """
        store, metadata = self.store, self.metadata
        log = store.open_log(METADATA_TOPIC, METADATA_TOPIC_ID, 0, METADATA_CONFIG)
        if log.damages:
            start, end = log.damages[0]
            raise StorageError(
                f"{log.directory} was on disk, but its offsets {start} to {end - 1} are gone; restore this directory "
                "from a copy"
            )
        store.recover_log(log)
        deleted = set()
        for change in self.metadata_log.read():
            if change.RECORD_TYPE == MetadataRecordType.REMOVE_TOPIC:
                deleted.add(change.topic_id)
            metadata.replay(change)
        if not log.end_offset and store.directories.has_logs(besides=METADATA_TOPIC):
            raise StorageError(
                f"{log.directory} is empty, but there are logs next to it; restore this directory from a copy"
            )
        store.leader_epoch = max(0, metadata.broker_epoch + (0 if store.was_clean else 1))
        metadata.leader_epoch = log.leader_epoch = store.leader_epoch
        store.directories.sort(self.is_known_partition, deleted, set(metadata.by_id))
        store.recover(self.find_partition)
        self.durability.last_synced = store.journal.newest_sync  # what the start has found
        store.open_slow(
            (topic.name, topic.topic_id, partition, self.partitions.log_config(topic))
            for topic in list(metadata.topics.values())
            for partition in range(topic.partitions)
        )
        if not store.was_clean:
            self.append_metadata(metadata.register_broker(random_uuid(self.entropy)))

    def is_known_partition(self, topic: str, partition: int) -> bool:
        known = self.metadata.topics.get(topic)
        return topic == METADATA_TOPIC or (known is not None and partition < known.partitions)

    def find_partition(self, topic_id: bytes, partition: int) -> tuple[str, LogConfig] | None:
        """What the store needs to know about a partition in the journal; None if it was deleted."""
        if topic_id == METADATA_TOPIC_ID:
            return METADATA_TOPIC, METADATA_CONFIG
        topic = self.metadata.by_id.get(topic_id)
        return (topic.name, self.partitions.log_config(topic)) if topic is not None else None

    def load_coordinators(self) -> None:
        """Loads groups and transactions, and continues what a crash interrupted. Raises OSError."""
        self.coordination.load()

    # -- security

    @cached_property
    def private_logins(self) -> dict[tuple[str, Mechanism], Credential]:
        """The users of the private listener, besides all others: the planes of this process."""
        return {}

    @cached_property
    def bearer_logins(self) -> "BearerLogins":
        """What checks the tokens of OAUTHBEARER; imported with the first listener that takes them."""
        from headwater.broker.bearer_logins import BearerLogins

        return BearerLogins(self.settings, self.clock, self.timers, lambda run, done: self.run_aside(run, done))

    @property
    def acls(self) -> Acls | None:
        """The authorizer; None if there is none and everything is allowed."""
        return self.metadata.acls if self.has_authorizer else None

    def apply_configs(self) -> None:
        """Puts the broker's configuration in force, with the present changes from the metadata."""
        self.dynamic_configs.apply()
        self.settings = self.dynamic_configs.settings
        self.partitions.all_configs_changed()
        self.apply_security()

    def apply_security(self) -> None:
        """Reads the super users.

        There is an authorizer if `authorizer.class.name` asks for one, or if there is a super user.
        """
        acls = self.metadata.acls
        acls.super_users = self.dynamic_configs.super_users()
        acls.allow_if_no_acl = self.settings.allow_everyone_if_no_acl_found
        self.has_authorizer = bool(self.settings.authorizer_class_name or acls.super_users)

    # -- metadata

    def append_metadata(self, changes: list[Any]) -> SyncNumber:
        """Applies a decision of the metadata. Returns the sync that makes it durable. Raises OSError."""
        return self.metadata_runtime.apply("", changes)

    def append_and_answer(self, changes: list[Any], answer: Answer, not_written: Answer) -> Answer | Deferred[Answer]:
        """Carries out a decision of the metadata; returns the other answer if it cannot be written."""
        try:
            return self.metadata_runtime.carry_out("", Decision(changes, answer))
        except OSError as error:
            logger.error("the metadata cannot be written: %s", error)
            return not_written

    def forget_topic(self, topic: Topic) -> None:
        """Removes what groups have committed for a deleted topic."""
        self.groups.forget_topic(topic.name, topic.partitions)

    # -- chores

    def schedule_chores(self) -> None:
        settings = self.settings
        self.repeat(settings.log_cleaner_backoff_ms, self.compact)
        self.repeat(settings.log_retention_check_interval_ms, self.apply_retention)
        self.repeat(settings.offsets_retention_check_interval_ms, self.expire_offsets)
        self.repeat(settings.delegation_token_expiry_check_interval_ms, self.remove_expired_tokens)
        self.repeat(settings.producer_id_expiration_check_interval_ms, self.expire_producers)
        self.repeat(settings.log_flush_offset_checkpoint_interval_ms, self.durability.checkpoint_regularly)
        self.repeat(settings.log_flush_offset_checkpoint_interval_ms, self.shorten_state_logs)
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

    def shorten_state_logs(self) -> None:
        """Rewrites the state logs that have become long. Raises OSError."""
        self.metadata_log.shorten(self.metadata)
        self.coordination.shorten()

    def apply_retention(self) -> None:
        """Begins a pass over all logs, in slices, unless the previous one is still running. Raises OSError."""
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
                    with contextlib.suppress(OSError):  # it was logged when it was found
                        self.partitions.log(topic, partition)
                yield
        removed = yield from self.store.apply_retention()
        if removed:
            logger.info("retention removed %d segments", removed)

    def expire_offsets(self) -> None:
        expired = self.groups.expire_offsets(lambda count: logger.info("%d committed offsets expired", count))
        self.work_off("expiring offsets", expired)

    def remove_expired_tokens(self) -> None:
        """Forgets the delegation tokens that have expired. Raises OSError."""
        expired = list(self.metadata.tokens.find_expired(self.clock.wall_ms()))
        for token in expired:
            logger.info("delegation token %r of %r has expired", token.token_id, shorten(token.owner))
        if expired:
            self.append_metadata([token_removal(token) for token in expired])

    def work_off(self, what: str, steps: Steps[None]) -> None:
        """Runs a chore of the broker's own in slices."""

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
        """Whether the disk has failed. Then nothing more is acknowledged."""
        return self.durability.is_failed

    @cached_property
    def compaction(self) -> "CompactionChore":
        """The compaction chore; imported with the first log that may need it."""
        from headwater.broker.compaction_chore import CompactionChore

        return CompactionChore(self.partitions, self.clock, self.timers, self.occurrences, self.run_cleaning)

    def compact(self) -> None:
        """Begins to compact the log that needs it most, if there is one."""
        if any(log.config.compact and log.segments for log in self.store.logs.values()):
            self.compaction.start_next()

    def close(self) -> None:
        """Ends all waits, and syncs everything. Raises OSError; the directory is released even then."""
        self.partitions.finish_all_watches()
        try:
            self.durability.flush()
        except BaseException:
            self.store.abandon()
            raise
        try:
            call_all(self.durability.release_waits())
        finally:
            self.store.close()
