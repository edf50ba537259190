"""Requests with a great many entries: no turn of the loop has more than a slice of one, and all are answered rightly.

The clock here moves whenever it is read, so that eight steps fill a slice.
"""

from typing import Any

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.work import SLICE_MS
from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness, Pending
from tests.security.matrix import error_codes

ENTRIES = 200
STEPS_PER_SLICE = 8
NAMES = [f"t{n}" for n in range(ENTRIES)]


class TickingClock(ManualClock):
    """A clock that never stands still."""

    def steady_ms(self) -> float:
        self.now_steady_ms += SLICE_MS / STEPS_PER_SLICE
        return self.now_steady_ms


def message(key: ApiKey) -> Any:
    return request_class(key)


def turns_until_done(broker: Harness, pending: Pending) -> int:
    """How many turns of the loop it takes; each has one slice at most."""
    turns = 0
    work = broker.connection.work
    if work is not None:
        work.when_done(raise_error)
    while not pending.is_done:
        turns += 1
        assert turns < 10 * ENTRIES
        before = broker.clock.now_steady_ms
        broker.core.timers.run_due()
        assert broker.clock.now_steady_ms - before < 3 * SLICE_MS
        broker.sync()
    return turns


def raise_error(error: Exception | None) -> None:
    if error is not None:
        raise error


def long_requests() -> dict[str, tuple[int, int, Any]]:
    """By name: the API's key, the version, and a request with 200 entries."""
    key, m = ApiKey, {api: message(api) for api in ApiKey if api in APIS}
    numbers = list(range(ENTRIES))
    produce, metadata, commit = m[key.PRODUCE], m[key.METADATA], m[key.OFFSET_COMMIT]
    batch = bytes(build_batch([Record(b"k", b"v", (), 1_700_000_000_000)]))
    datas = [produce.PartitionProduceData(n, batch) for n in numbers]
    epoch, fetch = m[key.OFFSET_FOR_LEADER_EPOCH], m[key.OFFSET_FETCH]
    describe, alter = m[key.DESCRIBE_CONFIGS], m[key.INCREMENTAL_ALTER_CONFIGS]
    create, more, acl = m[key.CREATE_TOPICS], m[key.CREATE_PARTITIONS], m[key.CREATE_ACLS]
    scram = m[key.ALTER_USER_SCRAM_CREDENTIALS]
    added = m[key.ADD_PARTITIONS_TO_TXN]
    marker = m[key.WRITE_TXN_MARKERS]
    offsets, delete = m[key.LIST_OFFSETS], m[key.DELETE_RECORDS]
    found = {
        "Produce": (0, 9, produce(None, -1, 1000, [produce.TopicProduceData(name="big", partition_data=datas)])),
        "Metadata, creating": (3, 9, metadata([metadata.MetadataRequestTopic(name=n) for n in NAMES], True)),
        "Metadata of all": (3, 9, metadata(None, False)),
        "OffsetFetch": (9, 8, fetch(groups=[fetch.OffsetFetchRequestGroup(n, topics=None) for n in NAMES])),
        "OffsetForLeaderEpoch": (
            23,
            4,
            epoch(-1, [epoch.OffsetForLeaderTopic("big", [epoch.OffsetForLeaderPartition(n, -1, 0) for n in numbers])]),
        ),
        "DescribeConfigs": (32, 4, describe([describe.DescribeConfigsResource(2, n, None) for n in NAMES])),
        "IncrementalAlterConfigs": (
            44,
            1,
            alter([alter.AlterConfigsResource(2, n, [alter.AlterableConfig("retention.ms", 0, "5")]) for n in NAMES]),
        ),
        "CreateTopics": (19, 7, create([create.CreatableTopic(f"new-{n}", 1, 1) for n in numbers], 1000)),
        "DeleteTopics": (20, 5, m[key.DELETE_TOPICS](topic_names=NAMES)),
        "CreatePartitions": (37, 3, more([more.CreatePartitionsTopic(n, 2, None) for n in NAMES], 1000)),
        "CreateAcls": (30, 3, acl([acl.AclCreation(2, n, 3, "User:a", "*", 3, 3) for n in NAMES])),
        "AlterUserScramCredentials": (
            51,
            0,
            scram([], [scram.ScramCredentialUpsertion(n, 1, 4096, b"salt", b"hashed") for n in NAMES]),
        ),
        "DescribeGroups": (15, 5, m[key.DESCRIBE_GROUPS](NAMES)),
        "ConsumerGroupDescribe": (69, 0, m[key.CONSUMER_GROUP_DESCRIBE](NAMES)),
        "DeleteGroups": (42, 2, m[key.DELETE_GROUPS](NAMES)),
        "DescribeTransactions": (65, 0, m[key.DESCRIBE_TRANSACTIONS](NAMES)),
        "DescribeProducers": (
            61,
            0,
            m[key.DESCRIBE_PRODUCERS]([m[key.DESCRIBE_PRODUCERS].TopicRequest("big", numbers)]),
        ),
        "DescribeTopicPartitions": (75, 0, m[key.DESCRIBE_TOPIC_PARTITIONS]()),
        "DescribeLogDirs": (35, 4, m[key.DESCRIBE_LOG_DIRS](None)),
        "ElectLeaders": (43, 2, m[key.ELECT_LEADERS](0, [m[key.ELECT_LEADERS].TopicPartitions("big", numbers)])),
        "AddPartitionsToTxn": (
            24,
            3,
            added(
                v3_and_below_transactional_id="tx",
                v3_and_below_producer_id=1,
                v3_and_below_topics=[added.AddPartitionsToTxnTopic("big", numbers)],
            ),
        ),
        "WriteTxnMarkers": (
            27,
            1,
            marker([marker.WritableTxnMarker(99, 0, False, [marker.WritableTxnMarkerTopic("big", numbers)])]),
        ),
        "ListOffsets": (
            2,
            7,
            offsets(
                -1, 0, [offsets.ListOffsetsTopic("big", [offsets.ListOffsetsPartition(n, -1, 5) for n in numbers])]
            ),
        ),
        "DeleteRecords": (
            21,
            2,
            delete([delete.DeleteRecordsTopic("big", [delete.DeleteRecordsPartition(n, 0) for n in numbers])], 1000),
        ),
        "OffsetCommit": (
            8,
            8,
            commit(
                "g",
                topics=[
                    commit.OffsetCommitRequestTopic(
                        name="big", partitions=[commit.OffsetCommitRequestPartition(n, 1) for n in numbers]
                    )
                ],
            ),
        ),
    }
    return found


ANSWERED_WITH_ERRORS = {
    "ConsumerGroupDescribe",
    "DeleteGroups",
    "DescribeTransactions",
    "ElectLeaders",
    "AddPartitionsToTxn",
}


@pytest.mark.parametrize("name", list(long_requests()))
def test_a_long_request_is_served_in_slices(name: str) -> None:
    key, version, body = long_requests()[name]
    broker = Harness(clock=TickingClock(), pairs={"super.users": "User:admin"})
    broker.connection.principal = "User:admin"
    topics = message(ApiKey.CREATE_TOPICS)
    broker.send(ApiKey.CREATE_TOPICS, 7, topics([topics.CreatableTopic("big", ENTRIES, 1)], 1000))
    if name != "Metadata, creating":
        wanted = [topics.CreatableTopic(topic, 1, 1) for topic in NAMES]
        turns_until_done(broker, broker.send(ApiKey.CREATE_TOPICS, 7, topics(wanted, 1000)))
        broker.connection.work = None
    pending = broker.send(key, version, body)
    assert broker.connection.work is not None  # the shell handles nothing else of the connection
    assert turns_until_done(broker, pending) >= ENTRIES / STEPS_PER_SLICE - 3
    codes = list(error_codes(pending.message))
    if name not in ANSWERED_WITH_ERRORS:
        assert set(codes) <= {0}


@pytest.mark.parametrize("waits", [False, True])
def test_a_fetch_of_a_great_many_partitions_is_served_in_slices(waits: bool) -> None:
    broker = Harness(clock=TickingClock())
    topics, m = message(ApiKey.CREATE_TOPICS), message(ApiKey.FETCH)
    broker.call(ApiKey.CREATE_TOPICS, 7, topics([topics.CreatableTopic("big", 1000, 1)], 1000))
    broker.produce("big", b"v", partition=700)
    partitions = [m.FetchPartition(n, fetch_offset=0, partition_max_bytes=1 << 20) for n in range(1000)]
    wanted = [m.FetchTopic(topic="big", partitions=partitions)]
    body = m(max_wait_ms=100, min_bytes=1 << 20 if waits else 1, max_bytes=1 << 20, session_epoch=-1, topics=wanted)
    pending = broker.send(ApiKey.FETCH, 12, body)
    assert turns_until_done(broker, pending) >= 1000 / STEPS_PER_SLICE
    data = {p.partition_index: p for p in pending.message.responses[0].partitions}
    assert len(data) == 1000
    assert [number for number, p in data.items() if p.records] == [700]


def test_a_large_frame_is_decoded_in_slices() -> None:
    broker = Harness(clock=TickingClock())
    metadata = message(ApiKey.METADATA)
    wanted = [metadata.MetadataRequestTopic(name=f"{n:0200}") for n in range(400)]
    pending = broker.send(ApiKey.METADATA, 9, metadata(wanted, False))
    assert broker.counters.requests[ApiKey.METADATA] == 0  # not yet decoded
    assert turns_until_done(broker, pending) >= 3 * 400 / STEPS_PER_SLICE  # decoding, handling, encoding
    assert {topic.error_code for topic in pending.message.topics} == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


def test_a_small_request_is_answered_at_once() -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t")
    assert broker.produce("t", b"v").error_code == 0
    assert broker.connection.work is None


def test_work_ends_with_its_connection() -> None:
    broker = Harness(clock=TickingClock())
    metadata = message(ApiKey.METADATA)
    broker.send(ApiKey.METADATA, 9, metadata([metadata.MetadataRequestTopic(name=n) for n in NAMES], True))
    broker.connection.closed()
    created = len(broker.core.metadata.topics)
    assert 0 < created < ENTRIES
    for _ in range(ENTRIES):
        broker.core.timers.run_due()
    assert len(broker.core.metadata.topics) == created


def test_a_name_that_is_asked_for_again_is_answered_once() -> None:
    """The answer may be a thousand times as large as the name."""
    broker = Harness()
    broker.create_topic("big", 100)
    metadata = message(ApiKey.METADATA)
    answer = broker.call(ApiKey.METADATA, 9, metadata([metadata.MetadataRequestTopic(name="big")] * 100, False))
    assert [len(topic.partitions) for topic in answer.topics] == [100]
    producers = message(ApiKey.DESCRIBE_PRODUCERS)
    answer = broker.call(ApiKey.DESCRIBE_PRODUCERS, 0, producers([producers.TopicRequest("big", [0] * 100)] * 100))
    assert [len(topic.partitions) for topic in answer.topics] == [1]
    describe = message(ApiKey.DESCRIBE_CONFIGS)
    answer = broker.call(ApiKey.DESCRIBE_CONFIGS, 4, describe([describe.DescribeConfigsResource(2, "big", None)] * 100))
    assert len(answer.results) == 1
    alter = message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    change = alter.AlterConfigsResource(2, "big", [alter.AlterableConfig("retention.ms", 0, "5")])
    answer = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, alter([change] * 2))
    assert {result.error_code for result in answer.responses} == {ErrorCode.INVALID_REQUEST}


def test_what_one_request_may_change_is_bounded_as_in_kafka() -> None:
    broker = Harness(pairs={"super.users": "User:admin"})
    broker.connection.principal = "User:admin"
    create = message(ApiKey.CREATE_TOPICS)
    answer = broker.call(ApiKey.CREATE_TOPICS, 7, create([create.CreatableTopic(n, 5001, 1) for n in "ab"], 1000))
    assert {topic.error_code for topic in answer.topics} == {ErrorCode.POLICY_VIOLATION}
    assert broker.core.metadata.topics == {}
    acls = message(ApiKey.CREATE_ACLS)
    creations = [acls.AclCreation(2, f"t{n}", 3, "User:a", "*", 3, 3) for n in range(10_001)]
    answer = broker.call(ApiKey.CREATE_ACLS, 3, acls(creations))
    assert {result.error_code for result in answer.results} == {ErrorCode.POLICY_VIOLATION}
    for part in (creations[:6000], creations[6000:]):
        assert {result.error_code for result in broker.call(ApiKey.CREATE_ACLS, 3, acls(part)).results} == {0}
    delete = message(ApiKey.DELETE_ACLS)
    answer = broker.call(ApiKey.DELETE_ACLS, 3, delete([delete.DeleteAclsFilter(2, None, 1, None, None, 1, 1)]))
    assert answer.filter_results[0].error_code == ErrorCode.POLICY_VIOLATION
    assert len(broker.core.metadata.acls.entries) == 10_001
