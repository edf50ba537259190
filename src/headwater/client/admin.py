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
from headwater.client.errors import (
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    TopicExistsError,
    UnknownTopicError,
    client_error,
)
from headwater.client.names import checked_text, checked_timeout_ms, checked_topic, checked_value
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
        self.timeout_s = checked_timeout_ms(timeout_ms) / 1000
        self.notes = Notes()
        own = merged(broker, {"client.id": "headwater"}, settings, self.notes)
        self.address = own["bootstrap.servers"]
        self.raw = made(AdminClient, own, "the admin client", self.notes)

    def wait(self, futures: Mapping[Any, Any], what: str) -> None:
        for future in futures.values():
            self.result(future, what)

    def result(self, future: Any, what: str) -> Any:
        try:
            return future.result(self.timeout_s)
        except KafkaException as error:
            raise self.explained(error, what) from error
        except TimeoutError as error:
            text = f"{what}: no answer from {self.address} after {self.timeout_s:g} s"
            raise self.late(text) from error
        except ValueError as error:
            raise ConfigurationError(f"{what}: {error}") from error

    def late(self, text: str) -> ClientError:
        self.raw.poll(0)
        refusal = self.notes.refusal
        return ClientTimeoutError(text) if refusal is None else client_error(refusal, text)

    def asked(self, ask: Callable[[], Result], what: str) -> Result:
        """Sends a request; librdkafka's binding refuses some arguments at once. Raises ClientError."""
        try:
            return ask()
        except KafkaException as error:
            raise self.explained(error, what) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigurationError(f"{what}: {error}") from error

    def explained(self, error: KafkaException, what: str) -> ClientError:
        self.raw.poll(0)  # librdkafka reports errors of the connection only here
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
        texts = {
            checked_text("the name of a configuration", key): checked_value(key, str(value))
            for key, value in (configs or {}).items()
        }
        checked_topic(name)
        what = f"creating topic {name}"
        new = self.asked(lambda: NewTopic(name, partitions, replicas, config=texts), what)
        futures = self.asked(lambda: self.raw.create_topics([new]), what)
        try:
            self.wait(futures, what)
        except TopicExistsError:
            if not exist_ok:
                raise

    def delete_topic(self, name: str, *, missing_ok: bool = False) -> None:
        """Raises UnknownTopicError unless `missing_ok`."""
        checked_text("the topic", name)
        what = f"deleting topic {name}"
        try:
            self.wait(self.asked(lambda: self.raw.delete_topics([name]), what), what)
        except UnknownTopicError:
            if not missing_ok:
                raise

    def add_partitions(self, name: str, partitions: int) -> None:
        """Grows a topic to so many partitions in all."""
        checked_text("the topic", name)
        what = f"adding partitions to {name}"
        futures = self.asked(lambda: self.raw.create_partitions([NewPartitions(name, partitions)]), what)
        self.wait(futures, what)

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
        what = f"describing topic {checked_text('the topic', topic)}"
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self.result(self.asked(lambda: self.raw.describe_configs([resource])[resource], what), what)
        return {name: entry.value for name, entry in found.items()}

    def set_configs(self, topic: str, configs: Mapping[str, object | None]) -> None:
        """Changes some of a topic's configuration; None puts one back to its default."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, checked_text("the topic", topic))
        what = f"configuring topic {topic}"
        for name, value in configs.items():
            checked_text("the name of a configuration", name)
            operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            text = None if value is None else checked_value(name, str(value))
            resource.add_incremental_config(ConfigEntry(name, text, incremental_operation=operation))
        if configs:
            self.wait(self.asked(lambda: self.raw.incremental_alter_configs([resource]), what), what)

    def end_offsets(self, topic: str) -> dict[Partition, int]:
        """The offset after the last record of each partition."""
        checked_text("the topic", topic)
        known = self.topics().get(topic)
        if known is None:
            raise UnknownTopicError(f"topic {topic} does not exist")
        places = {TopicPartition(topic, n): OffsetSpec.latest() for n in range(known.partitions)}
        return {
            Partition(topic, place.partition): self.result(future, f"asking for the end of {topic}").offset
            for place, future in self.asked(lambda: self.raw.list_offsets(places), f"asking for {topic}").items()
        }

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Deletes what is before an offset."""
        checked_text("the topic", topic)
        what = f"deleting records of {topic} [{partition}]"
        place = self.asked(lambda: TopicPartition(topic, partition, before_offset), what)
        self.wait(self.asked(lambda: self.raw.delete_records([place]), what), what)

    # -- groups

    def groups(self) -> list[str]:
        """The ids of all consumer groups."""
        found = self.result(self.asked(self.raw.list_consumer_groups, "listing groups"), "listing groups")
        return sorted(group.group_id for group in found.valid)

    def describe_group(self, group: str) -> GroupDescription:
        what = f"describing group {checked_text('the group', group)}"
        found = self.result(self.asked(lambda: self.raw.describe_consumer_groups([group])[group], what), what)
        members = {
            member.member_id: [Partition(p.topic, p.partition) for p in member.assignment.topic_partitions]
            for member in found.members
        }
        return GroupDescription(group, found.state.name, members)

    def committed(self, group: str) -> dict[Partition, int]:
        """A group's committed offsets."""
        what = f"asking for offsets of {checked_text('the group', group)}"
        request = [ConsumerGroupTopicPartitions(group)]
        found = self.result(self.asked(lambda: self.raw.list_consumer_group_offsets(request)[group], what), what)
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
        what = f"moving group {checked_text('the group', group)}"
        if not offsets:
            return
        places = self.asked(lambda: [TopicPartition(p.topic, p.partition, n) for p, n in offsets.items()], what)
        request = [ConsumerGroupTopicPartitions(group, places)]
        self.wait(self.asked(lambda: self.raw.alter_consumer_group_offsets(request), what), what)

    def delete_group(self, group: str) -> None:
        """Deletes a group without members, and its offsets."""
        what = f"deleting group {checked_text('the group', group)}"
        self.wait(self.asked(lambda: self.raw.delete_consumer_groups([group]), what), what)

    def __repr__(self) -> str:
        return f"<Admin of {self.address}>"

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
