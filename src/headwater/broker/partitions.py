"""The partitions of all topics: finds them for clients, opens them on first use, appends to them, and watches them.

A partition's log is opened on first use, since a directory may have thousands. A fetch that waits for data watches its logs:
it is notified when readers may see more of one, and when one is gone or led by another node.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from headwater.broker.cluster import Cluster, Endpoint
from headwater.broker.configs.dynamic import DynamicConfigs
from headwater.broker.configs.topic_configs import log_config
from headwater.broker.durability import Durability
from headwater.broker.metadata import Metadata, Topic
from headwater.effects.files import SyncError
from headwater.effects.logs import get_logger
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.records import BatchHeader
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError
from headwater.storage.log import Log
from headwater.storage.store import LogStore

logger = get_logger(__name__)


class Watch(Protocol):
    """A request that waits for a log to grow."""

    def check(self, grown: Log) -> None:
        """Readers may see more of the log."""
        ...

    def finish(self) -> None:
        """Call this if there is nothing more to wait for."""
        ...


class Partitions:
    """See the module's docstring."""

    def __init__(
        self, store: LogStore, metadata: Metadata, cluster: Cluster, configs: DynamicConfigs, durability: Durability
    ) -> None:
        self.store = store
        self.metadata = metadata
        self.cluster = cluster
        self.configs = configs
        self.durability = durability
        self.log_configs: dict[bytes, LogConfig] = {}  # by topic id
        self.watches: dict[Log, dict[Watch, None]] = {}  # in the order in which they began
        self.opened: Callable[[Log], None] | None = None  # called with a log that has open transactions; raises OSError

    # -- configuration

    def log_config(self, topic: Topic) -> LogConfig:
        """The numbers in a topic's configuration."""
        config = self.log_configs.get(topic.topic_id)
        if config is None:
            config = self.log_configs[topic.topic_id] = log_config(topic.configs, self.configs.layers)
        return config

    def all_configs_changed(self) -> None:
        """Applies a change of the broker's configuration to all open logs."""
        self.log_configs.clear()
        for topic in self.metadata.topics.values():
            self.config_changed(topic)

    def config_changed(self, topic: Topic) -> None:
        """Applies a change of a topic's configuration to its open logs."""
        self.log_configs.pop(topic.topic_id, None)
        config = self.log_config(topic)
        for log in self.open_logs(topic):
            log.config = config

    # -- finding

    def find(
        self,
        topic: Topic | None,
        partition: int,
        leader_epoch: int = -1,
        *,
        endpoint: Endpoint | None = None,
        from_follower: bool = False,
    ) -> tuple[Log | None, ErrorCode]:
        """The log of a partition, or why a client cannot have it. An epoch of -1 is not checked (KIP-320).

        With an endpoint, its node must lead the partition, or be a follower if that is enough.
        """
        if topic is None or not 0 <= partition < topic.partitions:
            return None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if endpoint is not None and not self.cluster.is_single:
            replicas = self.metadata.replicas(topic, partition)
            if self.cluster.node_of(endpoint) not in (replicas if from_follower else replicas[:1]):
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
        """The log of a partition that exists. Raises OSError if its files cannot be read."""
        log = self.store.logs.get((topic.topic_id, partition))
        return log if log is not None else self.open(topic, partition)

    def open(self, topic: Topic, partition: int) -> Log:
        try:
            log = self.store.open_log(topic.name, topic.topic_id, partition, self.log_config(topic))
        except DamagedLogError:
            raise  # it was logged when it was found
        except OSError as error:
            logger.error("%s-%d cannot be opened: %s", topic.name, partition, error)
            if isinstance(error, SyncError):
                self.durability.fail(error)
            raise
        if log.producers.ongoing and self.opened is not None:
            try:
                self.opened(log)
            except OSError as error:
                # Until a restart, the open transaction hides later records from readers of committed records.
                logger.error("%s: an open transaction cannot be ended: %s", log.directory, error)
        return log

    def is_open(self, log: Log) -> bool:
        """Whether that log was not closed since it was found."""
        return self.store.logs.get((log.topic_id, log.partition)) is log

    def open_logs(self, topic: Topic) -> list[Log]:
        """The topic's logs that have been used since the start. Only these can have records that are not durable yet."""
        found = (self.store.logs.get((topic.topic_id, partition)) for partition in range(topic.partitions))
        return [log for log in found if log is not None]

    def open_log(self, name: str, partition: int) -> Log | None:
        """The log of a partition, if it has been used since the start."""
        topic = self.metadata.topics.get(name)
        return self.store.logs.get((topic.topic_id, partition)) if topic is not None else None

    def was_written(self, topic: Topic, partition: int) -> bool:
        """Whether the log was ever written, even if its directory is gone."""
        store, key = self.store, (topic.topic_id, partition)
        return (
            (topic.name, partition) in store.directories or key in store.logs or store.recovery_points.get(key, 0) > 0
        )

    # -- appending

    def append(
        self, log: Log, batch: bytearray | memoryview, header: BatchHeader, *, may_gather: bool = False
    ) -> tuple[int, SyncNumber]:
        """Appends a checked batch. Returns its base offset and the sync that makes it durable.

        With `may_gather`, nobody relies on the batch before that (`LogStore.gather`). Raises OSError, and FencedMarkerError
        if a transaction's marker comes too late.
        """
        append = self.store.gather if may_gather else self.store.append
        base_offset, sync = append(log, batch, header)
        if sync == NO_SYNC and log in self.watches:  # it is visible at once
            self.check_watches(log)
        return base_offset, sync

    # -- watching

    def watch(self, log: Log, watch: Watch) -> None:
        """Notifies `watch` about the log until `unwatch`."""
        self.watches.setdefault(log, {})[watch] = None

    def unwatch(self, log: Log, watch: Watch) -> None:
        """Stops notifying the watch."""
        watches = self.watches.get(log)
        if watches is not None:
            watches.pop(watch, None)
            if not watches:
                del self.watches[log]

    def logs_grew(self, logs: Iterable[Log]) -> None:
        """Readers may see more of these logs."""
        for log in logs:
            if log in self.watches:
                self.check_watches(log)

    def check_watches(self, log: Log) -> None:
        for watch in list(self.watches.get(log, ())):
            watch.check(log)

    def finish_watches(self, log: Log) -> None:
        """The log is gone, or led by another node. Whoever watches it will find out by asking again."""
        for watch in list(self.watches.get(log, ())):
            watch.finish()

    def finish_all_watches(self) -> None:
        """The broker ends."""
        for log in list(self.watches):
            self.finish_watches(log)
