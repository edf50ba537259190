"""Requests that are made to harm: each is answered with an error, and nobody else loses anything by it."""

from typing import Any

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import TRANSACTIONAL, Record, build_batch
from headwater.security.acls import Operation, PatternType, Permission, ResourceType
from tests.broker.harness import Harness
from tests.broker.transactional import Producer, committed_values

ADMIN, ALICE, MALLORY = "User:admin", "User:alice", "User:mallory"


def secured_broker() -> Harness:
    """Alice has the transactional id `alice`, Mallory `mallory`; both may read and write the topic `t`."""
    broker = Harness(**{"super.users": ADMIN})
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
    broker = Harness(**{"transactional.id.expiration.ms": 1000})
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    broker.kill()
    assert broker.core.transactions.owners == {producer.producer_id: "tx"}
    broker.advance(3_700_000)
    assert broker.core.transactions.transactions == {}
    assert broker.core.transactions.owners == {}


# -- the broker's own topics


def test_no_client_takes_the_brokers_own_topics_into_a_transaction() -> None:
    """A marker in `__transaction_state` is no record of a transaction: the next start stumbled over it."""
    broker = Harness()
    producer = Producer(broker, "tx", 1)
    assert producer.init().error_code == 0
    assert producer.add("__transaction_state") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    topic = broker.core.metadata.topics["__transaction_state"]
    broker.core.state_topics.write_marker(broker.core.log(topic, 0), producer.producer_id, 0, commit=False)
    broker.sync()
    broker.kill()
    assert list(broker.core.transactions.transactions) == ["tx"]


def test_the_metadata_log_is_no_topic() -> None:
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
def test_what_is_no_pattern_of_re2_is_refused(pattern: str) -> None:
    answer = Harness().call(ApiKey.LIST_TRANSACTIONS, 2, ListTransactionsRequest(transactional_id_pattern=pattern))
    assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
