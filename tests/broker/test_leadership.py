"""Three nodes that are one broker: each answers for what it leads and coordinates, and says who does the rest."""

from typing import Any

import pytest

from headwater.broker.cluster import PLAINTEXT, Endpoint
from headwater.broker.connection import Connection
from headwater.coordinators.groups.coordinator import partition_for
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from headwater.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness
from tests.security.matrix import error_codes, message

NODES = (1, 2, 3)
BATCH = bytes(build_batch([Record(b"k", b"v", (), 1_699_999_999_000)]))


def connect(broker: Harness, node_id: int) -> None:
    broker.connection = Connection("/test", Endpoint(node_id=node_id))


@pytest.fixture
def broker() -> Harness:
    """Topic t has one partition, on nodes 2 (its leader) and 3."""
    made = Harness(pairs={"headwater.nodes": 3})
    for node_id in NODES:
        made.core.cluster.advertise(PLAINTEXT, node_id, "127.0.0.1", 9000 + node_id)
    connect(made, 1)
    m = message(ApiKey.CREATE_TOPICS)
    wanted = m.CreatableTopic("t", -1, -1, [m.CreatableReplicaAssignment(0, [2, 3])])
    assert made.call(ApiKey.CREATE_TOPICS, 7, m([wanted])).topics[0].error_code == 0
    return made


def failures(answer: Any) -> set[int]:
    return set(error_codes(answer)) - {ErrorCode.NONE}


def produce(version: int) -> Any:
    m = message(ApiKey.PRODUCE)
    return m(None, -1, 1000, [m.TopicProduceData(name="t", partition_data=[m.PartitionProduceData(0, BATCH)])])


def requests() -> list[tuple[ApiKey, int, Any, set[int]]]:
    """Requests about the partition, and the nodes that answer them."""
    fetch = Harness().fetch_request("t", 0)
    m, d = message(ApiKey.LIST_OFFSETS), message(ApiKey.DELETE_RECORDS)
    e, p = message(ApiKey.OFFSET_FOR_LEADER_EPOCH), message(ApiKey.DESCRIBE_PRODUCERS)
    latest = [m.ListOffsetsTopic("t", [m.ListOffsetsPartition(0, -1, -1)])]
    return [
        (ApiKey.PRODUCE, 9, produce(9), {2}),
        (ApiKey.FETCH, 10, fetch, {2}),
        (ApiKey.FETCH, 12, fetch, {2, 3}),  # KIP-392
        (ApiKey.LIST_OFFSETS, 7, m(-1, 0, latest), {2}),
        (ApiKey.LIST_OFFSETS, 7, m(-2, 0, latest), {2, 3}),  # for those who debug a replica
        (ApiKey.DELETE_RECORDS, 2, d([d.DeleteRecordsTopic("t", [d.DeleteRecordsPartition(0, -1)])], 1000), {2}),
        (ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, e(-1, [e.OffsetForLeaderTopic("t", [e.OffsetForLeaderPartition(0)])]), {2}),
        (ApiKey.DESCRIBE_PRODUCERS, 0, p([p.TopicRequest("t", [0])]), {2, 3}),
    ]


@pytest.mark.parametrize("node_id", NODES)
@pytest.mark.parametrize(
    ("key", "version", "body", "nodes"), requests(), ids=lambda value: value.name if isinstance(value, ApiKey) else ""
)
def test_a_partition_is_answered_by_its_nodes(
    broker: Harness, node_id: int, key: ApiKey, version: int, body: Any, nodes: set[int]
) -> None:
    connect(broker, node_id)
    errors = failures(broker.call(key, version, body))
    assert errors == (set() if node_id in nodes else {ErrorCode.NOT_LEADER_OR_FOLLOWER})


@pytest.mark.parametrize("node_id", NODES)
def test_sizes_are_reported_by_the_nodes_that_have_the_partition(broker: Harness, node_id: int) -> None:
    connect(broker, node_id)
    answer = broker.call(ApiKey.DESCRIBE_LOG_DIRS, 4, message(ApiKey.DESCRIBE_LOG_DIRS)(None))
    assert [topic.name for topic in answer.results[0].topics] == (["t"] if node_id in (2, 3) else [])


@pytest.mark.parametrize("key", [ApiKey.PRODUCE, ApiKey.FETCH])
def test_the_wrong_node_says_who_leads(broker: Harness, key: ApiKey) -> None:
    if key == ApiKey.PRODUCE:
        answer = broker.call(key, 10, produce(10))
        partition = answer.responses[0].partition_responses[0]
    else:
        body = broker.fetch_request("t", 0)
        body.topics[0].topic_id = broker.core.metadata.topics["t"].topic_id
        answer = broker.call(key, 16, body)
        partition = answer.responses[0].partitions[0]
    assert partition.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (partition.current_leader.leader_id, partition.current_leader.leader_epoch) == (2, 0)
    assert [(n.node_id, n.host, n.port) for n in answer.node_endpoints] == [(2, "127.0.0.1", 9002)]


def find_coordinator(broker: Harness, kind: int, key: str) -> int:
    m = message(ApiKey.FIND_COORDINATOR)
    return int(broker.call(ApiKey.FIND_COORDINATOR, 3, m(key, kind)).node_id)


def group_requests() -> list[tuple[ApiKey, int, Any]]:
    def of(key: ApiKey, version: int, *values: Any, **more: Any) -> tuple[ApiKey, int, Any]:
        return key, version, message(key)(*values, **more)

    j, o, t = message(ApiKey.JOIN_GROUP), message(ApiKey.OFFSET_COMMIT), message(ApiKey.TXN_OFFSET_COMMIT)
    commit = [o.OffsetCommitRequestTopic(name="t", partitions=[o.OffsetCommitRequestPartition(0, 1)])]
    of_txn = [t.TxnOffsetCommitRequestTopic(name="t", partitions=[t.TxnOffsetCommitRequestPartition(0, 1)])]
    d, f = message(ApiKey.OFFSET_DELETE), message(ApiKey.OFFSET_FETCH)
    protocols = [j.JoinGroupRequestProtocol("p", b"")]
    return [
        of(ApiKey.JOIN_GROUP, 5, "g", 10_000, 10_000, "", None, "consumer", protocols),
        of(ApiKey.SYNC_GROUP, 3, "g", 1, "m"),
        of(ApiKey.HEARTBEAT, 3, "g", 1, "m"),
        of(ApiKey.LEAVE_GROUP, 2, "g", "m"),
        of(ApiKey.OFFSET_COMMIT, 7, "g", topics=commit),
        of(ApiKey.OFFSET_FETCH, 5, group_id="g", topics=[f.OffsetFetchRequestTopic("t", [0])]),
        of(ApiKey.OFFSET_FETCH, 8, groups=[f.OffsetFetchRequestGroup("g", topics=None)]),
        of(ApiKey.OFFSET_DELETE, 0, "g", [d.OffsetDeleteRequestTopic("t", [d.OffsetDeleteRequestPartition(0)])]),
        of(ApiKey.DESCRIBE_GROUPS, 5, ["g"]),
        of(ApiKey.DELETE_GROUPS, 2, ["g"]),
        of(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, "g", "m", 0, rebalance_timeout_ms=1, subscribed_topic_names=["t"]),
        of(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, ["g"]),
        of(ApiKey.TXN_OFFSET_COMMIT, 3, "tx", "g", 1, 0, topics=of_txn),
    ]


@pytest.mark.parametrize(
    ("key", "version", "body"), group_requests(), ids=lambda v: v.name if isinstance(v, ApiKey) else ""
)
def test_a_group_is_served_by_its_coordinator_alone(broker: Harness, key: ApiKey, version: int, body: Any) -> None:
    there = find_coordinator(broker, 0, "g")
    for node_id in NODES:
        connect(broker, node_id)
        answered = broker.send(key, version, body)
        errors = failures(answered.message) if answered.is_done else set()
        assert (errors == {ErrorCode.NOT_COORDINATOR}) == (node_id != there), (node_id, errors)


def transaction_requests() -> list[tuple[ApiKey, int, Any]]:
    a = message(ApiKey.ADD_PARTITIONS_TO_TXN)
    topics = [a.AddPartitionsToTxnTopic("t", [0])]
    return [
        (ApiKey.INIT_PRODUCER_ID, 4, message(ApiKey.INIT_PRODUCER_ID)("tx", 60_000)),
        (ApiKey.ADD_PARTITIONS_TO_TXN, 3, a([], "tx", 1, 0, topics)),
        (ApiKey.ADD_OFFSETS_TO_TXN, 3, message(ApiKey.ADD_OFFSETS_TO_TXN)("tx", 1, 0, "g")),
        (ApiKey.END_TXN, 3, message(ApiKey.END_TXN)("tx", 1, 0, True)),
        (ApiKey.DESCRIBE_TRANSACTIONS, 0, message(ApiKey.DESCRIBE_TRANSACTIONS)(["tx"])),
    ]


@pytest.mark.parametrize(
    ("key", "version", "body"), transaction_requests(), ids=lambda v: v.name if isinstance(v, ApiKey) else ""
)
def test_a_transaction_is_served_by_its_coordinator_alone(
    broker: Harness, key: ApiKey, version: int, body: Any
) -> None:
    there = find_coordinator(broker, 1, "tx")
    for node_id in NODES:
        connect(broker, node_id)
        errors = failures(broker.call(key, version, body))
        assert (errors == {ErrorCode.NOT_COORDINATOR}) == (node_id != there), (node_id, errors)


def test_each_node_lists_its_own(broker: Harness) -> None:
    groups = {f"g{n}": find_coordinator(broker, 0, f"g{n}") for n in range(9)}
    ids = {f"tx{n}": find_coordinator(broker, 1, f"tx{n}") for n in range(9)}
    commit = message(ApiKey.OFFSET_COMMIT)
    topics = [commit.OffsetCommitRequestTopic(name="t", partitions=[commit.OffsetCommitRequestPartition(0, 1)])]
    for group_id, node_id in groups.items():
        connect(broker, node_id)
        assert not any(error_codes(broker.call(ApiKey.OFFSET_COMMIT, 7, commit(group_id, topics=topics))))
    for transactional_id, node_id in ids.items():
        connect(broker, node_id)
        init = message(ApiKey.INIT_PRODUCER_ID)(transactional_id, 60_000)
        assert broker.call(ApiKey.INIT_PRODUCER_ID, 4, init).error_code == 0
    for node_id in NODES:
        connect(broker, node_id)
        listed = broker.call(ApiKey.LIST_GROUPS, 5, message(ApiKey.LIST_GROUPS)()).groups
        assert {g.group_id for g in listed} == {g for g, where in groups.items() if where == node_id}
        states = broker.call(ApiKey.LIST_TRANSACTIONS, 1, message(ApiKey.LIST_TRANSACTIONS)()).transaction_states
        assert {s.transactional_id for s in states} == {t for t, where in ids.items() if where == node_id}


def replicas(broker: Harness, topic: str = "t") -> list[list[int]]:
    wanted = [MetadataRequest.MetadataRequestTopic(name=topic)]
    partitions = broker.call(ApiKey.METADATA, 9, MetadataRequest(wanted)).topics[0].partitions
    assert all(p.leader_id == p.replica_nodes[0] and p.isr_nodes == p.replica_nodes for p in partitions)
    return [p.replica_nodes for p in sorted(partitions, key=lambda p: p.partition_index)]


def reassign(broker: Harness, nodes: list[int] | None, topic: str = "t", partition: int = 0, **more: Any) -> int:
    m = AlterPartitionReassignmentsRequest
    body = m(1000, topics=[m.ReassignableTopic(topic, [m.ReassignablePartition(partition, nodes)])], **more)
    return int(broker.call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 1, body).responses[0].partitions[0].error_code)


def test_a_reassignment_is_kept(broker: Harness) -> None:
    assert replicas(broker) == [[2, 3]]
    for nodes in ([1, 2], [3], [1, 2, 3], [2, 3]):
        assert reassign(broker, nodes) == 0
        assert replicas(broker) == [nodes]
        listed = broker.call(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, ListPartitionReassignmentsRequest())
        assert (listed.error_code, listed.topics) == (0, [])  # it is done
        broker.restart()
        assert replicas(broker) == [nodes]
    assert reassign(broker, [1]) == 0
    connect(broker, 1)
    assert not any(error_codes(broker.call(ApiKey.PRODUCE, 9, produce(9))))
    broker.kill()
    assert replicas(broker) == [[1]]


def test_partitions_of_one_topic_may_have_different_numbers_of_nodes(broker: Harness) -> None:
    broker.create_topic("u", 3)
    before = replicas(broker, "u")
    assert reassign(broker, [1, 2, 3], "u", 0) == reassign(broker, [3, 1], "u", 2) == 0
    assert replicas(broker, "u") == [[1, 2, 3], before[1], [3, 1]]
    snapshot = list(broker.core.metadata.snapshot())
    broker.restart()
    assert replicas(broker, "u") == [[1, 2, 3], before[1], [3, 1]]
    metadata = type(broker.core.metadata)(broker.core.cluster)
    for record in snapshot:
        metadata.replay(record)
    assert [metadata.replicas(metadata.topics["u"], n) for n in range(3)] == [[1, 2, 3], before[1], [3, 1]]


@pytest.mark.parametrize(
    ("nodes", "more", "error"),
    [
        (None, {}, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        ([], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([1, 1], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([4], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([1], {"allow_replication_factor_change": False}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ([1], {"topic": "none"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ([1], {"partition": 9}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_a_reassignment_that_cannot_be_is_refused(
    broker: Harness, nodes: list[int] | None, more: dict[str, Any], error: ErrorCode
) -> None:
    assert reassign(broker, nodes, **more) == error
    assert replicas(broker) == [[2, 3]]


def test_a_fetch_that_waits_learns_of_the_new_leader(broker: Harness) -> None:
    connect(broker, 3)
    body = broker.fetch_request("t", 0, max_wait_ms=60_000)
    pending = broker.send(ApiKey.FETCH, 12, body)
    assert not pending.is_done
    assert reassign(broker, [1]) == 0
    assert pending.message.responses[0].partitions[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_the_coordinator_follows_its_topics_leader(broker: Harness) -> None:
    there = find_coordinator(broker, 0, "g")
    (other, *_) = [node_id for node_id in NODES if node_id != there]
    topic = broker.core.metadata.topics["__consumer_offsets"]
    assert reassign(broker, [other], topic.name, partition_for("g", topic.partitions)) == 0
    assert find_coordinator(broker, 0, "g") == other
