"""`hw.Admin`: the topics, groups, configurations and nodes of a broker or cluster, blocking and async."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, get_args

from confluent_kafka import ConsumerGroupTopicPartitions, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from headwater.client.admin_calls import AdminCalls
from headwater.client.backoff import Backoff
from headwater.client.descriptions import (
    ClusterDescription,
    ConfigValue,
    GroupDescription,
    GroupListing,
    Node,
    PartitionDescription,
    ResourceKind,
    TopicDescription,
    TopicDetails,
)
from headwater.client.errors import ClientError, ConfigurationError, TopicExistsError, UnknownTopicError, client_error
from headwater.client.names import checked_text, checked_topic, checked_value
from headwater.client.positions import Partition
from headwater.client.threads import in_thread
from headwater.effects.entropy import SystemEntropy

Result = TypeVar("Result")
PASSING = frozenset({"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"})
RESOURCES = {
    "topic": ConfigResource.Type.TOPIC,
    "broker": ConfigResource.Type.BROKER,
    "group": ConfigResource.Type.GROUP,
}


def resource(kind: ResourceKind, name: str) -> ConfigResource:
    """Raises ConfigurationError, of which InvalidNameError is one."""
    if kind not in get_args(ResourceKind):
        raise ConfigurationError(f"kind is {kind!r}; give one of {', '.join(get_args(ResourceKind))}")
    return ConfigResource(RESOURCES[kind], checked_text(f"the {kind}", name))


def state_name(state: Any) -> str:
    """Kafka's spelling of a group's state: PreparingRebalance."""
    return "".join(word.capitalize() for word in state.name.split("_"))


class Admin(AdminCalls):
    """Administers a broker: `hw.Broker`, or an address of Headwater or Kafka.

    Every method may raise ClientError: after `timeout_ms` at the latest, or with `fail_fast` as soon as no broker can
    be reached.
    """

    # -- the cluster

    def cluster(self) -> ClusterDescription:
        """The cluster's id, controller and nodes."""
        found = self.call(AdminClient.describe_cluster, "describing the cluster")
        nodes = {node.id: Node(node.id, node.host, node.port, node.rack) for node in found.nodes}
        return ClusterDescription(found.cluster_id or "", node_id(found.controller), nodes)

    # -- topics

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        replicas: int = -1,
        configs: Mapping[str, object] | None = None,
        exist_ok: bool = False,
    ) -> None:
        """With -1, the broker's default is used. Raises TopicExistsError unless `exist_ok`."""
        texts = {
            checked_text("the name of a configuration", key): checked_value(key, str(value))
            for key, value in (configs or {}).items()
        }
        checked_topic(name)
        try:
            self.call(
                lambda raw: raw.create_topics([NewTopic(name, partitions, replicas, config=texts)]),
                f"creating topic {name}",
            )
        except TopicExistsError:
            if not exist_ok:
                raise

    def delete_topic(self, name: str, *, missing_ok: bool = False) -> None:
        """Raises UnknownTopicError unless `missing_ok`."""
        checked_text("the topic", name)
        try:
            self.call(lambda raw: raw.delete_topics([name]), f"deleting topic {name}")
        except UnknownTopicError:
            if not missing_ok:
                raise

    def add_partitions(self, name: str, partitions: int) -> None:
        """Grows a topic to so many partitions in all."""
        checked_text("the topic", name)
        self.call(lambda raw: raw.create_partitions([NewPartitions(name, partitions)]), f"adding partitions to {name}")

    def topics(self) -> dict[str, TopicDescription]:
        """All topics by name, including the broker's internal ones."""
        return {
            name: TopicDescription(
                name,
                len(topic.partitions),
                max((len(p.replicas) for p in topic.partitions.values()), default=0),
                name.startswith("__"),
            )
            for name, topic in self._metadata("listing topics").topics.items()
        }

    def describe_topic(self, name: str) -> TopicDetails:
        """A topic's id and partitions. Raises UnknownTopicError."""
        what = f"describing topic {checked_text('the topic', name)}"
        try:
            found = self.call(lambda raw: raw.describe_topics(TopicCollection([name])), what)[name]
        except UnknownTopicError as error:
            raise UnknownTopicError(f"topic {name} does not exist", error.code) from error
        partitions = [
            PartitionDescription(p.id, node_id(p.leader), node_ids(p.replicas), node_ids(p.isr))
            for p in found.partitions
        ]
        return TopicDetails(name, str(found.topic_id), partitions, bool(found.is_internal))

    # -- configurations

    def configs(self, name: str, *, kind: ResourceKind = "topic") -> dict[str, str | None]:
        """The configuration in force of a topic, broker or group, by name."""
        return {key: entry.value for key, entry in self.describe_configs(name, kind=kind).items()}

    def describe_configs(self, name: str, *, kind: ResourceKind = "topic") -> dict[str, ConfigValue]:
        """The configuration in force of a topic, broker or group, and where each value comes from."""
        wanted = resource(kind, name)
        found = self.call(lambda raw: raw.describe_configs([wanted]), f"describing {kind} {name}")[wanted]
        of_topic = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {
            key: ConfigValue(
                entry.value,
                is_default=bool(entry.is_default),
                # A value that a topic has from its broker is not its own.
                is_own=entry.source == of_topic if kind == "topic" else not entry.is_default,
                is_sensitive=bool(entry.is_sensitive),
                is_read_only=bool(entry.is_read_only),
            )
            for key, entry in found.items()
        }

    def set_configs(self, name: str, configs: Mapping[str, object | None], *, kind: ResourceKind = "topic") -> None:
        """Changes some of the configuration of a topic, broker or group; None puts one back to its default."""
        wanted = resource(kind, name)
        for key, value in configs.items():
            checked_text("the name of a configuration", key)
            operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            text = None if value is None else checked_value(key, str(value))
            wanted.add_incremental_config(ConfigEntry(key, text, incremental_operation=operation))
        if configs:
            self.call(lambda raw: raw.incremental_alter_configs([wanted]), f"configuring {kind} {name}")

    # -- records

    def start_offsets(self, topic: str) -> dict[Partition, int]:
        """The offset of the first record that each partition still has."""
        return self._list_offsets(topic, OffsetSpec.earliest())

    def end_offsets(self, topic: str) -> dict[Partition, int]:
        """The offset after the last record of each partition."""
        return self._list_offsets(topic, OffsetSpec.latest())

    def offsets_at(self, topic: str, moment: datetime) -> dict[Partition, int]:
        """The offset of the first record at or after a time in each partition, or its end if there is none."""
        if moment.tzinfo is None:
            raise ConfigurationError(f"{moment} has no time zone; use for example datetime.now(UTC)")
        found = self._list_offsets(topic, OffsetSpec.for_timestamp(int(moment.timestamp() * 1000)))
        if any(offset < 0 for offset in found.values()):
            ends = self.end_offsets(topic)
            found = {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}
        return found

    def _list_offsets(self, topic: str, spec: OffsetSpec) -> dict[Partition, int]:
        numbers = [found.partition for found in self.describe_topic(topic).partitions]
        what = f"asking for offsets of {topic}"
        found = self.call(lambda raw: raw.list_offsets({TopicPartition(topic, n): spec for n in numbers}), what)
        return {Partition(topic, place.partition): result.offset for place, result in found.items()}

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Deletes the records before an offset."""
        checked_text("the topic", topic)
        self.call(
            lambda raw: raw.delete_records([TopicPartition(topic, partition, before_offset)]),
            f"deleting records of {topic} [{partition}]",
        )

    # -- groups

    def groups(self) -> list[str]:
        """The ids of all consumer groups."""
        return [listing.group for listing in self.list_groups()]

    def list_groups(self) -> list[GroupListing]:
        """All consumer groups by id, with their states and types. Raises the first error of a node."""
        what = "listing groups"
        found = self.call(AdminClient.list_consumer_groups, what)
        for error in found.errors or ():
            raise client_error(error, what)
        return sorted(GroupListing(g.group_id, state_name(g.state), g.type.name.lower()) for g in found.valid)

    def describe_group(self, group: str) -> GroupDescription:
        """A group's state and members. A group that does not exist is Dead and has none."""
        what = f"describing group {checked_text('the group', group)}"
        found = self.call(lambda raw: raw.describe_consumer_groups([group]), what)[group]
        members = {
            member.member_id: [Partition(p.topic, p.partition) for p in member.assignment.topic_partitions]
            for member in found.members
        }
        hosts = {member.member_id: member.host for member in found.members}
        return GroupDescription(group, state_name(found.state), members, hosts)

    def committed(self, group: str) -> dict[Partition, int]:
        """A group's committed offsets."""
        what = f"asking for offsets of group {checked_text('the group', group)}"
        self._find_coordinator(group, what)
        request = [ConsumerGroupTopicPartitions(group)]
        found = self.call(lambda raw: raw.list_consumer_group_offsets(request), what)[group]
        return {Partition(p.topic, p.partition): p.offset for p in found.topic_partitions if p.offset >= 0}

    def _find_coordinator(self, group: str, what: str) -> None:
        """Returns when the group's coordinator has answered. Raises ClientError.

        librdkafka 2.16 ends the process if it asks for offsets and the answer is NOT_COORDINATOR (its issue 5040). Asked to
        describe the group, a broker gives the same answer, and librdkafka reports it. It passes: the coordinator is moving, or it
        starts with the first group of a cluster.
        """
        backoff, deadline_ms = Backoff(SystemEntropy()), self._clock.steady_ms() + self._timeout_s * 1000
        while True:
            try:
                self.call(lambda raw: raw.describe_consumer_groups([group]), what)
            except ClientError as error:
                if error.code == "GROUP_ID_NOT_FOUND":  # a group of KIP-848's protocol, which may have offsets, too
                    return
                pause_ms = backoff.record_failure()
                if error.code not in PASSING or self._clock.steady_ms() + pause_ms >= deadline_ms:
                    raise
                time.sleep(pause_ms / 1000)
            else:
                return

    def lag(self, group: str) -> dict[Partition, int]:
        """How many events a group has yet to handle, by partition. A partition that no longer exists is left out."""
        committed = self.committed(group)
        ends = self._ends_of(committed)
        return {p: max(0, ends[p] - offset) for p, offset in committed.items() if p in ends}

    def _ends_of(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        ends: dict[Partition, int] = {}
        for topic in {partition.topic for partition in partitions}:
            ends |= self.end_offsets(topic)
        return ends

    def set_committed(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Moves a group without members to other offsets."""
        what = f"moving group {checked_text('the group', group)}"
        if not offsets:
            return
        self.call(
            lambda raw: raw.alter_consumer_group_offsets(
                [
                    ConsumerGroupTopicPartitions(
                        group, [TopicPartition(p.topic, p.partition, n) for p, n in offsets.items()]
                    )
                ]
            ),
            what,
        )

    def delete_group(self, group: str) -> None:
        """Deletes a group without members, and its offsets."""
        what = f"deleting group {checked_text('the group', group)}"
        self.call(lambda raw: raw.delete_consumer_groups([group]), what)

    def __repr__(self) -> str:
        return f"<Admin of {self.address}>"

    # -- as a context manager

    def close(self) -> None:
        """Does nothing: calls are complete when they return."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> "AsyncAdmin":
        return AsyncAdmin(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncAdmin:
    """What `async with hw.Admin(...)` gives: every method of Admin, awaited."""

    def __init__(self, blocking: Admin) -> None:
        self._blocking = blocking

    async def _run(self, function: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(function)

    call = in_thread(Admin.call)
    cluster = in_thread(Admin.cluster)
    create_topic = in_thread(Admin.create_topic)
    delete_topic = in_thread(Admin.delete_topic)
    add_partitions = in_thread(Admin.add_partitions)
    topics = in_thread(Admin.topics)
    describe_topic = in_thread(Admin.describe_topic)
    configs = in_thread(Admin.configs)
    describe_configs = in_thread(Admin.describe_configs)
    set_configs = in_thread(Admin.set_configs)
    start_offsets = in_thread(Admin.start_offsets)
    offsets_at = in_thread(Admin.offsets_at)
    end_offsets = in_thread(Admin.end_offsets)
    delete_records = in_thread(Admin.delete_records)
    groups = in_thread(Admin.groups)
    list_groups = in_thread(Admin.list_groups)
    describe_group = in_thread(Admin.describe_group)
    committed = in_thread(Admin.committed)
    lag = in_thread(Admin.lag)
    set_committed = in_thread(Admin.set_committed)
    delete_group = in_thread(Admin.delete_group)


def node_id(node: Any) -> int | None:
    """librdkafka has -1 for a node that is not known."""
    return None if node is None or node.id < 0 else int(node.id)


def node_ids(nodes: Iterable[Any]) -> list[int]:
    return [int(node.id) for node in nodes]
