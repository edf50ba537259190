"""A log that cannot be read costs its own partition only: it answers KAFKA_STORAGE_ERROR, and all others are served."""

import errno
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import CONTROL, Record, batches, build_batch, read_marker, records
from tests.broker.harness import Harness
from tests.broker.transactional import READ_COMMITTED, Producer, committed_values

LENGTH_AT, MAGIC_AT = 8, 16
EARLIER, LATER = 1_700_000_000_000, 1_700_000_001_000


def harness(*, restarted: bool = True) -> Harness:
    """A broker whose topic `t` has two partitions of two batches each; it has been stopped and started again."""
    broker = Harness()
    broker.create_topic("t", 2)
    for partition in (0, 1):
        broker.produce("t", b"first", partition=partition)
        broker.clock.advance(1000)
        broker.produce("t", b"second", partition=partition)
    if restarted:
        broker.restart()
    return broker


def overwrite(broker: Harness, position: int, content: bytes) -> None:
    """Damages the first partition's file while its log is open."""
    broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    broker.files.open("data/t-0/00000000000000000000.log").write([content], position)


def flip_length(broker: Harness) -> None:
    overwrite(broker, LENGTH_AT, b"\x7f\0\0\0")


def flip_magic(broker: Harness) -> None:
    overwrite(broker, MAGIC_AT, b"\x09")


def flip_base_offset(broker: Harness) -> None:
    """No CRC covers it."""
    overwrite(broker, 0, b"\x01")


def failing_disk(broker: Harness) -> None:
    def fault(call: str, path: str) -> int | None:
        return errno.EIO if "t-0" in path and call in ("read", "open", "list", "write") else None

    broker.files.fault = fault


DAMAGES: list[Callable[[Harness], None]] = [flip_length, flip_magic, flip_base_offset, failing_disk]


def fetched(broker: Harness, isolation_level: int = 0, **more: Any) -> dict[int, tuple[int, bool]]:
    """One Fetch of both partitions: {partition: (error code, whether there are records)}."""
    partitions = [FetchRequest.FetchPartition(n, fetch_offset=0, partition_max_bytes=1 << 20) for n in (0, 1)]
    request = FetchRequest(
        topics=[FetchRequest.FetchTopic(topic="t", partitions=partitions)],
        max_bytes=1 << 20,
        session_epoch=-1,
        isolation_level=isolation_level,
        **more,
    )
    answer = broker.call(ApiKey.FETCH, 12, request)
    return {p.partition_index: (p.error_code, bool(p.records)) for p in answer.responses[0].partitions}


@pytest.mark.parametrize("isolation_level", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_fetch_reads_the_sound_partitions(damage: Callable[[Harness], None], isolation_level: int) -> None:
    broker = harness()
    damage(broker)
    assert fetched(broker, isolation_level) == {0: (ErrorCode.KAFKA_STORAGE_ERROR, False), 1: (0, True)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_look_ups_by_time_answer_for_the_sound_partitions(damage: Callable[[Harness], None]) -> None:
    broker = harness()
    damage(broker)
    for timestamp in (EARLIER, -3):
        partitions = [ListOffsetsRequest.ListOffsetsPartition(n, -1, timestamp) for n in (0, 1)]
        request = ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic("t", partitions)])
        answer = broker.call(ApiKey.LIST_OFFSETS, 8, request)
        codes = [p.error_code for p in answer.topics[0].partitions]
        assert codes == [ErrorCode.KAFKA_STORAGE_ERROR, 0], timestamp


def test_a_log_that_cannot_be_opened_refuses_every_request_and_only_its_own() -> None:
    broker = harness()
    failing_disk(broker)
    now = broker.clock.wall_ms()
    data = [ProduceRequest.PartitionProduceData(n, bytes(build_batch([Record(b"k", b"v", (), now)]))) for n in (0, 1)]
    produce = ProduceRequest(None, -1, 1000, [ProduceRequest.TopicProduceData(name="t", partition_data=data)])
    answer = broker.call(ApiKey.PRODUCE, 9, produce)
    expected = [ErrorCode.KAFKA_STORAGE_ERROR, 0]
    assert [p.error_code for p in answer.responses[0].partition_responses] == expected
    ends = [OffsetForLeaderEpochRequest.OffsetForLeaderPartition(n, -1, 0) for n in (0, 1)]
    epochs = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderEpochRequest.OffsetForLeaderTopic("t", ends)])
    answer = broker.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, 3, epochs)
    assert [p.error_code for p in answer.topics[0].partitions] == expected
    wanted = [DeleteRecordsRequest.DeleteRecordsPartition(n, 1) for n in (0, 1)]
    delete = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic("t", wanted)], 1000)
    answer = broker.call(ApiKey.DELETE_RECORDS, 2, delete)
    assert [p.error_code for p in answer.topics[0].partitions] == expected
    answer = broker.call(ApiKey.DESCRIBE_LOG_DIRS, 1, DescribeLogDirsRequest(topics=None))
    assert {p.partition_index for t in answer.results[0].topics if t.name == "t" for p in t.partitions} == {1}


def test_a_waiting_fetch_of_a_damaged_log_is_answered_when_another_grows() -> None:
    broker = harness()
    broker.produce("t", b"open", partition=0, producer_id=5, producer_epoch=0, base_sequence=0)
    partitions = [FetchRequest.FetchPartition(n, fetch_offset=3 - n, partition_max_bytes=1 << 20) for n in (0, 1)]
    request = FetchRequest(
        topics=[FetchRequest.FetchTopic(topic="t", partitions=partitions)],
        max_wait_ms=10_000,
        min_bytes=1,
        max_bytes=1 << 20,
        session_epoch=-1,
    )
    pending = broker.send(ApiKey.FETCH, 12, request)
    assert not pending.is_done
    failing_disk(broker)
    broker.produce("t", b"third", partition=1)
    answer = {p.partition_index: p for p in pending.message.responses[0].partitions}
    assert answer[1].records


def test_damage_is_named_once_with_its_file(caplog: pytest.LogCaptureFixture) -> None:
    broker = harness()
    flip_length(broker)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            fetched(broker)
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "data/t-0/00000000000000000000.log is damaged at byte 0" in errors[0]


def aborted_and_committed(files: MemoryFiles | None = None) -> Harness:
    """Two segments, of which the first has an aborted and a committed transaction; the broker has stopped."""
    broker = Harness(files)
    broker.create_topic("t")
    broker.create_topic("other")
    for name, commit in (("a", False), ("b", True)):
        producer = Producer(broker, name, 2)
        assert producer.init().error_code == 0
        assert producer.produce("t", name.encode()) == 0
        assert producer.end(commit=commit) == 0
    broker.core.partitions.log(broker.core.metadata.topics["t"], 0).roll()
    broker.produce("t", b"c")
    broker.core.close()
    return broker


@pytest.mark.parametrize("damage", ["lost", "empty", "another producer", "another offset", "zeros", "twice"])
def test_aborted_records_stay_aborted_with_a_damaged_index(damage: str) -> None:
    broker = aborted_and_committed()
    path = "data/t-0/00000000000000000000.txnindex"
    content = bytearray(read_file(broker.files, path))
    assert len(content) == 34
    file = broker.files.open(path)
    match damage:
        case "lost":
            broker.files.remove(path)
        case "empty":
            file.truncate(0)
        case "another producer":
            content[9] ^= 1
        case "another offset":
            content[25] ^= 4
        case "zeros":
            content = bytearray(len(content))
        case "twice":
            content *= 2
    if damage not in ("lost", "empty"):
        file.write([content], 0)
    broker.core = broker.open()
    assert committed_values(broker, "t") == [b"b", b"c"]
    broker.restart()
    assert committed_values(broker, "t") == [b"b", b"c"]


@pytest.mark.parametrize(
    "damaged_byte", [22, 70, -9]
)  # the first makes data of the marker, the last a commit of the abort
def test_aborted_records_stay_aborted_where_their_marker_and_what_vouches_for_the_index_are_damaged(
    damaged_byte: int,
) -> None:
    broker = aborted_and_committed()
    path = "data/t-0/00000000000000000000"
    log = broker.files.open(f"{path}.log")
    headers = [header for header, _ in batches(log.read(1 << 20, 0))]
    assert [header.is_control for header in headers] == [False, True, False, True]
    position = headers[0].size_bytes + damaged_byte + (headers[1].size_bytes if damaged_byte < 0 else 0)
    marker = log.read(headers[1].size_bytes, headers[0].size_bytes)
    assert read_marker(next(records(headers[1], marker))) == (False, 0)
    log.write([bytes([log.read(1, position)[0] ^ (CONTROL if damaged_byte == 22 else 1)])], position)
    sums = broker.files.open(f"{path}.sums")
    sums.write([b"\xff"], sums.size() - 1)
    index = broker.files.open(f"{path}.txnindex")
    index.write([b"\xff"], index.size())
    broker.core = broker.open()
    of_topic = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    aborted = of_topic.aborted_in(of_topic.segments[0]).ending_from(0)
    assert [(entry.producer_id, entry.first_offset) for entry in aborted] == [(headers[0].producer_id, 0)]
    data = broker.fetch("t", 0, isolation_level=READ_COMMITTED)
    assert [(a.producer_id, a.first_offset) for a in data.aborted_transactions or ()] == [(headers[0].producer_id, 0)]
    assert broker.fetch("t", 1, isolation_level=READ_COMMITTED).error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_a_start_that_builds_an_index_again_syncs_only_files_that_are_there() -> None:
    """The segment after it has no aborted transactions, no such file, and a batch that the journal does not have."""
    broker = Harness()
    broker.create_topic("t")
    producer = Producer(broker, "a", 2)
    assert producer.init().error_code == 0
    assert producer.produce("t", b"a") == 0
    assert producer.end(commit=False) == 0
    broker.core.partitions.log(broker.core.metadata.topics["t"], 0).roll()
    broker.hold_syncs = True
    broker.produce_batch("t", build_batch([Record(None, b"b", (), 1)]))
    broker.hold_syncs = False
    broker.files.open("data/t-0/00000000000000000000.txnindex").write([bytes(34)], 0)
    broker.kill()
    assert committed_values(broker, "t") == [b"b"]


@pytest.mark.parametrize("call", ["read", "truncate", "write", "rename"])
def test_aborted_records_stay_aborted_where_their_index_could_not_be_built(call: str) -> None:
    broker = aborted_and_committed()
    path = "data/t-0/00000000000000000000.txnindex"
    broker.files.open(path).write([bytes(34)], 0)
    broker.core = broker.open()
    broker.files.fault = lambda made, at: errno.EMFILE if made == call and at.startswith(path) else None
    for _ in range(2):
        data = broker.fetch("t", 0, isolation_level=READ_COMMITTED)
        assert data.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert not data.records
    broker.core.store.checkpoint()
    broker.files.fault = None
    assert committed_values(broker, "t") == [b"b", b"c"]
    broker.restart()
    assert committed_values(broker, "t") == [b"b", b"c"]


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_after_an_index_was_built_again_shows_no_aborted_record(seed: int) -> None:
    """Nothing vouches for the index then: what vouched is only an aid, and was not synced."""
    broker = aborted_and_committed(MemoryFiles(crashable=True))
    path = "data/t-0/00000000000000000000"
    broker.files.open(f"{path}.txnindex").write([bytes(34)], 0)
    broker.files.open(f"{path}.txnindex").sync()
    broker.core = broker.open()
    assert committed_values(broker, "t") == [b"b", b"c"]
    broker.core.store.abandon()
    broker.files.crash(Random(seed))
    broker.files.remove(f"{path}.sums")
    broker.core = broker.open()
    assert committed_values(broker, "t") == [b"b", b"c"]


@pytest.mark.parametrize("isolation_level", [0, READ_COMMITTED])
def test_no_batch_is_served_with_offsets_beyond_the_end(isolation_level: int) -> None:
    """Otherwise a client would continue at an offset that does not exist, and miss every record before it."""
    broker = harness()
    flip_base_offset(broker)
    data = broker.fetch("t", 0, isolation_level=isolation_level)
    assert data.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert not data.records
    after = broker.fetch("t", 1, isolation_level=isolation_level)
    assert after.error_code == 0
    assert [header.base_offset for header, _ in batches(after.records or b"")] == [1]
    assert broker.fetch("t", 0, partition=1, isolation_level=isolation_level).error_code == 0
