"""A request of every API that has to be authorized: what it needs, and with which error it is refused.

The same table drives the broker's core here and, in tests/interop, a real Apache Kafka beside Headwater.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.records import TRANSACTIONAL, Record, build_batch
from headwater.security.acls import CLUSTER_NAME, Operation, ResourceType

TOPIC, GROUP, CLUSTER, TRANSACTION = (
    ResourceType.TOPIC,
    ResourceType.GROUP,
    ResourceType.CLUSTER,
    ResourceType.TRANSACTIONAL_ID,
)
REFUSALS = frozenset(
    {
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
Need = tuple[Operation, ResourceType, str]


class Row(NamedTuple):
    """One request. It is allowed with all of `needs`, and refused with `refusal` when the last of them is missing."""

    name: str
    key: ApiKey
    version: int
    body: Any
    needs: tuple[Need, ...]
    refusal: ErrorCode


def message(key: ApiKey) -> Any:
    return request_class(key)


def error_codes(answer: Any) -> Iterator[int]:
    """All that are anywhere in an answer."""
    if isinstance(answer, list):
        for element in answer:
            yield from error_codes(element)
    elif is_dataclass(answer):
        for field in fields(answer):
            value = getattr(answer, field.name)
            if field.name.endswith("error_code"):
                yield value
            else:
                yield from error_codes(value)


def refusals(answer: Any) -> set[int]:
    """The authorization errors that are anywhere in an answer."""
    return {code for code in error_codes(answer) if code in REFUSALS}


def on(kind: ResourceType, operation: Operation) -> Need:
    names = {TOPIC: "t", GROUP: "g", CLUSTER: CLUSTER_NAME, TRANSACTION: "tx"}
    return operation, kind, names[kind]


def batch(**more: Any) -> bytes:
    return bytes(build_batch([Record(b"k", b"v", (), 1_700_000_000_000)], **more))


def rows() -> list[Row]:
    """All of them; the topic `t` must exist."""
    made: list[Row] = []

    def row(key: ApiKey, version: int, body: Any, *needs: Need, name: str = "") -> None:
        kinds = {
            TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
            CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
            TRANSACTION: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        }
        made.append(Row(name or APIS[key].name, key, version, body, needs, kinds[needs[-1][1]]))

    topic_rows(row)
    group_rows(row)
    transaction_rows(row)
    cluster_rows(row)
    return made


def topic_rows(row: Any) -> None:
    op = Operation
    m = message(ApiKey.PRODUCE)
    data = m.TopicProduceData(name="t", partition_data=[m.PartitionProduceData(0, batch())])
    row(ApiKey.PRODUCE, 9, m(None, -1, 1000, [data]), on(TOPIC, op.WRITE))
    m = message(ApiKey.FETCH)
    wanted = m.FetchTopic(topic="t", partitions=[m.FetchPartition(0, partition_max_bytes=1000)])
    row(ApiKey.FETCH, 12, m(max_wait_ms=0, max_bytes=1000, session_epoch=-1, topics=[wanted]), on(TOPIC, op.READ))
    m = message(ApiKey.LIST_OFFSETS)
    wanted = m.ListOffsetsTopic("t", [m.ListOffsetsPartition(0, -1, -1)])
    row(ApiKey.LIST_OFFSETS, 7, m(-1, 0, [wanted]), on(TOPIC, op.DESCRIBE))
    m = message(ApiKey.METADATA)
    row(ApiKey.METADATA, 9, m([m.MetadataRequestTopic(name="t")], False), on(TOPIC, op.DESCRIBE))
    m = message(ApiKey.OFFSET_FOR_LEADER_EPOCH)
    wanted = m.OffsetForLeaderTopic("t", [m.OffsetForLeaderPartition(0, -1, 0)])
    row(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, m(-1, [wanted]), on(TOPIC, op.DESCRIBE))
    m = message(ApiKey.DESCRIBE_TOPIC_PARTITIONS)
    row(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, m([m.TopicRequest("t")]), on(TOPIC, op.DESCRIBE))
    m = message(ApiKey.CREATE_TOPICS)
    creation = m([m.CreatableTopic("t", 1, 1)], 1000, True)
    row(ApiKey.CREATE_TOPICS, 4, creation, on(TOPIC, op.CREATE))
    m = message(ApiKey.DELETE_TOPICS)
    row(ApiKey.DELETE_TOPICS, 5, m(topic_names=["t-of-another-name"]), (op.DELETE, TOPIC, "t-of-another-name"))
    m = message(ApiKey.DELETE_RECORDS)
    wanted = m.DeleteRecordsTopic("t", [m.DeleteRecordsPartition(0, 0)])
    row(ApiKey.DELETE_RECORDS, 2, m([wanted], 1000), on(TOPIC, op.DELETE))
    m = message(ApiKey.CREATE_PARTITIONS)
    row(ApiKey.CREATE_PARTITIONS, 3, m([m.CreatePartitionsTopic("t", 5, None)], 1000, True), on(TOPIC, op.ALTER))
    m = message(ApiKey.DESCRIBE_PRODUCERS)
    row(ApiKey.DESCRIBE_PRODUCERS, 0, m([m.TopicRequest("t", [0])]), on(TOPIC, op.READ))
    m = message(ApiKey.DESCRIBE_CONFIGS)
    resource = m.DescribeConfigsResource
    row(ApiKey.DESCRIBE_CONFIGS, 4, m([resource(2, "t", None)]), on(TOPIC, op.DESCRIBE_CONFIGS))
    row(ApiKey.DESCRIBE_CONFIGS, 4, m([resource(4, "1", None)]), on(CLUSTER, op.DESCRIBE_CONFIGS), name="of a broker")
    row(ApiKey.DESCRIBE_CONFIGS, 4, m([resource(32, "g", None)]), on(GROUP, op.DESCRIBE_CONFIGS), name="of a group")
    m = message(ApiKey.ALTER_CONFIGS)
    change = m.AlterConfigsResource(2, "t", [m.AlterableConfig("retention.ms", "5")])
    row(ApiKey.ALTER_CONFIGS, 2, m([change], True), on(TOPIC, op.ALTER_CONFIGS))
    m = message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    for kind, name, key, need in (
        (2, "t", "retention.ms", TOPIC),
        (4, "1", "log.retention.ms", CLUSTER),
        (32, "g", "consumer.session.timeout.ms", GROUP),
    ):
        change = m.AlterConfigsResource(kind, name, [m.AlterableConfig(key, 0, "50000")])
        row(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m([change], True), on(need, op.ALTER_CONFIGS), name=f"alter {name}")


def group_rows(row: Any) -> None:
    op = Operation
    m = message(ApiKey.FIND_COORDINATOR)
    row(ApiKey.FIND_COORDINATOR, 3, m("g", 0), on(GROUP, op.DESCRIBE))
    m = message(ApiKey.JOIN_GROUP)
    protocols = [m.JoinGroupRequestProtocol("p", b"")]
    row(ApiKey.JOIN_GROUP, 5, m("g", 10_000, 10_000, "", None, "consumer", protocols), on(GROUP, op.READ))
    row(ApiKey.SYNC_GROUP, 3, message(ApiKey.SYNC_GROUP)("g", 1, "m"), on(GROUP, op.READ))
    row(ApiKey.HEARTBEAT, 3, message(ApiKey.HEARTBEAT)("g", 1, "m"), on(GROUP, op.READ))
    m = message(ApiKey.LEAVE_GROUP)
    row(ApiKey.LEAVE_GROUP, 4, m("g", members=[m.MemberIdentity("m")]), on(GROUP, op.READ))
    row(ApiKey.DESCRIBE_GROUPS, 5, message(ApiKey.DESCRIBE_GROUPS)(["g"]), on(GROUP, op.DESCRIBE))
    row(ApiKey.DELETE_GROUPS, 2, message(ApiKey.DELETE_GROUPS)(["g"]), on(GROUP, op.DELETE))
    m = message(ApiKey.OFFSET_COMMIT)
    commit = m("g", topics=[m.OffsetCommitRequestTopic(name="t", partitions=[m.OffsetCommitRequestPartition(0, 1)])])
    row(ApiKey.OFFSET_COMMIT, 8, commit, on(TOPIC, op.READ), on(GROUP, op.READ))
    row(ApiKey.OFFSET_COMMIT, 8, commit, on(GROUP, op.READ), on(TOPIC, op.READ), name="OffsetCommit of a topic")
    m = message(ApiKey.OFFSET_FETCH)
    fetch = m(group_id="g", topics=[m.OffsetFetchRequestTopic("t", [0])])
    row(ApiKey.OFFSET_FETCH, 7, fetch, on(TOPIC, op.DESCRIBE), on(GROUP, op.DESCRIBE))
    row(ApiKey.OFFSET_FETCH, 7, fetch, on(GROUP, op.DESCRIBE), on(TOPIC, op.DESCRIBE), name="OffsetFetch of a topic")
    m = message(ApiKey.OFFSET_DELETE)
    delete = m("g", [m.OffsetDeleteRequestTopic("t", [m.OffsetDeleteRequestPartition(0)])])
    row(ApiKey.OFFSET_DELETE, 0, delete, on(TOPIC, op.READ), on(GROUP, op.DELETE))
    m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)
    join = m("g2", "m", 0, None, None, 10_000, ["t"], None, None, [])
    group2 = (op.READ, GROUP, "g2")
    row(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, join, on(TOPIC, op.DESCRIBE), group2)
    row(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, join, group2, on(TOPIC, op.DESCRIBE), name="heartbeat of a topic")
    row(ApiKey.CONSUMER_GROUP_DESCRIBE, 0, message(ApiKey.CONSUMER_GROUP_DESCRIBE)(["g"]), on(GROUP, op.DESCRIBE))


def transaction_rows(row: Any) -> None:
    op = Operation
    write = on(TRANSACTION, op.WRITE)
    m = message(ApiKey.PRODUCE)
    added = batch(attributes=TRANSACTIONAL, producer_id=1, producer_epoch=0, base_sequence=0)
    produce = m("tx", -1, 1000, [m.TopicProduceData(name="t", partition_data=[m.PartitionProduceData(0, added)])])
    row(ApiKey.PRODUCE, 9, produce, on(TOPIC, op.WRITE), write, name="Produce in a transaction")
    row(ApiKey.PRODUCE, 9, produce, write, on(TOPIC, op.WRITE), name="Produce in a transaction, of a topic")
    m = message(ApiKey.INIT_PRODUCER_ID)
    row(ApiKey.INIT_PRODUCER_ID, 4, m("tx", 10_000), write)
    row(
        ApiKey.INIT_PRODUCER_ID, 4, m(None, 10_000), on(CLUSTER, op.IDEMPOTENT_WRITE), name="InitProducerId, idempotent"
    )
    m = message(ApiKey.FIND_COORDINATOR)
    row(ApiKey.FIND_COORDINATOR, 3, m("tx", 1), on(TRANSACTION, op.DESCRIBE), name="FindCoordinator of a transaction")
    m = message(ApiKey.ADD_PARTITIONS_TO_TXN)
    topics = [m.AddPartitionsToTxnTopic("t", [0])]
    add = m(
        v3_and_below_transactional_id="tx",
        v3_and_below_producer_id=1,
        v3_and_below_producer_epoch=0,
        v3_and_below_topics=topics,
    )
    row(ApiKey.ADD_PARTITIONS_TO_TXN, 3, add, on(TOPIC, op.WRITE), write)
    row(ApiKey.ADD_PARTITIONS_TO_TXN, 3, add, write, on(TOPIC, op.WRITE), name="AddPartitionsToTxn of a topic")
    row(ApiKey.ADD_PARTITIONS_TO_TXN, 4, m([]), on(CLUSTER, op.CLUSTER_ACTION), name="AddPartitionsToTxn of brokers")
    m = message(ApiKey.ADD_OFFSETS_TO_TXN)
    row(ApiKey.ADD_OFFSETS_TO_TXN, 3, m("tx", 1, 0, "g"), on(GROUP, op.READ), write)
    row(ApiKey.ADD_OFFSETS_TO_TXN, 3, m("tx", 1, 0, "g"), write, on(GROUP, op.READ), name="AddOffsetsToTxn of a group")
    row(ApiKey.END_TXN, 4, message(ApiKey.END_TXN)("tx", 1, 0, True), write)
    m = message(ApiKey.TXN_OFFSET_COMMIT)
    topics = [m.TxnOffsetCommitRequestTopic(name="t", partitions=[m.TxnOffsetCommitRequestPartition(0, 1)])]
    commit = m("tx", "g", 1, 0, topics=topics)
    row(ApiKey.TXN_OFFSET_COMMIT, 3, commit, on(TOPIC, op.READ), on(GROUP, op.READ), write)
    row(
        ApiKey.TXN_OFFSET_COMMIT,
        3,
        commit,
        on(TOPIC, op.READ),
        write,
        on(GROUP, op.READ),
        name="TxnOffsetCommit of a group",
    )
    row(
        ApiKey.TXN_OFFSET_COMMIT,
        3,
        commit,
        write,
        on(GROUP, op.READ),
        on(TOPIC, op.READ),
        name="TxnOffsetCommit of a topic",
    )
    describe = message(ApiKey.DESCRIBE_TRANSACTIONS)(["tx"])
    row(ApiKey.DESCRIBE_TRANSACTIONS, 0, describe, on(TRANSACTION, op.DESCRIBE))
    m = message(ApiKey.WRITE_TXN_MARKERS)
    marker = m.WritableTxnMarker(99, 0, False, [m.WritableTxnMarkerTopic("t", [0])])
    row(ApiKey.WRITE_TXN_MARKERS, 1, m([marker]), on(CLUSTER, op.ALTER))


def cluster_rows(row: Any) -> None:
    op = Operation
    alter, describe = on(CLUSTER, op.ALTER), on(CLUSTER, op.DESCRIBE)
    row(ApiKey.DESCRIBE_LOG_DIRS, 4, message(ApiKey.DESCRIBE_LOG_DIRS)([]), describe)
    row(ApiKey.DESCRIBE_ACLS, 3, message(ApiKey.DESCRIBE_ACLS)(1, None, 1, None, None, 1, 1), describe)
    m = message(ApiKey.CREATE_ACLS)
    row(ApiKey.CREATE_ACLS, 3, m([m.AclCreation(2, "x", 3, "User:nobody", "*", 3, 3)]), alter)
    m = message(ApiKey.DELETE_ACLS)
    row(ApiKey.DELETE_ACLS, 3, m([m.DeleteAclsFilter(2, "x", 3, "User:nobody", "*", 3, 3)]), alter)
    m = message(ApiKey.ELECT_LEADERS)
    row(ApiKey.ELECT_LEADERS, 2, m(0, [m.TopicPartitions("t", [0])]), alter)
    m = message(ApiKey.ALTER_PARTITION_REASSIGNMENTS)
    reassign = m(topics=[m.ReassignableTopic("t", [m.ReassignablePartition(0, None)])])
    row(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0, reassign, alter)
    row(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, message(ApiKey.LIST_PARTITION_REASSIGNMENTS)(), describe)
    m = message(ApiKey.ALTER_REPLICA_LOG_DIRS)
    row(ApiKey.ALTER_REPLICA_LOG_DIRS, 2, m([m.AlterReplicaLogDir("/x", [m.AlterReplicaLogDirTopic("t", [0])])]), alter)
    row(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, message(ApiKey.DESCRIBE_CLIENT_QUOTAS)(), on(CLUSTER, op.DESCRIBE_CONFIGS))
    m = message(ApiKey.ALTER_CLIENT_QUOTAS)
    entry = m.EntryData([m.EntityData("user", "nobody")], [m.OpData("request_percentage", 10.0, False)])
    row(ApiKey.ALTER_CLIENT_QUOTAS, 1, m([entry], True), on(CLUSTER, op.ALTER_CONFIGS))
    row(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, message(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS)(None), describe)
    m = message(ApiKey.ALTER_USER_SCRAM_CREDENTIALS)
    row(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, m([m.ScramCredentialDeletion("nobody", 1)], []), alter)
    m = message(ApiKey.DESCRIBE_QUORUM)
    row(ApiKey.DESCRIBE_QUORUM, 2, m([m.TopicData("__cluster_metadata", [m.PartitionData(0)])]), describe)
    m = message(ApiKey.UPDATE_FEATURES)
    row(ApiKey.UPDATE_FEATURES, 1, m(1000, [m.FeatureUpdateKey("transaction.version", 2, 1)], True), alter)
    row(ApiKey.LIST_CONFIG_RESOURCES, 1, message(ApiKey.LIST_CONFIG_RESOURCES)([]), on(CLUSTER, op.DESCRIBE_CONFIGS))
