"""`hw.Admin`: topics, groups and configurations of a broker or cluster, blocking and async."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from headwater.client.connections import BrokerLike, Notes, Settings, made, merged
from headwater.client.errors import ClientError, TopicExistsError, UnknownTopicError, client_error
from headwater.client.positions import Partition
from headwater.client.threads import in_thread

Result = TypeVar("Result")
CALL_TIMEOUT_MS = 30_000.0


class TopicDescription(NamedTuple):
    """A topic: how many partitions and replicas it has."""

    name: str
    partitions: int
    replicas: int
    is_internal: bool


class GroupDescription(NamedTuple):
    """A consumer group: its state and its members with what they have."""

    group: str
    state: str
    members: dict[str, list[Partition]]


class Admin:
    """Administers a broker: `hw.Broker`, or an address of Headwater or Kafka. Every method raises ClientError, after `timeout_ms` at last."""

    def __init__(
        self, broker: BrokerLike, *, timeout_ms: float = CALL_TIMEOUT_MS, settings: Settings | None = None
    ) -> None:
        self.timeout_s = timeout_ms / 1000
        self.notes = Notes()
        own = merged(broker, {"client.id": "headwater"}, settings, self.notes)
        self.raw = made(AdminClient, own, "the admin client")

    def wait(self, futures: Mapping[Any, Any], what: str) -> None:
        for future in futures.values():
            self.result(future, what)

    def result(self, future: Any, what: str) -> Any:
        try:
            return future.result(self.timeout_s)
        except KafkaException as error:
            raise self.explained(error, what) from error

    def explained(self, error: KafkaException, what: str) -> ClientError:
        self.raw.poll(0)  # what librdkafka has to tell of the connection comes only so
        return client_error(self.notes.cause_of(error.args[0]), what)

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
        """Raises TopicExistsError unless `exist_ok`."""
        texts = {key: str(value) for key, value in (configs or {}).items()}
        futures = self.raw.create_topics([NewTopic(name, partitions, replicas, config=texts)])
        try:
            self.wait(futures, f"creating topic {name}")
        except TopicExistsError:
            if not exist_ok:
                raise

    def delete_topic(self, name: str, *, missing_ok: bool = False) -> None:
        """Raises UnknownTopicError unless `missing_ok`."""
        try:
            self.wait(self.raw.delete_topics([name]), f"deleting topic {name}")
        except UnknownTopicError:
            if not missing_ok:
                raise

    def add_partitions(self, name: str, partitions: int) -> None:
        """Grows a topic to so many partitions in all."""
        self.wait(self.raw.create_partitions([NewPartitions(name, partitions)]), f"adding partitions to {name}")

    def topics(self) -> dict[str, TopicDescription]:
        """All topics, by name; those of the broker itself included."""
        try:
            found = self.raw.list_topics(timeout=self.timeout_s).topics
        except KafkaException as error:
            raise self.explained(error, "listing topics") from error
        return {
            name: TopicDescription(
                name,
                len(topic.partitions),
                max((len(p.replicas) for p in topic.partitions.values()), default=0),
                name.startswith("__"),
            )
            for name, topic in found.items()
        }

    def configs(self, topic: str) -> dict[str, str | None]:
        """A topic's configuration as it holds, by name."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self.result(self.raw.describe_configs([resource])[resource], f"describing topic {topic}")
        return {name: entry.value for name, entry in found.items()}

    def set_configs(self, topic: str, configs: Mapping[str, object | None]) -> None:
        """Changes some of a topic's configuration; None puts one back to its default."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        for name, value in configs.items():
            operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            text = None if value is None else str(value)
            resource.add_incremental_config(ConfigEntry(name, text, incremental_operation=operation))
        self.wait(self.raw.incremental_alter_configs([resource]), f"configuring topic {topic}")

    def end_offsets(self, topic: str) -> dict[Partition, int]:
        """The offset behind the last record of each partition."""
        number = self.topics()[topic].partitions if topic in self.topics() else 0
        places = {TopicPartition(topic, n): OffsetSpec.latest() for n in range(number)}
        if not places:
            raise UnknownTopicError(f"topic {topic}")
        return {
            Partition(topic, place.partition): self.result(future, f"asking for the end of {topic}").offset
            for place, future in self.raw.list_offsets(places).items()
        }

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Deletes what is before an offset."""
        place = TopicPartition(topic, partition, before_offset)
        self.wait(self.raw.delete_records([place]), f"deleting records of {topic} [{partition}]")

    # -- groups

    def groups(self) -> list[str]:
        """The ids of all consumer groups."""
        found = self.result(self.raw.list_consumer_groups(), "listing groups")
        return sorted(group.group_id for group in found.valid)

    def describe_group(self, group: str) -> GroupDescription:
        found = self.result(self.raw.describe_consumer_groups([group])[group], f"describing group {group}")
        members = {
            member.member_id: [Partition(p.topic, p.partition) for p in member.assignment.topic_partitions]
            for member in found.members
        }
        return GroupDescription(group, found.state.name, members)

    def committed(self, group: str) -> dict[Partition, int]:
        """A group's committed offsets."""
        request = [ConsumerGroupTopicPartitions(group)]
        found = self.result(self.raw.list_consumer_group_offsets(request)[group], f"asking for offsets of {group}")
        return {Partition(p.topic, p.partition): p.offset for p in found.topic_partitions if p.offset >= 0}

    def lag(self, group: str) -> dict[Partition, int]:
        """How many events a group has yet to handle, by partition."""
        committed = self.committed(group)
        ends: dict[Partition, int] = {}
        for topic in {partition.topic for partition in committed}:
            ends |= self.end_offsets(topic)
        return {partition: max(0, ends[partition] - offset) for partition, offset in committed.items()}

    def set_committed(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Moves a group without members to other offsets."""
        places = [TopicPartition(p.topic, p.partition, offset) for p, offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(group, places)]
        self.wait(self.raw.alter_consumer_group_offsets(request), f"moving group {group}")

    def delete_group(self, group: str) -> None:
        """Deletes a group without members, and its offsets."""
        self.wait(self.raw.delete_consumer_groups([group]), f"deleting group {group}")

    # -- as a context manager

    def close(self) -> None:
        """Nothing to wait for: calls are done when they return."""

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
        self.blocking = blocking

    async def run(self, function: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(function)

    create_topic = in_thread(Admin.create_topic)
    delete_topic = in_thread(Admin.delete_topic)
    add_partitions = in_thread(Admin.add_partitions)
    topics = in_thread(Admin.topics)
    configs = in_thread(Admin.configs)
    set_configs = in_thread(Admin.set_configs)
    end_offsets = in_thread(Admin.end_offsets)
    delete_records = in_thread(Admin.delete_records)
    groups = in_thread(Admin.groups)
    describe_group = in_thread(Admin.describe_group)
    committed = in_thread(Admin.committed)
    lag = in_thread(Admin.lag)
    set_committed = in_thread(Admin.set_committed)
    delete_group = in_thread(Admin.delete_group)
