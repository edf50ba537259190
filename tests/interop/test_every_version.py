"""Every advertised key and version: a request made by kafka-clients 4.4.0's own classes gets an answer that they parse."""

import base64
import json
import subprocess
import time
from typing import Any

from headwater.broker.dispatch import SERVED, advertised_versions
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.messages.alter_configs import AlterConfigsRequest
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.create_delegation_token import CreateDelegationTokenRequest
from headwater.protocol.messages.create_partitions import CreatePartitionsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.describe_cluster import DescribeClusterRequest
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.describe_delegation_token import DescribeDelegationTokenRequest
from headwater.protocol.messages.describe_groups import DescribeGroupsRequest
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from headwater.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from headwater.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_delete import OffsetDeleteRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest
from headwater.protocol.records import Record, build_batch
from headwater.protocol.schema import in_version
from tests.protocol.test_golden import camel
from tests.security.matrix import rows

from .servers import HeadwaterServer

TOPIC = "versions"


def json_value(root: Any, value: Any, type_: str, version: int) -> Any:
    if value is None:
        return None
    if hasattr(root, type_):
        return to_json(root, value, version)
    if type_ in ("bytes", "records"):
        return base64.b64encode(value).decode()
    if type_ == "uuid":
        return base64.urlsafe_b64encode(value).decode().rstrip("=")
    return value


def to_json(root: Any, message: Any, version: int) -> dict[str, Any]:
    """A message's JSON form, as Kafka's JsonConverters read it."""
    out = {}
    for field in message.SCHEMA:
        if not in_version(field, version):
            continue
        value = getattr(message, field.name)
        if field.tag >= 0 and value is None:
            continue
        if field.is_array and value is not None:
            out[camel(field.name)] = [json_value(root, item, field.element, version) for item in value]
        else:
            out[camel(field.name)] = json_value(root, value, field.type, version)
    return {json_name(root, key): value for key, value in out.items()}


def json_name(root: Any, key: str) -> str:
    return {"enable2Pc": "enable2Pc", "isKraftController": "isKRaftController"}.get(key, key)


def every_request(topic_id: bytes) -> dict[int, Any]:
    """A request with content for each key that is served; some are about things that do not exist."""
    return {row.key: row.body for row in reversed(rows())} | token_requests() | requests(topic_id)


def token_requests() -> dict[int, Any]:
    """They are refused on a connection without a login, so only the answers' shape is looked at."""
    owner = DescribeDelegationTokenRequest.DescribeDelegationTokenOwner("User", "alice")
    renewer = CreateDelegationTokenRequest.CreatableRenewers("User", "bob")
    return {
        ApiKey.CREATE_DELEGATION_TOKEN: CreateDelegationTokenRequest("User", "alice", [renewer], 60_000),
        ApiKey.RENEW_DELEGATION_TOKEN: RenewDelegationTokenRequest(b"hmac", 60_000),
        ApiKey.EXPIRE_DELEGATION_TOKEN: ExpireDelegationTokenRequest(b"hmac", 60_000),
        ApiKey.DESCRIBE_DELEGATION_TOKEN: DescribeDelegationTokenRequest([owner]),
    }


def requests(topic_id: bytes) -> dict[int, Any]:
    """A request with content for each key that can be answered without an error."""
    batch = bytes(build_batch([Record(b"k", b"v", (), int(time.time() * 1000))]))
    topic = CreateTopicsRequest.CreatableTopic("made", 1, 1)
    config = AlterConfigsRequest.AlterableConfig("retention.ms", "1000000")
    incremental = IncrementalAlterConfigsRequest.AlterableConfig("retention.ms", 0, "1000000")
    fetch_group = OffsetFetchRequest.OffsetFetchRequestGroup(
        "g", None, -1, [OffsetFetchRequest.OffsetFetchRequestTopics(topic_id, TOPIC, [0])]
    )
    commit = OffsetCommitRequest.OffsetCommitRequestTopic(
        topic_id, TOPIC, [OffsetCommitRequest.OffsetCommitRequestPartition(0, 1, -1, "m")]
    )
    return {
        ApiKey.PRODUCE: ProduceRequest(
            None,
            -1,
            1000,
            [ProduceRequest.TopicProduceData(topic_id, TOPIC, [ProduceRequest.PartitionProduceData(0, batch)])],
        ),
        ApiKey.FETCH: FetchRequest(
            max_wait_ms=10,
            topics=[FetchRequest.FetchTopic(topic_id, TOPIC, [FetchRequest.FetchPartition(0, -1, 0, -1, -1, 1 << 20)])],
        ),
        ApiKey.LIST_OFFSETS: ListOffsetsRequest(
            -1,
            0,
            [ListOffsetsRequest.ListOffsetsTopic(TOPIC, [ListOffsetsRequest.ListOffsetsPartition(0, -1, -1)])],
        ),
        ApiKey.METADATA: MetadataRequest([MetadataRequest.MetadataRequestTopic(name=TOPIC)]),
        ApiKey.OFFSET_COMMIT: OffsetCommitRequest("g", topics=[commit]),
        ApiKey.OFFSET_FETCH: OffsetFetchRequest(
            [fetch_group], "g", [OffsetFetchRequest.OffsetFetchRequestTopic(TOPIC, [0])]
        ),
        ApiKey.FIND_COORDINATOR: FindCoordinatorRequest("g", 0, ["g", "h"]),
        ApiKey.JOIN_GROUP: JoinGroupRequest(
            "joined", 10_000, 100, "", None, "consumer", [JoinGroupRequest.JoinGroupRequestProtocol("range", b"x")]
        ),
        ApiKey.HEARTBEAT: HeartbeatRequest("g", 1, "m"),
        ApiKey.LEAVE_GROUP: LeaveGroupRequest("g", [LeaveGroupRequest.MemberIdentity("m")], "m"),
        ApiKey.SYNC_GROUP: SyncGroupRequest("g", 1, "m", None, "consumer", "range"),
        ApiKey.DESCRIBE_GROUPS: DescribeGroupsRequest(["g", "unknown"]),
        ApiKey.LIST_GROUPS: ListGroupsRequest(),
        ApiKey.API_VERSIONS: ApiVersionsRequest("check", "1.0"),
        ApiKey.CREATE_TOPICS: CreateTopicsRequest([topic], 1000),
        ApiKey.DELETE_TOPICS: DeleteTopicsRequest([DeleteTopicsRequest.DeleteTopicState("made")], ["made"], 1000),
        ApiKey.DELETE_RECORDS: DeleteRecordsRequest(
            [DeleteRecordsRequest.DeleteRecordsTopic(TOPIC, [DeleteRecordsRequest.DeleteRecordsPartition(0, 0)])], 1000
        ),
        ApiKey.INIT_PRODUCER_ID: InitProducerIdRequest(None, 1000),
        ApiKey.OFFSET_FOR_LEADER_EPOCH: OffsetForLeaderEpochRequest(
            -1,
            [
                OffsetForLeaderEpochRequest.OffsetForLeaderTopic(
                    TOPIC, [OffsetForLeaderEpochRequest.OffsetForLeaderPartition(0, -1, 0)]
                )
            ],
        ),
        ApiKey.DESCRIBE_CONFIGS: DescribeConfigsRequest(
            [
                DescribeConfigsRequest.DescribeConfigsResource(2, TOPIC, None),
                DescribeConfigsRequest.DescribeConfigsResource(4, "1", None),
            ],
            True,
            True,
        ),
        ApiKey.ALTER_CONFIGS: AlterConfigsRequest([AlterConfigsRequest.AlterConfigsResource(2, TOPIC, [config])]),
        ApiKey.DESCRIBE_LOG_DIRS: DescribeLogDirsRequest(None),
        ApiKey.CREATE_PARTITIONS: CreatePartitionsRequest(
            [CreatePartitionsRequest.CreatePartitionsTopic(TOPIC, 3, None)], 1000, True
        ),
        ApiKey.DELETE_GROUPS: DeleteGroupsRequest(["unknown"]),
        ApiKey.INCREMENTAL_ALTER_CONFIGS: IncrementalAlterConfigsRequest(
            [IncrementalAlterConfigsRequest.AlterConfigsResource(2, TOPIC, [incremental])]
        ),
        ApiKey.OFFSET_DELETE: OffsetDeleteRequest(
            "g",
            [
                OffsetDeleteRequest.OffsetDeleteRequestTopic(
                    TOPIC, [OffsetDeleteRequest.OffsetDeleteRequestPartition(1)]
                )
            ],
        ),
        ApiKey.DESCRIBE_CLUSTER: DescribeClusterRequest(True),
        ApiKey.SASL_HANDSHAKE: SaslHandshakeRequest("PLAIN"),
        ApiKey.SASL_AUTHENTICATE: SaslAuthenticateRequest(b"x"),
        ApiKey.LIST_TRANSACTIONS: ListTransactionsRequest(),
        ApiKey.DESCRIBE_TOPIC_PARTITIONS: DescribeTopicPartitionsRequest(
            [DescribeTopicPartitionsRequest.TopicRequest(TOPIC)]
        ),
    }


def errors_in(value: Any) -> list[int]:
    """Every error code in a response's JSON, at any depth."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k == "errorCode" and v]
        return own + [error for v in value.values() for error in errors_in(v)]
    if isinstance(value, list):
        return [error for v in value for error in errors_in(v)]
    return []


# What a request here cannot avoid: a member or group that does not exist, a new member's id, a topic that is there or not.
EXPECTED_ERRORS = {
    ApiKey.JOIN_GROUP: {79},
    ApiKey.SASL_HANDSHAKE: {34},
    ApiKey.SASL_AUTHENTICATE: {34},
    ApiKey.HEARTBEAT: {25},
    ApiKey.LEAVE_GROUP: {25},
    ApiKey.SYNC_GROUP: {25},
    ApiKey.DELETE_GROUPS: {69},
    ApiKey.DESCRIBE_GROUPS: {69},
    ApiKey.CREATE_TOPICS: {36},
    ApiKey.DELETE_TOPICS: {3},
}


def exchange(classpath: str, server: HeadwaterServer, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    program = ["java", "-Xmx256M", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classpath, "AnswerCheck"]
    result = subprocess.run(
        [*program, "127.0.0.1", str(server.port)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_key_and_version(clients_classpath: str, server: HeadwaterServer) -> None:
    create = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic(TOPIC, 2, 1)], 1000)
    made = exchange(
        clients_classpath, server, [{"key": 19, "version": 7, "json": to_json(CreateTopicsRequest, create, 7)}]
    )
    topic_id = base64.urlsafe_b64decode(made[0]["json"]["topics"][0]["topicId"] + "==")
    wanted = every_request(topic_id)
    answerable = requests(topic_id)
    assert set(wanted) == set(SERVED)
    lines: list[dict[str, Any]] = []
    for key, low, high in advertised_versions():
        for version in range(max(low, APIS[key].low), high + 1):
            message = wanted[key]
            lines.append({"key": int(key), "version": version, "json": to_json(type(message), message, version)})
    answers = exchange(clients_classpath, server, lines)
    assert len(answers) == len(lines)
    for line, answer in zip(lines, answers, strict=True):
        what = f"{APIS[line['key']].name} {line['version']}: {answer}"
        assert "error" not in answer, what
        if line["key"] in answerable:  # of the others the shape is what counts
            assert set(errors_in(answer["json"])) <= EXPECTED_ERRORS.get(line["key"], set()), what


def test_it_advertises_what_kafka_serves(clients_classpath: str, server: HeadwaterServer) -> None:
    request = {"key": 18, "version": 4, "json": {"clientSoftwareName": "a", "clientSoftwareVersion": "1"}}
    (answer,) = exchange(clients_classpath, server, [request])
    rows = {row["apiKey"]: (row["minVersion"], row["maxVersion"]) for row in answer["json"]["apiKeys"]}
    assert rows[0] == (0, 13)
    assert rows[1] == (4, 18)
    assert rows[11] == (0, 9)
    assert set(rows) == {int(key) for key in SERVED}
