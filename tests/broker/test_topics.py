"""Topics and their configurations: created, found, changed, described, deleted, and still so after a restart."""

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_configs import AlterConfigsRequest
from headwater.protocol.messages.create_partitions import CreatePartitionsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from tests.broker.harness import Harness

Creatable = CreateTopicsRequest.CreatableTopic
Config = CreateTopicsRequest.CreatableTopicConfig
Alterable = IncrementalAlterConfigsRequest.AlterableConfig


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Creatable("", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (Creatable("a/b", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (Creatable("..", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (Creatable("x" * 250, 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (Creatable("x", 0, 1), ErrorCode.INVALID_PARTITIONS),
        (Creatable("x", 10_001, 1), ErrorCode.POLICY_VIOLATION),
        (Creatable("x", 1, 3), ErrorCode.INVALID_REPLICATION_FACTOR),
        (Creatable("x", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (Creatable("x", 1, 1, configs=[Config("nope", "1")]), ErrorCode.INVALID_CONFIG),
        (Creatable("x", 1, 1, configs=[Config("retention.ms", "soon")]), ErrorCode.INVALID_CONFIG),
        (Creatable("x", 1, 1, configs=[Config("cleanup.policy", "burn")]), ErrorCode.INVALID_CONFIG),
        (Creatable("x", 1, 1, configs=[Config("segment.bytes", "5")]), ErrorCode.INVALID_CONFIG),
        (Creatable("x", 1, 1, configs=[Config("retention.ms", None)]), ErrorCode.INVALID_CONFIG),
        (Creatable("taken", 1, 1), ErrorCode.TOPIC_ALREADY_EXISTS),
        (Creatable("ta.ken", 1, 1), ErrorCode.NONE),
        (Creatable("dotted_name", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
def test_what_may_be_created(wanted: Creatable, error: ErrorCode) -> None:
    broker = Harness()
    broker.create_topic("taken")
    broker.create_topic("dotted.name")
    answer = broker.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted])).topics[0]
    assert answer.error_code == error, answer
    assert (answer.error_message is None) == (error is ErrorCode.NONE)


def test_a_topic_is_auto_created_or_not() -> None:
    for allowed, error in ((True, 0), (False, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)):
        broker = Harness(pairs={"auto.create.topics.enable": str(allowed).lower(), "num.partitions": 4})
        wanted = [MetadataRequest.MetadataRequestTopic(name="new")]
        answer = broker.call(ApiKey.METADATA, 9, MetadataRequest(wanted)).topics[0]
        assert answer.error_code == error
        assert len(answer.partitions) == (4 if allowed else 0)


def test_validate_only_changes_nothing() -> None:
    broker = Harness()
    request = CreateTopicsRequest([Creatable("t", 2, 1)], validate_only=True)
    assert broker.call(ApiKey.CREATE_TOPICS, 7, request).topics[0].num_partitions == 2
    assert broker.core.metadata.topics == {}


@pytest.mark.parametrize("clean", [True, False])
def test_topics_survive_restarts(clean: bool) -> None:
    broker = Harness()
    broker.create_topic("a", 2, retention_ms="1000")
    broker.create_topic("b")
    broker.produce("b", b"old")
    request = CreatePartitionsRequest([CreatePartitionsRequest.CreatePartitionsTopic("a", 5, None)])
    assert broker.call(ApiKey.CREATE_PARTITIONS, 3, request).results[0].error_code == 0
    broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["b"]))
    broker.create_topic("b")
    topic_id = broker.core.metadata.topics["b"].topic_id
    broker.restart() if clean else broker.kill()
    assert broker.core.metadata.topics["a"].partitions == 5
    assert broker.core.metadata.topics["a"].configs == {"retention.ms": "1000"}
    assert broker.core.metadata.topics["b"].topic_id == topic_id
    assert broker.read_all("b") == []


@pytest.mark.parametrize("name", ["__consumer_offsets", "__transaction_state"])
def test_topics_of_the_coordinators_are_neither_deleted_nor_repartitioned(name: str) -> None:
    broker = Harness()
    broker.create_topic(name, 3)
    more = CreatePartitionsRequest([CreatePartitionsRequest.CreatePartitionsTopic(name, 5, None)])
    assert broker.call(ApiKey.CREATE_PARTITIONS, 3, more).results[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    answer = broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]))
    assert answer.responses[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert broker.core.metadata.topics[name].partitions == 3


def described(broker: Harness, kind: int, name: str) -> dict[str, tuple[str | None, int]]:
    resource = DescribeConfigsRequest.DescribeConfigsResource(kind, name, None)
    answer = broker.call(ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([resource], True))
    assert answer.results[0].error_code == 0
    return {entry.name: (entry.value, entry.config_source) for entry in answer.results[0].configs}


def test_configurations_come_from_topic_broker_or_default() -> None:
    broker = Harness(pairs={"log.retention.hours": 2, "log.segment.bytes": 2_000_000})
    broker.create_topic("t", max_message_bytes="500")
    configs = described(broker, 2, "t")
    assert len(configs) == 37
    assert configs["max.message.bytes"] == ("500", 1)
    assert configs["retention.ms"] == ("7200000", 5)  # Kafka names a source for log.retention.ms alone
    assert configs["segment.bytes"] == ("2000000", 4)
    assert configs["cleanup.policy"] == ("delete", 5)
    own = described(broker, 4, "1")
    assert own["log.retention.hours"] == ("2", 4)
    assert own["num.partitions"] == ("1", 5)


def alter(broker: Harness, *changes: Alterable) -> int:
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(2, "t", list(changes))
    answer = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest([resource]))
    return int(answer.responses[0].error_code)


def test_incremental_changes() -> None:
    broker = Harness()
    broker.create_topic("t")
    assert alter(broker, Alterable("cleanup.policy", 2, "compact"), Alterable("retention.ms", 0, "7")) == 0
    assert broker.core.metadata.topics["t"].configs == {"cleanup.policy": "delete,compact", "retention.ms": "7"}
    assert alter(broker, Alterable("cleanup.policy", 3, "delete"), Alterable("retention.ms", 1, None)) == 0
    assert broker.core.metadata.topics["t"].configs == {"cleanup.policy": "compact"}
    assert alter(broker, Alterable("retention.ms", 2, "7")) == ErrorCode.INVALID_CONFIG
    assert alter(broker, Alterable("retention.ms", 9, "7")) == ErrorCode.INVALID_REQUEST
    assert alter(broker, Alterable("no.such", 0, "7")) == ErrorCode.INVALID_CONFIG
    broker.kill()
    assert broker.core.metadata.topics["t"].configs == {"cleanup.policy": "compact"}


def test_a_change_reaches_open_logs() -> None:
    broker = Harness()
    broker.create_topic("t")
    assert broker.produce("t", bytes(1000)).error_code == 0
    assert alter(broker, Alterable("max.message.bytes", 0, "100")) == 0
    assert broker.produce("t", bytes(1000)).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_alter_configs_replaces_all() -> None:
    broker = Harness()
    broker.create_topic("t", retention_ms="5", max_message_bytes="500")
    resource = AlterConfigsRequest.AlterConfigsResource(
        2, "t", [AlterConfigsRequest.AlterableConfig("segment.ms", "9")]
    )
    assert broker.call(ApiKey.ALTER_CONFIGS, 2, AlterConfigsRequest([resource])).responses[0].error_code == 0
    assert broker.core.metadata.topics["t"].configs == {"segment.ms": "9"}
    broker_resource = AlterConfigsRequest.AlterConfigsResource(
        4, "1", [AlterConfigsRequest.AlterableConfig("node.id", "9")]
    )
    answer = broker.call(ApiKey.ALTER_CONFIGS, 2, AlterConfigsRequest([broker_resource])).responses[0]
    assert answer.error_code == ErrorCode.INVALID_REQUEST


def test_topic_partitions_come_page_by_page() -> None:
    broker = Harness()
    for name in "abc":
        broker.create_topic(name, 5)
    seen, cursor = [], None
    for _ in range(10):
        request = DescribeTopicPartitionsRequest([], 4, cursor)
        answer = broker.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, request)
        page = [(topic.name, p.partition_index) for topic in answer.topics for p in topic.partitions]
        assert len(page) <= 4
        seen += page
        if answer.next_cursor is None:
            break
        cursor = DescribeTopicPartitionsRequest.Cursor(
            answer.next_cursor.topic_name, answer.next_cursor.partition_index
        )
    assert seen == [(name, n) for name in "abc" for n in range(5)]


def list_offset(broker: Harness, timestamp: int, version: int = 11) -> tuple[int, int, int]:
    wanted = ListOffsetsRequest.ListOffsetsPartition(0, -1, timestamp)
    request = ListOffsetsRequest(-1, 0, [ListOffsetsRequest.ListOffsetsTopic("t", [wanted])])
    answer = broker.call(ApiKey.LIST_OFFSETS, version, request).topics[0].partitions[0]
    return answer.error_code, answer.timestamp, answer.offset


def test_offsets_by_time_and_deleted_records() -> None:
    broker = Harness()
    broker.create_topic("t")
    start = broker.clock.wall_ms()
    for _ in range(5):
        broker.produce("t", b"v")
        broker.clock.advance(1000)
    assert list_offset(broker, -1) == (0, -1, 5)
    assert list_offset(broker, -2) == (0, -1, 0)
    assert list_offset(broker, -3) == (0, start + 4000, 4)
    assert list_offset(broker, start + 1500) == (0, start + 2000, 2)
    assert list_offset(broker, start + 9000) == (0, -1, -1)
    assert list_offset(broker, -3, version=6)[0] == ErrorCode.UNSUPPORTED_VERSION
    partition = DeleteRecordsRequest.DeleteRecordsPartition(0, 3)
    request = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic("t", [partition])])
    assert broker.call(ApiKey.DELETE_RECORDS, 2, request).topics[0].partitions[0].low_watermark == 3
    assert list_offset(broker, -2) == (0, -1, 3)
    assert list_offset(broker, start) == (0, start + 3000, 3)
    broker.kill()
    assert list_offset(broker, -2) == (0, -1, 3)
    assert broker.fetch("t", 2).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_producer_ids_are_never_given_twice() -> None:
    broker = Harness()
    seen = set()
    for n in range(2500):
        if n % 700 == 0:
            broker.kill()
        answer = broker.call(ApiKey.INIT_PRODUCER_ID, 4, InitProducerIdRequest(None, 1000))
        assert answer.producer_epoch == 0
        assert answer.producer_id not in seen
        seen.add(answer.producer_id)
    answer = broker.call(ApiKey.INIT_PRODUCER_ID, 4, InitProducerIdRequest("mine", 1000))
    assert answer.producer_id not in seen


def test_many_changes_do_not_make_restarts_slow() -> None:
    broker = Harness()
    broker.create_topic("keep", 3, retention_ms="77")
    broker.produce("keep", b"v")
    for _ in range(1800):
        broker.create_topic("temporary", 1)
        broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["temporary"]))
    before = broker.core.metadata_log.log.end_offset
    next_id = broker.core.metadata.next_producer_id
    broker.core.shorten_state_logs()
    broker.sync()
    broker.core.store.checkpoint()
    assert broker.core.metadata_log.log.start_offset == before
    broker.kill()
    assert broker.core.metadata.topics.keys() == {"keep"}
    assert broker.core.metadata.topics["keep"].partitions == 3
    assert broker.core.metadata.topics["keep"].configs == {"retention.ms": "77"}
    assert broker.core.metadata.next_producer_id == next_id
    assert [r.value for r in broker.read_all("keep")] == [b"v"]
