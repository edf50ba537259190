"""Quotas in force: what an answer says to a client that used more than its quota, and how long its connection is muted."""

from typing import Any

import pytest
from confluent_kafka import Producer

import headwater as hw
from headwater.broker.connection import Request
from headwater.broker.metadata_records import quota_record
from headwater.client.wire import Wire
from headwater.client.wire_settings import wire_settings
from headwater.effects.work import Steps, at_once, elsewhere
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from headwater.protocol.messages.create_partitions import CreatePartitionsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest
from headwater.protocol.messages.metadata import MetadataRequest, MetadataResponse
from headwater.protocol.records import Record, build_batch
from headwater.security.acls import Operation, ResourceType
from headwater.security.quotas import CLIENT_ID, METERS_MAX, USER, Match
from tests.broker.harness import Harness
from tests.broker.test_authorization import ADMIN, ALICE, grant
from tests.broker.test_produce_routes import batch_of, new_client

Values = dict[str, float | None]
PRODUCE, CONSUME, TIME, MUTATE = (
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "controller_mutation_rate",
)


class Muted(Harness):
    """A broker whose only connection notes how long it is muted."""

    def __init__(self, **pairs: object) -> None:
        super().__init__(pairs=pairs)
        self.mutes: list[float] = []
        self.listen()

    def listen(self) -> None:
        self.connection.mute = self.mutes.append


@pytest.fixture
def broker() -> Muted:
    found = Muted()
    found.create_topic("t")
    return found


def alter(broker: Harness, entity: dict[str, str | None], values: Values, **options: Any) -> Any:
    entry = AlterClientQuotasRequest.EntryData(
        [AlterClientQuotasRequest.EntityData(*part) for part in entity.items()],
        [AlterClientQuotasRequest.OpData(key, value or 0.0, value is None) for key, value in values.items()],
    )
    answer = broker.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, AlterClientQuotasRequest([entry], **options))
    return answer.entries[0]


def set_quota(broker: Harness, values: Values, entity: dict[str, str | None] | None = None) -> None:
    result = alter(broker, entity or {CLIENT_ID: None}, values)
    assert result.error_code == 0, result


def described(broker: Harness, *components: tuple[str, int, str | None], is_strict: bool = False) -> Any:
    wanted = [DescribeClientQuotasRequest.ComponentData(*component) for component in components]
    answer = broker.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, DescribeClientQuotasRequest(wanted, is_strict))
    assert answer.error_code == 0
    return {
        tuple((part.entity_type, part.entity_name) for part in entry.entity): {v.key: v.value for v in entry.values}
        for entry in answer.entries
    }


# -- setting them


def test_what_is_set_is_described_and_survives_a_restart_and_a_kill(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1000, TIME: 12.5}, {USER: "alice", CLIENT_ID: None})
    set_quota(broker, {CONSUME: 7}, {USER: None})
    expected: dict[tuple[tuple[str, str | None], ...], dict[str, float]] = {
        ((CLIENT_ID, None), (USER, "alice")): {PRODUCE: 1000, TIME: 12.5},
        ((USER, None),): {CONSUME: 7},
    }
    assert described(broker) == expected
    broker.restart()
    assert described(broker) == expected
    set_quota(broker, {PRODUCE: None}, {USER: "alice", CLIENT_ID: None})
    broker.kill()
    del expected[(CLIENT_ID, None), (USER, "alice")][PRODUCE]
    assert described(broker) == expected
    assert described(broker, (USER, Match.DEFAULT, None)) == {((USER, None),): {CONSUME: 7}}


def test_a_short_metadata_log_still_has_them(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1000}, {USER: "alice"})
    assert quota_record(((USER, "alice"),), PRODUCE, 1000.0) in list(broker.core.metadata.snapshot())


def test_a_check_changes_nothing(broker: Muted) -> None:
    assert alter(broker, {USER: "alice"}, {PRODUCE: 1000}, validate_only=True).error_code == 0
    assert described(broker) == {}
    refused = alter(broker, {USER: "alice"}, {PRODUCE: -1}, validate_only=True)
    assert (refused.error_code, refused.error_message) == (
        ErrorCode.INVALID_REQUEST,
        "Quota producer_byte_rate must be greater than 0",
    )


def test_an_entity_that_is_wrong_is_left_and_the_others_are_changed(broker: Muted) -> None:
    data = AlterClientQuotasRequest
    entries = [
        data.EntryData([data.EntityData(USER, name)], [data.OpData(key, 5.0) for key in keys])
        for name, keys in (
            ("alice", [PRODUCE]),
            ("bob", ["speed"]),
            ("carol", [PRODUCE, PRODUCE]),
            ("alice", [CONSUME]),
        )
    ]
    answer = broker.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, data(entries))
    assert [entry.error_message for entry in answer.entries] == [
        None,
        "Invalid configuration key speed",
        f"Duplicate quota key {PRODUCE}",
        "Ignoring duplicate entity {'user': 'alice'}",
    ]
    assert described(broker) == {((USER, "alice"),): {PRODUCE: 5}}


def test_only_who_may_configure_the_cluster_sees_and_sets_them() -> None:
    broker = Muted(**{"super.users": ADMIN})
    broker.connection.principal = ALICE
    assert alter(broker, {USER: "alice"}, {PRODUCE: 1}).error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    answer = broker.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, DescribeClientQuotasRequest())
    assert answer.error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    grant(broker, ALICE, (Operation.ALTER_CONFIGS, ResourceType.CLUSTER, "kafka-cluster"))
    broker.connection.principal = ALICE
    assert alter(broker, {USER: "alice"}, {PRODUCE: 1}).error_code == 0


# -- in force


def produced(broker: Muted, size: int) -> int:
    """How long the client has to wait after it has produced so many bytes."""
    batch = build_batch([Record(None, bytes(size), (), broker.clock.wall_ms())])
    answer = broker.produce_batch("t", batch).message
    assert answer.responses[0].partition_responses[0].error_code == 0
    return int(answer.throttle_time_ms)


def test_a_producer_that_sends_more_than_its_quota_is_answered_and_muted(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1000})
    assert produced(broker, 5_000) == 0
    assert broker.mutes == []
    wait_ms = produced(broker, 10_000)
    assert 5_000 < wait_ms < 6_000  # 15,000 bytes and two requests' own, by 10 s
    assert broker.mutes == [wait_ms]
    broker.advance(11_000)  # its samples are too old
    assert produced(broker, 1) == 0


def test_a_batch_without_an_answer_is_add_wait(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 100})
    batch = build_batch([Record(None, bytes(2_000), (), broker.clock.wall_ms())])
    assert broker.produce_batch("t", batch, acks=0).message is None
    assert len(broker.mutes) == 1


def test_no_quota_no_wait(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1}, {USER: "somebody else"})
    assert produced(broker, 100_000) == 0
    assert broker.mutes == []


def test_a_quota_that_is_removed_is_over_at_once(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1})
    assert produced(broker, 1_000) > 0
    set_quota(broker, {PRODUCE: None})
    assert produced(broker, 1_000) == 0


def fetch(broker: Muted) -> Any:
    return broker.call(ApiKey.FETCH, 12, broker.fetch_request("t", 0))


def test_a_consumer_above_its_quota_gets_nothing_and_the_bytes_do_not_count(broker: Muted) -> None:
    for _ in range(10):
        produced(broker, 900)
    set_quota(broker, {CONSUME: 300})
    first = fetch(broker)
    size = sum(len(data.records) for topic in first.responses for data in topic.partitions)
    assert first.throttle_time_ms == 0
    assert 0 < size <= 3_000  # no more than the quota's window
    second = fetch(broker)
    assert second.throttle_time_ms > 0
    assert second.responses == []
    assert broker.mutes == [second.throttle_time_ms]
    broker.advance(11_000)
    assert fetch(broker).throttle_time_ms == 0


def test_the_time_of_requests_is_metered_and_waits_a_second_at_most(broker: Muted) -> None:
    set_quota(broker, {TIME: 10})
    request = Request(ApiKey.METADATA, 12, "client", broker.connection, MetadataRequest())
    waits_ms = [
        broker.core.throttling.finish(request, 100, spent_ms, MetadataResponse()).throttle_time_ms
        for spent_ms in (500.0, 550.0, 10_000.0)
    ]
    assert waits_ms == [0, 500, 1_000]  # 105 % of a second, by 10 s, is half a point above: 5 % of 10 s
    assert broker.mutes == [500, 1_000]


def names(answer: Any) -> list[int]:
    return [result.error_code for result in answer.topics]


def create(broker: Harness, version: int, *topics: tuple[str, int]) -> Any:
    wanted = [CreateTopicsRequest.CreatableTopic(name, partitions, 1) for name, partitions in topics]
    return broker.call(ApiKey.CREATE_TOPICS, version, CreateTopicsRequest(wanted))


def test_a_client_that_changes_the_cluster_too_fast_is_refused_topic_by_topic(broker: Muted) -> None:
    set_quota(broker, {MUTATE: 1})  # 11 tokens, and one more each second
    answer = create(broker, 7, ("a", 8), ("b", 8), ("c", 1))
    assert names(answer) == [0, 0, ErrorCode.THROTTLING_QUOTA_EXCEEDED]
    assert answer.throttle_time_ms == 5_000
    assert broker.mutes == [5_000]
    assert "c" not in broker.core.metadata.topics
    broker.advance(5_000)
    assert names(create(broker, 7, ("c", 1))) == [0]


def test_an_older_client_is_only_made_to_wait(broker: Muted) -> None:
    set_quota(broker, {MUTATE: 1})
    answer = create(broker, 5, ("a", 12), ("b", 3))
    assert names(answer) == [0, 0]
    assert answer.throttle_time_ms == 4_000


def test_deletions_and_new_partitions_are_mutations_too(broker: Muted) -> None:
    broker.create_topic("large", 20)
    set_quota(broker, {MUTATE: 1})
    more = CreatePartitionsRequest.CreatePartitionsTopic("t", 13, None)
    answer = broker.call(ApiKey.CREATE_PARTITIONS, 3, CreatePartitionsRequest([more], 1000))
    assert answer.results[0].error_code == 0
    deletion = DeleteTopicsRequest(topic_names=["large"])
    answer = broker.call(ApiKey.DELETE_TOPICS, 5, deletion)
    assert answer.responses[0].error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert answer.throttle_time_ms == 1_000
    broker.advance(1_000)
    assert broker.call(ApiKey.DELETE_TOPICS, 5, deletion).responses[0].error_code == 0


def test_clients_of_one_user_share_its_meter_and_meters_are_bounded(broker: Muted) -> None:
    set_quota(broker, {PRODUCE: 1000}, {USER: None})
    assert produced(broker, 8_000) == 0
    assert produced(broker, 8_000) > 0
    assert len(broker.core.throttling.meters) == 1
    set_quota(broker, {PRODUCE: 1000, TIME: 99}, {CLIENT_ID: None, USER: None})
    for number in range(METERS_MAX // 1000):
        broker.connection.principal = f"User:{number}"
        produced(broker, 1)
    assert len(broker.core.throttling.meters) <= METERS_MAX


def test_librdkafka_learns_that_it_is_throttled() -> None:
    throttled: list[Any] = []
    with hw.Broker() as running, Wire(wire_settings(running.address, {})) as wire:
        data = AlterClientQuotasRequest
        entry = data.EntryData([data.EntityData(CLIENT_ID, "fast")], [data.OpData(PRODUCE, 1000.0)])
        assert wire.ask(data([entry])).entries[0].error_code == 0
        producer = Producer(
            {"bootstrap.servers": running.address, "client.id": "fast", "throttle_cb": throttled.append, "linger.ms": 0}
        )
        producer.produce("t", bytes(50_000))
        assert producer.flush(10) == 0
        while not throttled:
            assert producer.poll(10)
        assert throttled[0].throttle_time > 30


@pytest.mark.parametrize("version", [5, 9, 13])
@pytest.mark.parametrize("acks", [-1, 0, 1])
def test_requests_that_take_a_route_are_metered_as_the_others_are(acks: int, version: int) -> None:
    routed, general = new_client(), new_client()
    general.is_routed = False
    mutes: list[list[float]] = []
    for client in (routed, general):
        set_quota(client.broker, {PRODUCE: 100})
        mutes.append([])
        client.broker.connection.mute = mutes[-1].append
    for _ in range(8):
        batch = batch_of(bytes(300))
        answer = routed.produce(batch=batch, acks=acks, version=version)
        assert answer == general.produce(batch=batch, acks=acks, version=version)
    assert routed.routed == 6
    assert mutes[0] == mutes[1] != []


def test_work_under_a_quota_gets_the_outcomes_of_its_steps(broker: Muted) -> None:
    set_quota(broker, {TIME: 10})
    request = Request(ApiKey.METADATA, 12, "client", broker.connection, MetadataRequest())
    closed: list[str] = []

    def work() -> Steps[MetadataResponse]:
        try:
            cluster_id = yield from elsewhere(lambda: "found elsewhere")
            return MetadataResponse(cluster_id=cluster_id)
        finally:
            closed.append("closed")

    assert at_once(broker.core.throttling.finish(request, 100, 0.0, work())).cluster_id == "found elsewhere"
    cancelled = broker.core.throttling.finish(request, 100, 0.0, work())
    next(cancelled)
    cancelled.close()
    assert closed == ["closed", "closed"]
