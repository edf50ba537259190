"""The cluster's metadata alone, without a broker: what it decides, what it refuses, and what any history leaves behind."""

import errno
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.broker import metadata as metadata_module
from headwater.broker.cluster import Cluster
from headwater.broker.metadata import METADATA_TOPIC, PRODUCER_ID_BLOCK, Metadata
from headwater.broker.metadata_records import (
    MetadataRecordType,
    decode_record,
    encode_record,
    new_record,
    quota_record,
    token_record,
    token_removal,
)
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.replay.decision import Decision, Runtime
from headwater.replay.deferred import Deferred
from headwater.security.acls import Acl, Operation, PatternType, Permission, ResourceType
from headwater.security.delegation_tokens import Token
from headwater.security.quotas import IP, USER, Entity, QuotaKey
from headwater.security.scram import Credential, Mechanism
from tests.replay.state_log import MemoryStateLog

NODES = 3


class Scene:
    """Metadata on a disk of its own."""

    def __init__(self) -> None:
        self.metadata = Metadata(Cluster(1, NODES), token_secret_key="secret")
        self.log: MemoryStateLog[Any] = MemoryStateLog()
        self.runtime: Runtime[Any] = Runtime(self.metadata, self.log)

    def create(self, name: str, partitions: int = 1, replication: int = 1, **configs: str) -> None:
        dotted: dict[str, str | None] = {key.replace("_", "."): value for key, value in configs.items()}
        self.runtime.apply(name, self.metadata.create_topic(name, id_of(name), partitions, dotted, replication))


def id_of(name: str, life: int = 0) -> bytes:
    return bytes([life]) + name.encode().ljust(15)


def everything_of(metadata: Metadata) -> dict[str, object]:
    """All that records say."""
    return {
        "topics": metadata.topics,
        "by id": metadata.by_id,
        "metric names": metadata.metric_names,
        "partitions": metadata.partitions_total,
        "producer ids": metadata.next_producer_id,
        "epoch": metadata.broker_epoch,
        "configs": {name: values for name, values in metadata.broker_configs.items() if values},
        "group configs": {name: values for name, values in metadata.group_configs.items() if values},
        "acls": metadata.acls.entries,
        "credentials": metadata.credentials,
        "features": metadata.features,
        "quotas": (metadata.quotas.entities, metadata.quotas.keys, metadata.quotas.connection_rates),
        "tokens": (metadata.tokens.tokens, metadata.tokens.ids),
    }


def replayed(records: Iterable[Any]) -> Metadata:
    """What a start makes of records that were on disk."""
    scene = Scene()
    for record in records:
        scene.metadata.replay(decode_record(encode_record(record)))
    return scene.metadata


def refusal(decide: Any, *args: Any) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        decide(*args)
    return caught.value.code


# -- a topic's life


def test_a_topic_is_there_at_once_and_its_creation_answered_when_it_is_on_disk() -> None:
    scene = Scene()
    records = scene.metadata.create_topic("t", id_of("t"), 2, {"retention.ms": "5"})
    assert scene.metadata.topics == {}
    answer = scene.runtime.carry_out("t", Decision(records, "created"))
    assert isinstance(answer, Deferred)
    assert not answer.done
    assert scene.metadata.find_topic("t") == (id_of("t"), 2)
    assert scene.metadata.topics["t"].configs == {"retention.ms": "5"}
    assert len(scene.log.appended) == 1  # one batch: it is there whole or not at all
    scene.log.sync()
    assert answer.answer == "created"


def test_partitions_are_added_and_the_topic_is_deleted_and_made_again() -> None:
    scene = Scene()
    scene.create("t", 1, 2)
    scene.runtime.apply("t", scene.metadata.add_partitions("t", 3))
    topic = scene.metadata.topics["t"]
    assert (topic.partitions, topic.replication, scene.metadata.partitions_total) == (3, 2, 3)
    assert len(scene.metadata.replicas(topic, 2)) == 2
    version = scene.metadata.topics_version
    scene.runtime.apply("t", scene.metadata.delete_topic(topic))
    assert everything_of(scene.metadata) == everything_of(Scene().metadata)
    assert scene.metadata.topics_version > version
    scene.create("t")
    assert scene.metadata.topics["t"].partitions == 1


def test_what_cannot_be_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_module, "PARTITIONS_MAX", 3)
    scene = Scene()
    scene.create("a.b", 2)
    before = everything_of(replayed(scene.log.records))
    create, add = scene.metadata.create_topic, scene.metadata.add_partitions
    for name, code in (
        ("a.b", ErrorCode.TOPIC_ALREADY_EXISTS),
        ("a_b", ErrorCode.INVALID_TOPIC_EXCEPTION),  # its metrics would have the same name
        ("..", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("x" * 250, ErrorCode.INVALID_TOPIC_EXCEPTION),
        (METADATA_TOPIC, ErrorCode.TOPIC_AUTHORIZATION_FAILED),
    ):
        assert refusal(create, name, id_of("x"), 1, {}) is code
    assert refusal(create, "x", id_of("x"), 0, {}) is ErrorCode.INVALID_PARTITIONS
    assert refusal(create, "x", id_of("x"), 2, {}) is ErrorCode.INVALID_PARTITIONS
    assert refusal(create, "x", id_of("x"), 1, {"retention.ms": "much"}) is ErrorCode.INVALID_CONFIG
    for count in (1, 2, 4):
        assert refusal(add, "a.b", count) is ErrorCode.INVALID_PARTITIONS
    assert refusal(add, "x", 1) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert refusal(scene.metadata.change_configs, "x", {}) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert refusal(scene.metadata.change_configs, "a.b", {"no.such": "1"}) is ErrorCode.INVALID_CONFIG
    assert everything_of(scene.metadata) == before


def test_producer_ids_are_never_assigned_twice() -> None:
    scene = Scene()
    for n in range(3):
        assert scene.metadata.next_producer_id == n * PRODUCER_ID_BLOCK
        scene.runtime.apply("", scene.metadata.allocate_producer_ids())
    assert replayed(scene.log.records).next_producer_id == replayed(scene.metadata.snapshot()).next_producer_id == 3_000


def test_an_append_that_fails_changes_nothing_and_may_be_tried_again() -> None:
    scene = Scene()
    scene.create("t")
    before = everything_of(replayed(scene.log.records))
    metadata, topic = scene.metadata, scene.metadata.topics["t"]
    decisions = [
        metadata.create_topic("u", id_of("u"), 2, {}),
        metadata.add_partitions("t", 2),
        metadata.reassign(topic, 0, [3, 1]),
        metadata.change_configs("t", {"retention.ms": "5"}),
        metadata.allocate_producer_ids(),
        metadata.register_broker(bytes(16)),
        metadata.delete_topic(topic),
    ]
    for records in decisions:
        scene.log.error = OSError(errno.ENOSPC, "the disk is full")
        with pytest.raises(OSError, match="the disk is full"):
            scene.runtime.apply("", records)
        assert everything_of(metadata) == before
        scene.log.error = None
        scene.runtime.apply("", records)
        assert everything_of(metadata) != before
        before = everything_of(replayed(scene.log.records))


def test_a_partition_that_is_assigned_by_hand_stays_with_its_nodes() -> None:
    scene = Scene()
    scene.create("t", 2, 3)
    topic = scene.metadata.topics["t"]
    usual = scene.metadata.replicas(topic, 1)
    scene.runtime.apply("t", scene.metadata.reassign(topic, 1, usual[::-1]))
    for metadata in (scene.metadata, replayed(scene.log.records), replayed(scene.metadata.snapshot())):
        topic = metadata.topics["t"]
        assert (metadata.replicas(topic, 1), metadata.leader(topic, 1)) == (usual[::-1], usual[-1])
    assert scene.metadata.reassign(scene.metadata.topics["t"], 1, usual[::-1]) == []


def test_a_first_partition_with_fewer_nodes_leaves_the_topics_replication_as_it_is() -> None:
    """Also when the log has been written again from a snapshot."""
    scene = Scene()
    scene.create("t", 1, 3)
    scene.runtime.apply("t", scene.metadata.reassign(scene.metadata.topics["t"], 0, [2]))
    for metadata in (scene.metadata, replayed(scene.log.records), replayed(scene.metadata.snapshot())):
        topic = metadata.topics["t"]
        assert (metadata.replicas(topic, 0), topic.replication) == ([2], 3)


# -- any history


class Step(NamedTuple):
    """What is changed, of what, and to what."""

    what: str
    name: str
    number: int


KINDS = [
    "create",
    "create",
    "add",
    "reassign",
    "config",
    "delete",
    "register",
    "ids",
    "other",
    "user",
    "acl",
    "feature",
    "quota",
    "token",
]
steps = st.lists(
    st.builds(Step, st.sampled_from([*KINDS, "fail"]), st.sampled_from(["a", "a.b", "a_b", "c"]), st.integers(0, 3)),
    max_size=40,
)
ACL = Acl(ResourceType.TOPIC, "t", PatternType.LITERAL, "User:u", "*", Operation.READ, Permission.ALLOW)


def decision(metadata: Metadata, step: Step, life: int) -> list[Any]:
    """The records of a step. Raises ApiError."""
    what, name, number = step
    topic = metadata.topics.get(name)
    match what:
        case "create":
            # Of replicas by hand only the first partitions have some.
            by_hand = {0: [2, 1]} if number == 3 else None
            return metadata.create_topic(
                name, id_of(name, life), number, {"retention.ms": str(number)}, number, by_hand
            )
        case "add":
            return metadata.add_partitions(name, number + 1)
        case "reassign" if topic is not None:
            return metadata.reassign(topic, topic.partitions - 1, [[1], [2, 3], [3, 1, 2], [2]][number])
        case "config":
            return metadata.change_configs(name, {"retention.ms": str(number) if number else None})
        case "delete" if topic is not None:
            return metadata.delete_topic(topic)
        case "register":
            return metadata.register_broker(bytes(16))
        case "ids":
            return metadata.allocate_producer_ids()
        case "other":
            kind = ConfigResourceType.GROUP if number % 2 else ConfigResourceType.BROKER
            return metadata.config_records(name, {"x": str(number) if number > 1 else None}, kind)
        case "user":
            mechanism = Mechanism(1 + number % 2)
            if number > 1:
                credential = Credential(b"s%d" % number, b"k", b"e", 4096 + number)
                return [metadata.credential_record(name, mechanism, credential)]
            removal = MetadataRecordType.REMOVE_USER_SCRAM_CREDENTIAL
            return [new_record(removal, name=name, mechanism=mechanism)]
        case "acl":
            acl_id = id_of(name)
            if acl_id in metadata.acls.entries:
                return [new_record(MetadataRecordType.REMOVE_ACCESS_CONTROL_ENTRY, id=acl_id)]
            return [metadata.acl_record(acl_id, ACL._replace(name=f"t{number}"))]
        case "quota":
            entity: Entity = ((USER, name),) if number % 2 else ((IP, "10.0.0.1" if name == "a" else None),)
            key = QuotaKey.PRODUCER_BYTES if number % 2 else QuotaKey.CONNECTIONS
            return [quota_record(entity, key, float(number) if number > 1 else None)]
        case "token":
            token = Token(name, f"User:{name}", "User:u", ("User:v",) * number, number, 9, 5 + number)
            return [token_record(token) if number else token_removal(token)]
        case "feature":
            level = MetadataRecordType.FEATURE_LEVEL
            return [new_record(level, name="transaction.version", feature_level=number % 3)]
    return []


def check(scene: Scene) -> None:
    metadata = scene.metadata
    assert everything_of(replayed(scene.log.records)) == everything_of(metadata)
    assert everything_of(replayed(metadata.snapshot())) == everything_of(metadata)
    topics = metadata.topics.values()
    assert metadata.by_id == {topic.topic_id: topic for topic in topics}
    assert metadata.partitions_total == sum(topic.partitions for topic in topics)
    assert metadata.metric_names.keys() == {topic.name.replace(".", "_") for topic in topics}
    assert len(metadata.metric_names) == len(metadata.topics)
    for topic in topics:
        for number in range(topic.partitions):
            replicas = metadata.replicas(topic, number)
            assert replicas
            assert len(set(replicas)) == len(replicas)


@settings(max_examples=100)
@given(steps)
def test_any_history_leaves_what_its_records_and_its_snapshot_make(script: list[Step]) -> None:
    scene = Scene()
    for life, step in enumerate(script):
        if step.what == "fail":
            scene.log.error = None if scene.log.error else OSError(errno.ENOSPC, "the disk is full")
            continue
        try:
            scene.runtime.apply(step.name, decision(scene.metadata, step, life))
        except ApiError:
            pass
        except OSError:
            assert scene.log.error is not None
    check(scene)
