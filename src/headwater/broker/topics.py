"""Creates, reassigns and deletes topics.

Each of these is a decision of the metadata (`metadata.py`) with consequences elsewhere: for logs, waiting fetches, offsets.
"""

from collections.abc import Callable
from typing import Any

from headwater.broker.configs.dynamic import DynamicConfigs
from headwater.broker.metadata import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Metadata, Topic
from headwater.broker.partitions import Partitions
from headwater.effects.entropy import Entropy, random_uuid
from headwater.effects.files import SyncError
from headwater.effects.logs import get_logger
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.replay.decision import Runtime
from headwater.replay.sync_number import NO_SYNC, SyncNumber

logger = get_logger(__name__)


class Topics:
    """See the module's docstring. `deleted` is called with a topic whose deletion was decided."""

    def __init__(
        self,
        configs: DynamicConfigs,
        entropy: Entropy,
        partitions: Partitions,
        runtime: Runtime[Any],
        deleted: Callable[[Topic], None],
    ) -> None:
        self.configs = configs
        self.entropy = entropy
        self.partitions = partitions
        self.metadata: Metadata = partitions.metadata
        self.runtime = runtime
        self.deleted = deleted
        self.deletions: dict[
            str, SyncNumber
        ] = {}  # topics whose deletion is not durable yet, and the sync that makes it durable

    def create(
        self,
        name: str,
        partitions: int,
        own_configs: dict[str, str | None],
        replication: int | None = None,
        assignments: dict[int, list[int]] | None = None,
    ) -> SyncNumber:
        """Creates a topic; returns the sync that makes it durable. The default replication is the broker's.

        Raises ApiError and OSError.
        """
        if name in self.deletions:  # a crash may still restore it, and its directory has the name
            raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' is being deleted.")
        topic_id = random_uuid(self.entropy)
        if replication is None:
            nodes = len(self.partitions.cluster.node_ids)
            replication = min(self.configs.settings.default_replication_factor, nodes)
        changes = self.metadata.create_topic(name, topic_id, partitions, own_configs, replication, assignments)
        try:
            self.partitions.store.free_name(name)
        except SyncError as error:
            self.partitions.durability.fail(error)
            raise
        return self.runtime.apply(name, changes)

    def auto_create(self, name: str) -> None:
        """Creates a topic that a client asked for, with the broker's defaults. Raises ApiError and OSError."""
        if name in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            self.ensure_state_topic(name)
        else:
            self.create(name, self.configs.settings.num_partitions, {})

    def ensure_state_topic(self, name: str) -> Topic:
        """A topic of the coordinators, configured as in Kafka; created if it does not exist.

        Raises ApiError and OSError.
        """
        topic = self.metadata.topics.get(name)
        if topic is not None:
            return topic
        settings = self.configs.settings
        if name == OFFSETS_TOPIC:
            partitions, segment_bytes = settings.offsets_topic_num_partitions, settings.offsets_topic_segment_bytes
        else:
            partitions = settings.transaction_state_log_num_partitions
            segment_bytes = settings.transaction_state_log_segment_bytes
        own: dict[str, str | None] = {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(segment_bytes),
        }
        self.create(name, partitions, own)
        return self.metadata.topics[name]

    def reassign(self, name: str, partition: int, replicas: list[int]) -> SyncNumber:
        """Assigns a partition of a topic to other nodes; returns the sync that makes it durable. Raises OSError."""
        changes = self.metadata.reassign(self.metadata.topics[name], partition, replicas)
        if not changes:
            return NO_SYNC
        sync = self.runtime.apply(name, changes)
        log = self.partitions.open_log(name, partition)
        if log is not None:  # a fetch that waits at the old leader must learn about the new one
            self.partitions.finish_watches(log)
        return sync

    def delete(self, topic: Topic) -> SyncNumber:
        """Deletes a topic and its data; returns the sync that makes it durable. Raises OSError."""
        sync = self.runtime.apply(topic.name, self.metadata.delete_topic(topic))
        self.partitions.log_configs.pop(topic.topic_id, None)
        for log in self.partitions.open_logs(topic):
            self.partitions.finish_watches(log)
        self.deletions[topic.name] = sync
        # The data is removed when nothing can restore the topic.
        self.runtime.when_durable(sync, lambda: self.remove_data(topic))
        self.deleted(topic)
        return sync

    def remove_data(self, topic: Topic) -> None:
        self.deletions.pop(topic.name, None)
        for partition in range(topic.partitions):
            try:
                self.partitions.store.delete_log(topic.name, topic.topic_id, partition)
            except OSError as error:
                logger.error(
                    "%s-%d is deleted, but its data cannot be removed; the next start tries again: %s",
                    topic.name,
                    partition,
                    error,
                )
