"""The cluster's metadata as a replayed log: topics, their configurations, producer ids.

A machine of `replay/decision.py`: a decision returns records (`metadata_records.py`), and only replaying them changes the
state. The records of one decision are one batch, so either all of them exist or none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.broker import metadata_records
from headwater.broker.cluster import Cluster
from headwater.broker.configs import topic_configs
from headwater.broker.configs.catalog import ConfigError
from headwater.broker.features import DEFAULT_LEVELS
from headwater.broker.metadata_records import TOPIC_RECORDS, MetadataRecordType, acl_of, new_record
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.security.acls import Acl, Acls
from headwater.security.delegation_tokens import DelegationTokens
from headwater.security.quotas import Quotas
from headwater.security.scram import Credential, Mechanism

METADATA_TOPIC = "__cluster_metadata"
METADATA_TOPIC_ID = bytes(15) + b"\x01"
OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
COUNTERS_TOPIC = "__headwater_counters"  # what the broker counts, for its planes
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "__share_group_state", COUNTERS_TOPIC})
PARTITIONS_MAX = 20_000
# The limit of changes per request, and the message beyond it, as in Kafka (MAX_RECORDS_PER_USER_OP).
CHANGES_PER_REQUEST_MAX = 10_000
TOO_MANY_CHANGES = "Unable to perform excessively large batch operation."
PRODUCER_ID_BLOCK = 1000
TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(slots=True)
class Topic:
    """The present state of a topic. Partitions are numbered from 0."""

    name: str
    topic_id: bytes
    partitions: int = 0
    replication: int = 1
    assignments: dict[int, list[int]] = field(default_factory=dict)  # of partitions that were assigned explicitly
    configs: dict[str, str] = field(default_factory=dict)

    @property
    def is_internal(self) -> bool:
        return self.name in INTERNAL_TOPICS


def check_topic_name(name: str) -> None:
    """Raises ApiError for a name that Kafka does not allow."""
    if name in (".", ".."):
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: '{name}' is not allowed")
    if not TOPIC_NAME.fullmatch(name):
        reason = "the empty string is not allowed" if not name else f"'{name}' is longer than 249 characters"
        if name and len(name) <= 249:
            reason = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def metric_name(name: str) -> str:
    """The name of a topic in the names of metrics."""
    return name.replace(".", "_")


class Metadata:
    """The state, its decisions and its replay."""

    def __init__(self, cluster: Cluster, *, is_journaled: bool = True, token_secret_key: str = "") -> None:
        self.cluster = cluster
        self.is_journaled = is_journaled
        self.node_id = cluster.node_ids[0]
        self.topics: dict[str, Topic] = {}
        self.by_id: dict[bytes, Topic] = {}
        self.metric_names: dict[str, str] = {}  # a topic's name in metrics, to the topic's name
        self.partitions_total = 0
        self.next_producer_id = 0
        self.broker_epoch = -1
        self.leader_epoch = 0  # of new partitions; it grows with each unclean stop
        self.broker_configs: dict[str, dict[str, str]] = {}  # by node id as text; "" is for all
        self.acls = Acls()
        self.credentials: dict[tuple[str, Mechanism], Credential] = {}
        self.quotas = Quotas()
        self.tokens = DelegationTokens(token_secret_key)
        self.group_configs: dict[str, dict[str, str]] = {}
        self.changes = 0  # how many records were replayed
        self.topics_version = 0  # grows with each change of topics and partitions
        self.features = dict(DEFAULT_LEVELS)

    # for the coordinators

    def find_topic(self, name: str) -> tuple[bytes, int] | None:
        """A topic's id and number of partitions."""
        topic = self.topics.get(name)
        return None if topic is None else (topic.topic_id, topic.partitions)

    def topic_names(self) -> Iterator[str]:
        """The names of all topics."""
        return iter(self.topics)

    def replicas(self, topic: Topic, partition: int) -> list[int]:
        """A partition's nodes, its leader first."""
        return topic.assignments.get(partition) or self.cluster.replicas(topic.topic_id, partition, topic.replication)

    def leader(self, topic: Topic, partition: int) -> int:
        """The node that leads a partition."""
        return self.replicas(topic, partition)[0]

    def topic_name(self, topic_id: bytes) -> str | None:
        topic = self.by_id.get(topic_id)
        return None if topic is None else topic.name

    # -- decisions

    def register_broker(self, incarnation_id: bytes) -> list[Any]:
        """A start after an unclean stop begins a new epoch of this broker, and so of every leader."""
        epoch = self.broker_epoch + 1
        return [
            new_record(
                MetadataRecordType.REGISTER_BROKER,
                broker_id=self.node_id,
                incarnation_id=incarnation_id,
                broker_epoch=epoch,
                fenced=False,
            )
        ]

    def create_topic(
        self,
        name: str,
        topic_id: bytes,
        partitions: int,
        own_configs: Mapping[str, str | None],
        replication: int = 1,
        assignments: Mapping[int, list[int]] | None = None,
    ) -> list[Any]:
        """The records of a new topic. Raises ApiError."""
        self.check_new_topic(name, own_configs)
        self.check_partitions(partitions)
        records = [new_record(MetadataRecordType.TOPIC, name=name, topic_id=topic_id)]
        records += self.config_records(name, own_configs)
        return records + self.partition_records(topic_id, range(partitions), replication, assignments)

    def check_new_topic(self, name: str, own_configs: Mapping[str, str | None]) -> None:
        """Raises ApiError for a name or a configuration that a new topic cannot have."""
        check_topic_name(name)
        if name == METADATA_TOPIC:  # such a topic would use the metadata log's own directory
            raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"{METADATA_TOPIC} is the broker's own log")
        if name in self.topics:
            raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        clash = self.colliding_topic(name)
        if clash is not None:
            message = f"Topic '{name}' collides with existing topic: {clash}"
            raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, message)
        self.check_configs(own_configs)

    def colliding_topic(self, name: str) -> str | None:
        """A topic whose name in metrics would be the same: there '.' and '_' are equal (Topic.hasCollision)."""
        return self.metric_names.get(metric_name(name))

    def check_partitions(self, added: int) -> None:
        if added <= 0:
            raise ApiError(ErrorCode.INVALID_PARTITIONS, "Number of partitions must be larger than 0.")
        total = self.partitions_total + added
        if total > PARTITIONS_MAX:
            message = f"{total} partitions are more than this broker allows ({PARTITIONS_MAX})"
            raise ApiError(ErrorCode.INVALID_PARTITIONS, message)

    def check_configs(self, own_configs: Mapping[str, str | None]) -> None:
        try:
            topic_configs.validate(own_configs)
            if not self.is_journaled:
                topic_configs.refuse_flushes(own_configs)
        except ConfigError as error:
            raise ApiError(ErrorCode.INVALID_CONFIG, str(error)) from error

    def config_records(
        self, resource: str, values: Mapping[str, str | None], resource_type: int = ConfigResourceType.TOPIC
    ) -> list[Any]:
        return [
            new_record(
                MetadataRecordType.CONFIG, resource_type=resource_type, resource_name=resource, name=name, value=value
            )
            for name, value in values.items()
        ]

    def partition_records(
        self,
        topic_id: bytes,
        numbers: Iterable[int],
        replication: int,
        assignments: Mapping[int, list[int]] | None = None,
    ) -> list[Any]:
        records = []
        for number in numbers:
            replicas = (assignments or {}).get(number) or self.cluster.replicas(topic_id, number, replication)
            records.append(
                new_record(
                    MetadataRecordType.PARTITION,
                    partition_id=number,
                    topic_id=topic_id,
                    replicas=replicas,
                    isr=replicas,
                    leader=replicas[0],
                    leader_epoch=self.leader_epoch,
                    partition_epoch=0,
                    directories=[METADATA_TOPIC_ID] * len(replicas),
                )
            )
        return records

    def add_partitions(self, name: str, count: int, assignments: Mapping[int, list[int]] | None = None) -> list[Any]:
        """The records of additional partitions. Raises ApiError."""
        topic = self.topics.get(name)
        if topic is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        if count == topic.partitions:
            raise ApiError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {count} partition(s).")
        if count < topic.partitions:
            message = (
                f"The topic {name} currently has {topic.partitions} partition(s); {count} would not be an increase."
            )
            raise ApiError(ErrorCode.INVALID_PARTITIONS, message)
        self.check_partitions(count - topic.partitions)
        added = range(topic.partitions, count)
        return self.partition_records(topic.topic_id, added, topic.replication, assignments)

    def reassign(self, topic: Topic, partition: int, replicas: list[int]) -> list[Any]:
        """Assigns a partition to other nodes, its leader first. Each has the log already, so this takes effect at once (KIP-455)."""
        if replicas == self.replicas(topic, partition):
            return []
        return [self.reassignment_record(topic, partition, replicas)]

    def reassignment_record(self, topic: Topic, partition: int, replicas: list[int]) -> Any:
        return new_record(
            MetadataRecordType.PARTITION_CHANGE,
            partition_id=partition,
            topic_id=topic.topic_id,
            isr=replicas,
            leader=replicas[0],
            replicas=replicas,
            directories=[METADATA_TOPIC_ID] * len(replicas),
        )

    def delete_topic(self, topic: Topic) -> list[Any]:
        return [new_record(MetadataRecordType.REMOVE_TOPIC, topic_id=topic.topic_id)]

    def change_configs(self, name: str, changes: Mapping[str, str | None]) -> list[Any]:
        """Sets configurations of a topic, or removes those whose value is None. Raises ApiError."""
        check_topic_name(name)
        topic = self.topics.get(name)
        after: dict[str, str | None] = {**(topic.configs if topic is not None else {}), **changes}
        self.check_configs({key: value for key, value in after.items() if value is not None or key not in changes})
        if topic is None:  # errors come first, as in Kafka
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
        return self.config_records(name, changes)

    def allocate_producer_ids(self) -> list[Any]:
        """A block of ids, so that assigning an id does not always wait for the log."""
        return [
            new_record(
                MetadataRecordType.PRODUCER_IDS,
                broker_id=self.node_id,
                broker_epoch=self.broker_epoch,
                next_producer_id=self.next_producer_id + PRODUCER_ID_BLOCK,
            )
        ]

    def credential_record(self, user: str, mechanism: Mechanism, credential: Credential) -> Any:
        """A user's password for one mechanism, as it is stored: salted."""
        return new_record(
            MetadataRecordType.USER_SCRAM_CREDENTIAL,
            name=user,
            mechanism=mechanism,
            salt=credential.salt,
            stored_key=credential.stored_key,
            server_key=credential.server_key,
            iterations=credential.iterations,
        )

    def acl_record(self, acl_id: bytes, acl: Acl) -> Any:
        return new_record(
            MetadataRecordType.ACCESS_CONTROL_ENTRY,
            id=acl_id,
            resource_type=acl.resource_type,
            resource_name=acl.name,
            pattern_type=acl.pattern_type,
            principal=acl.principal,
            host=acl.host,
            operation=acl.operation,
            permission_type=acl.permission,
        )

    # -- replay

    def replay(self, record: Any) -> None:
        """Changes the state as the record says."""
        self.changes += 1
        if record.RECORD_TYPE in TOPIC_RECORDS:
            self.topics_version += 1
        match record.RECORD_TYPE:
            case MetadataRecordType.REGISTER_BROKER:
                self.broker_epoch = record.broker_epoch
            case MetadataRecordType.TOPIC:
                topic = Topic(record.name, record.topic_id)
                self.topics[topic.name] = self.by_id[topic.topic_id] = topic
                self.metric_names[metric_name(topic.name)] = topic.name
            case MetadataRecordType.PARTITION:
                topic = self.by_id[record.topic_id]
                before, topic.partitions = topic.partitions, max(topic.partitions, record.partition_id + 1)
                self.partitions_total += topic.partitions - before
                if record.partition_id == 0:  # for partitions that are added later, as in Kafka
                    topic.replication = max(1, len(record.replicas))
                self.assign(topic, record.partition_id, record.replicas)
            case MetadataRecordType.PARTITION_CHANGE:
                self.assign(self.by_id[record.topic_id], record.partition_id, record.replicas or [])
            case MetadataRecordType.CONFIG:
                self.replay_config(record)
            case MetadataRecordType.CLIENT_QUOTA:
                metadata_records.replay_quota(self.quotas, record)
            case MetadataRecordType.DELEGATION_TOKEN | MetadataRecordType.REMOVE_DELEGATION_TOKEN:
                metadata_records.replay_token(self.tokens, record)
            case MetadataRecordType.USER_SCRAM_CREDENTIAL:
                credential = Credential(record.salt, record.stored_key, record.server_key, record.iterations)
                self.credentials[record.name, Mechanism(record.mechanism)] = credential
            case MetadataRecordType.REMOVE_USER_SCRAM_CREDENTIAL:
                self.credentials.pop((record.name, Mechanism(record.mechanism)), None)
            case MetadataRecordType.ACCESS_CONTROL_ENTRY:
                self.acls.add(record.id, acl_of(record))
            case MetadataRecordType.REMOVE_ACCESS_CONTROL_ENTRY:
                self.acls.remove(record.id)
            case MetadataRecordType.FEATURE_LEVEL:
                self.features[record.name] = record.feature_level
            case MetadataRecordType.REMOVE_TOPIC:
                topic = self.by_id.pop(record.topic_id)
                del self.topics[topic.name]
                del self.metric_names[metric_name(topic.name)]
                self.partitions_total -= topic.partitions
            case MetadataRecordType.PRODUCER_IDS:
                self.next_producer_id = record.next_producer_id

    def assign(self, topic: Topic, partition: int, replicas: list[int]) -> None:
        """Stores a partition's nodes, if they differ from the default and all of them still exist."""
        usual = self.cluster.replicas(topic.topic_id, partition, topic.replication)
        topic.assignments.pop(partition, None)
        if replicas and replicas != usual and set(replicas) <= set(self.cluster.node_ids):
            topic.assignments[partition] = replicas

    def replay_config(self, record: Any) -> None:
        name = record.resource_name
        match record.resource_type:
            case ConfigResourceType.TOPIC:
                target = self.topics[name].configs
            case ConfigResourceType.GROUP:
                target = self.group_configs.setdefault(name, {})
            case _:
                target = self.broker_configs.setdefault(name, {})
        if record.value is None:
            target.pop(record.name, None)
        else:
            target[record.name] = record.value

    def snapshot(self) -> Iterator[Any]:
        """Records that build this state from nothing."""
        yield new_record(
            MetadataRecordType.REGISTER_BROKER, broker_id=self.node_id, broker_epoch=self.broker_epoch, fenced=False
        )
        yield new_record(
            MetadataRecordType.PRODUCER_IDS,
            broker_id=self.node_id,
            broker_epoch=self.broker_epoch,
            next_producer_id=self.next_producer_id,
        )
        for name, level in self.features.items():
            if level != DEFAULT_LEVELS.get(name):
                yield new_record(MetadataRecordType.FEATURE_LEVEL, name=name, feature_level=level)
        for kind, all_configs in (
            (ConfigResourceType.BROKER, self.broker_configs),
            (ConfigResourceType.GROUP, self.group_configs),
        ):
            for resource, values in all_configs.items():
                yield from self.config_records(resource, values, kind)
        for (user, mechanism), credential in self.credentials.items():
            yield self.credential_record(user, mechanism, credential)
        yield from (self.acl_record(acl_id, acl) for acl_id, acl in self.acls.entries.items())
        yield from metadata_records.quota_records(self.quotas)
        yield from map(metadata_records.token_record, self.tokens.tokens.values())
        for topic in self.topics.values():
            yield new_record(MetadataRecordType.TOPIC, name=topic.name, topic_id=topic.topic_id)
            yield from self.config_records(topic.name, topic.configs)
            # The first partition determines the topic's replication, so reassigned partitions come after all others.
            yield from self.partition_records(topic.topic_id, range(topic.partitions), topic.replication)
            for number, replicas in topic.assignments.items():
                yield self.reassignment_record(topic, number, replicas)
