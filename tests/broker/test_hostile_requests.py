"""Requests that are made to harm: each is answered with an error, and nobody else loses anything by it."""

from typing import Any

import pytest

from headwater.broker import fetch_sessions
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest
from headwater.protocol.records import TRANSACTIONAL, Record, build_batch
from headwater.security.acls import Operation, PatternType, Permission, ResourceType
from tests.broker.harness import Harness
from tests.broker.transactional import Producer, committed_values

ADMIN, ALICE, MALLORY = "User:admin", "User:alice", "User:mallory"


def secured_broker() -> Harness:
    """Alice has the transactional id `alice`, Mallory `mallory`; both may read and write the topic `t`."""
    broker = Harness(pairs={"super.users": ADMIN})
    broker.connection.principal = ADMIN
    broker.create_topic("t")
    creations = [
        CreateAclsRequest.AclCreation(kind, name, PatternType.LITERAL, who, "*", Operation.ALL, Permission.ALLOW)
        for who in (ALICE, MALLORY)
        for kind, name in ((ResourceType.TOPIC, "t"), (ResourceType.TRANSACTIONAL_ID, who.removeprefix("User:")))
    ]
    broker.call(ApiKey.CREATE_ACLS, 3, CreateAclsRequest(creations))
    return broker


def producer_of(broker: Harness, principal: str, version: int = 2) -> Producer:
    broker.connection.principal = principal
    producer = Producer(broker, principal.removeprefix("User:"), version)
    assert producer.init().error_code == 0
    return producer


def produce_as(broker: Harness, victim: Producer, named: str | None, version: int, **batch: Any) -> int:
    """What Mallory is answered to a batch with the victim's producer id, epoch and next sequence."""
    broker.connection.principal = MALLORY
    sequence = victim.sequences.get(("t", 0), 0)
    built = build_batch(
        [Record(b"k", b"mallory", (), broker.clock.wall_ms())],
        producer_id=victim.producer_id,
        producer_epoch=victim.epoch,
        base_sequence=sequence,
        **batch,
    )
    data = ProduceRequest.PartitionProduceData(0, bytes(built))
    body = ProduceRequest(named, -1, 1000, [ProduceRequest.TopicProduceData(name="t", partition_data=[data])])
    answer = broker.call(ApiKey.PRODUCE, version, body)
    return int(answer.responses[0].partition_responses[0].error_code)


@pytest.mark.parametrize("named", [None, "alice", "mallory"])
@pytest.mark.parametrize("is_transactional", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("version", [9, 12])
def test_nobody_writes_with_the_producer_id_of_another_transactional_id(
    version: int, is_open: bool, is_transactional: bool, named: str | None
) -> None:
    """CVE-2018-17196, and its kin: the sequence of an idempotent batch is taken from the same producer id."""
    broker = secured_broker()
    producer_of(broker, MALLORY)
    alice = producer_of(broker, ALICE)
    if is_open:
        assert alice.produce("t", b"alice-1") == 0
    attributes = TRANSACTIONAL if is_transactional else 0
    error = produce_as(broker, alice, named, version, attributes=attributes)
    assert error == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    broker.connection.principal = ALICE
    assert alice.produce("t", b"alice-2") == 0
    assert alice.end(commit=True) == 0
    broker.connection.principal = ADMIN
    assert committed_values(broker, "t") == [b"alice-1", b"alice-2"][not is_open :]


def test_a_transactional_id_writes_with_its_own_producer_id_only() -> None:
    """Even for one client that may use both."""
    broker = Harness()
    broker.create_topic("t")
    one, other = Producer(broker, "one"), Producer(broker, "other")
    assert (one.init().error_code, other.init().error_code) == (0, 0)
    assert one.produce("t", b"1") == 0
    error = produce_as(broker, one, "other", 12, attributes=TRANSACTIONAL)
    assert error == ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert produce_as(broker, one, None, 12, attributes=TRANSACTIONAL) == (
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    )
    assert one.produce("t", b"2") == 0


def test_one_batch_of_a_transaction_without_an_id_refuses_its_whole_request() -> None:
    broker = Harness()
    broker.create_topic("t", 2)
    plain = build_batch([Record(b"k", b"v", (), 1)])
    added = build_batch(
        [Record(b"k", b"v", (), 1)], attributes=TRANSACTIONAL, producer_id=1, producer_epoch=0, base_sequence=0
    )
    datas = [ProduceRequest.PartitionProduceData(n, bytes(batch)) for n, batch in enumerate((plain, added))]
    body = ProduceRequest(None, -1, 1000, [ProduceRequest.TopicProduceData(name="t", partition_data=datas)])
    answers = broker.call(ApiKey.PRODUCE, 9, body).responses[0].partition_responses
    assert {p.error_code for p in answers} == {ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    assert broker.read_all("t") == []


def test_an_owner_is_known_after_restarts_and_forgotten_with_its_transactional_id() -> None:
    broker = Harness(pairs={"transactional.id.expiration.ms": 1000})
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    broker.kill()
    assert broker.core.transactions.owners == {producer.producer_id: "tx"}
    broker.advance(3_700_000)
    assert broker.core.transactions.transactions == {}
    assert broker.core.transactions.owners == {}


# -- the broker's own topics


def test_no_client_takes_the_brokers_own_topics_into_a_transaction() -> None:
    """A marker in `__transaction_state` does not describe a transaction: the next start stumbled over it."""
    broker = Harness()
    producer = Producer(broker, "tx", 1)
    assert producer.init().error_code == 0
    assert producer.add("__transaction_state") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    topic = broker.core.metadata.topics["__transaction_state"]
    broker.core.coordination.markers.write(broker.core.partitions.log(topic, 0), producer.producer_id, 0, commit=False)
    broker.sync()
    broker.kill()
    assert list(broker.core.transactions.transactions) == ["tx"]


def test_the_metadata_log_is_not_a_topic() -> None:
    """A topic of that name would share its directory."""
    broker = Harness()
    wanted = CreateTopicsRequest.CreatableTopic("__cluster_metadata", 1, 1)
    created = broker.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted])).topics[0]
    assert created.error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    asked = MetadataRequest([MetadataRequest.MetadataRequestTopic(name="__cluster_metadata")], True)
    assert broker.call(ApiKey.METADATA, 9, asked).topics[0].error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    assert broker.core.metadata.topics == {}


def test_a_topic_id_in_a_version_that_cannot_answer_it_is_an_invalid_request() -> None:
    """It closed the connection. Kafka: "Topic IDs are not supported in requests for version 10"."""
    broker = Harness()
    wanted = MetadataRequest([MetadataRequest.MetadataRequestTopic(bytes(15) + b"\x09", None)], False)
    for version in (10, 11):
        answer = broker.call(ApiKey.METADATA, version, wanted)
        assert [(topic.error_code, topic.name) for topic in answer.topics] == [(ErrorCode.INVALID_REQUEST, "")]
    assert broker.call(ApiKey.METADATA, 12, wanted).topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID


# -- patterns


def test_a_pattern_takes_linear_time_and_sees_only_what_its_client_may_see() -> None:
    """Python's `re` would take years for this pattern and this name."""
    broker = secured_broker()
    broker.connection.principal = ADMIN
    hidden = Producer(broker, "a" * 34)
    assert hidden.init().error_code == 0
    pattern = ListTransactionsRequest(transactional_id_pattern=r"([\w-]*)*!")
    assert broker.call(ApiKey.LIST_TRANSACTIONS, 2, pattern).transaction_states == []
    everything = ListTransactionsRequest(transactional_id_pattern=r"[a-z]+")
    assert len(broker.call(ApiKey.LIST_TRANSACTIONS, 2, everything).transaction_states) == 1
    broker.connection.principal = MALLORY
    assert broker.call(ApiKey.LIST_TRANSACTIONS, 2, everything).transaction_states == []


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", r"(?=a)", "a" * 5000, r"\pL{1000}", r"(\pL{0,999})*"])
def test_an_invalid_pattern_of_re2_is_refused(pattern: str) -> None:
    answer = Harness().call(ApiKey.LIST_TRANSACTIONS, 2, ListTransactionsRequest(transactional_id_pattern=pattern))
    assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION


# -- what clients leave behind


def join(broker: Harness, metadata: bytes, group: str = "g", protocols: int = 1) -> int:
    request = JoinGroupRequest(
        group,
        30_000,
        30_000,
        protocol_type="consumer",
        protocols=[JoinGroupRequest.JoinGroupRequestProtocol(f"p{n}", metadata) for n in range(protocols)],
    )
    pending = broker.send(ApiKey.JOIN_GROUP, 3, request)
    return int(pending.message.error_code) if pending.is_done else 0


def test_what_members_say_of_themselves_is_bounded() -> None:
    broker = Harness()
    assert join(broker, bytes((1 << 20) + 1)) == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert join(broker, b"", protocols=101) == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert broker.core.groups.group_ids() == []  # and nothing is left of it
    errors = [join(broker, bytes(1 << 19)) for _ in range(140)]
    assert errors[:100] == [0] * 100
    assert errors[-1] == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_an_assignment_that_is_too_large_for_a_record_is_not_kept() -> None:
    broker = Harness()
    joined = broker.send(
        ApiKey.JOIN_GROUP,
        3,
        JoinGroupRequest(
            "g",
            30_000,
            30_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequest.JoinGroupRequestProtocol("range", b"")],
        ),
    ).message
    assignment = SyncGroupRequest.SyncGroupRequestAssignment(joined.member_id, bytes(2 << 20))
    sync = SyncGroupRequest("g", joined.generation_id, joined.member_id, assignments=[assignment])
    assert broker.call(ApiKey.SYNC_GROUP, 3, sync).error_code == ErrorCode.UNKNOWN_SERVER_ERROR


def test_a_subscription_is_bounded() -> None:
    broker = Harness()
    names = [f"{n:032000}" for n in range(40)]
    beat = ConsumerGroupHeartbeatRequest("g", "m", 0, None, None, 10_000, names, None, None, [])
    answer = broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, beat)
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert broker.core.groups.group_ids() == []


def test_fetch_sessions_remember_a_bounded_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "ALL_PARTITIONS_MAX", 10)
    broker = Harness()
    broker.create_topic("t", 20)

    def fetch(count: int, session_id: int = 0, epoch: int = 0) -> int:
        partitions = [FetchRequest.FetchPartition(n, partition_max_bytes=1000) for n in range(count)]
        topics = [FetchRequest.FetchTopic(topic="t", partitions=partitions)]
        body = FetchRequest(max_wait_ms=0, max_bytes=1000, session_id=session_id, session_epoch=epoch, topics=topics)
        return int(broker.call(ApiKey.FETCH, 12, body).session_id)

    sessions = broker.core.sessions
    first = fetch(6)
    assert (first != 0, fetch(6)) == (True, 0)  # the second names its partitions each time
    assert fetch(20, first, 1) == first
    assert (sessions.partitions, len(sessions.sessions[first].targets)) == (10, 10)
    assert fetch(1, first, -1) == 0  # closed
    assert sessions.partitions == 0
