"""Produce and Fetch: what is written is read, and nothing else."""

import errno
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.protocol.records import Record, batches, build_batch, records, write_crc
from headwater.storage.log import Log

from .harness import Harness


def test_what_is_produced_is_fetched() -> None:
    broker = Harness()
    broker.create_topic("t", 2)
    assert broker.produce("t", b"a", b"b").base_offset == 0
    assert broker.produce("t", b"c").base_offset == 2
    assert broker.produce("t", b"x", partition=1).base_offset == 0
    assert [r.value for r in broker.read_all("t")] == [b"a", b"b", b"c"]
    assert [r.value for r in broker.read_all("t", 1)] == [b"x"]


@pytest.mark.parametrize("version", range(3, 14))
def test_every_version_of_produce(version: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    batch = bytes(build_batch([Record(None, b"v", (), broker.clock.wall_ms())]))
    topic = ProduceRequest.TopicProduceData(
        broker.core.metadata.topics["t"].topic_id, "t", [ProduceRequest.PartitionProduceData(0, batch)]
    )
    answer = broker.call(ApiKey.PRODUCE, version, ProduceRequest(None, -1, 1000, [topic]))
    assert answer.responses[0].partition_responses[0].error_code == 0
    assert len(broker.read_all("t")) == 1


@pytest.mark.parametrize("version", range(4, 19))
def test_every_version_of_fetch(version: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"v")
    request = broker.fetch_request("t", 0)
    request.topics[0].topic_id = broker.core.metadata.topics["t"].topic_id
    answer = broker.call(ApiKey.FETCH, version, request)
    data = answer.responses[0].partitions[0]
    assert data.error_code == 0
    assert data.records
    assert data.high_watermark == 1


def test_an_acknowledgement_waits_for_the_disk_and_so_does_visibility() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.hold_syncs = True
    batch = build_batch([Record(None, b"v", (), broker.clock.wall_ms())])
    all_replicas = broker.produce_batch("t", batch)
    assert not all_replicas.is_done
    assert broker.fetch("t").records == b""
    assert broker.fetch("t").high_watermark == 0
    leader = broker.produce_batch("t", batch, acks=1)
    assert leader.is_done
    broker.sync()
    assert all_replicas.message.responses[0].partition_responses[0].error_code == 0
    assert broker.fetch("t").high_watermark == 2


def test_an_acknowledgement_waits_for_the_disk_though_another_partition_is_refused() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.hold_syncs = True
    batch = bytes(build_batch([Record(None, b"v", (), 1)]))
    data = [ProduceRequest.PartitionProduceData(partition, batch) for partition in (0, 7)]
    topics = [ProduceRequest.TopicProduceData(name="t", partition_data=data)]
    pending = broker.send(ApiKey.PRODUCE, 9, ProduceRequest(None, -1, 1000, topics))
    assert not pending.is_done
    broker.sync()
    answers = pending.message.responses[0].partition_responses
    assert [answer.error_code for answer in answers] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


def test_acks_0_has_no_answer_and_a_failure_closes() -> None:
    broker = Harness()
    broker.create_topic("t")
    batch = build_batch([Record(None, b"v", (), broker.clock.wall_ms())])
    assert broker.produce_batch("t", batch, acks=0).message is None
    assert len(broker.read_all("t")) == 1
    with pytest.raises(ProtocolError):
        broker.produce_batch("nothing", batch, acks=0)


def test_acks_2_is_refused() -> None:
    broker = Harness()
    broker.create_topic("t")
    answer = broker.produce_batch("t", build_batch([Record(None, b"v", (), 1)]), acks=2).message
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.INVALID_REQUIRED_ACKS


class TestIdempotence:
    def produce(
        self, broker: Harness, sequence: int, *, epoch: int = 0, producer: int = 5, count: int = 2
    ) -> ProduceResponse.PartitionProduceResponse:
        return broker.produce("t", *[b"v"] * count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)

    def test_a_batch_sent_again_gets_its_first_answer(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        for n in range(6):
            assert self.produce(broker, 2 * n).base_offset == 2 * n
        for n in range(1, 6):
            answer = self.produce(broker, 2 * n)
            assert (answer.error_code, answer.base_offset) == (0, 2 * n)
        assert len(broker.read_all("t")) == 12

    def test_a_gap_is_refused(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        self.produce(broker, 0)
        assert self.produce(broker, 4).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert self.produce(broker, 2).error_code == 0

    def test_a_first_batch_that_cannot_be_written_stays_the_first(self) -> None:
        """A client has up to five on the way. The second one would be taken, and the first refused when it comes again."""
        broker = Harness()
        broker.create_topic("t")
        broker.files.fault = lambda call, path: errno.ENOSPC if call == "write" and path.endswith(".log") else None
        assert self.produce(broker, 0).error_code == ErrorCode.KAFKA_STORAGE_ERROR
        broker.files.fault = None
        assert self.produce(broker, 2).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert self.produce(broker, 0).base_offset == 0
        assert self.produce(broker, 2).base_offset == 2

    def test_an_old_epoch_is_fenced_and_a_new_one_begins_at_0(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        self.produce(broker, 0)
        assert self.produce(broker, 2, epoch=1).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert self.produce(broker, 0, epoch=1).error_code == 0
        assert self.produce(broker, 2, epoch=0).error_code == ErrorCode.INVALID_PRODUCER_EPOCH

    def test_sequences_wrap(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        assert self.produce(broker, 2**31 - 2).error_code == 0
        assert self.produce(broker, 0).error_code == 0

    @pytest.mark.parametrize("clean", [True, False])
    def test_a_restart_remembers(self, clean: bool) -> None:
        broker = Harness()
        broker.create_topic("t")
        for n in range(4):
            self.produce(broker, 2 * n)
        broker.restart() if clean else broker.kill()
        assert self.produce(broker, 4).base_offset == 4
        assert self.produce(broker, 8).base_offset == 8
        assert self.produce(broker, 14).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    def test_a_repeat_waits_for_the_first_copy(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.hold_syncs = True
        batch = build_batch([Record(None, b"v", (), 1)], producer_id=5, producer_epoch=0, base_sequence=0)
        first, second = broker.produce_batch("t", batch), broker.produce_batch("t", batch)
        assert not second.is_done
        broker.sync()
        assert first.message.responses[0].partition_responses[0].base_offset == 0
        assert second.message.responses[0].partition_responses[0].base_offset == 0


def bad_batches() -> dict[str, tuple[bytes, ErrorCode]]:
    good = build_batch([Record(b"k", b"v" * 100, (), 1), Record(b"k", b"w", (), 2)])

    def changed(at: int, format_: str, value: int, *, crc: bool = True) -> bytes:
        batch = bytearray(good)
        struct.pack_into(format_, batch, at, value)
        if crc:
            write_crc(batch)
        return bytes(batch)

    return {
        "a wrong CRC": (changed(80, ">b", 1, crc=False), ErrorCode.CORRUPT_MESSAGE),
        "a count that is too high": (changed(57, ">i", 3), ErrorCode.INVALID_RECORD),
        "a count of 0": (changed(57, ">i", 0), ErrorCode.INVALID_RECORD),
        "a last offset that lies": (changed(23, ">i", 7), ErrorCode.INVALID_RECORD),
        "magic 1": (changed(16, ">b", 1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        "magic 7": (changed(16, ">b", 7), ErrorCode.CORRUPT_MESSAGE),
        "a length that is too long": (changed(8, ">i", 10_000), ErrorCode.CORRUPT_MESSAGE),
        "a negative length": (changed(8, ">i", -5), ErrorCode.CORRUPT_MESSAGE),
        "two batches": (bytes(good) * 2, ErrorCode.INVALID_RECORD),
        "half a batch": (bytes(good[:70]), ErrorCode.CORRUPT_MESSAGE),
        "a control batch": (changed(21, ">h", 0x20), ErrorCode.INVALID_RECORD),
        "an unknown compression": (changed(21, ">h", 6), ErrorCode.INVALID_RECORD),
        "a transaction without an id": (changed(21, ">h", 0x10), ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        "nothing": (b"", ErrorCode.INVALID_RECORD),
    }


@pytest.mark.parametrize("what", list(bad_batches()))
def test_bad_batches_are_refused_by_name(what: str) -> None:
    batch, error = bad_batches()[what]
    broker = Harness()
    broker.create_topic("t")
    answer = broker.produce_batch("t", batch).message.responses[0].partition_responses[0]
    assert answer.error_code == error
    assert answer.base_offset == -1
    assert broker.read_all("t") == []


@settings(max_examples=200)
@given(st.binary(max_size=300))
@example(bytes(16) + b"\x02" + bytes(5) + b"\x10")
def test_garbage_is_refused_by_name(garbage: bytes) -> None:
    broker = GARBAGE_BROKER
    answer = broker.produce_batch("t", garbage).message.responses[0].partition_responses[0]
    if len(garbage) > 22 and garbage[16] == 2 and garbage[22] & 0x10:
        # It says that it belongs to a transaction, but the request names none: it is refused before it is looked at.
        assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        return
    assert answer.error_code in (
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    )


GARBAGE_BROKER = Harness()
GARBAGE_BROKER.create_topic("t")


def test_limits_of_the_topic() -> None:
    broker = Harness()
    broker.create_topic("small", max_message_bytes="200")
    assert broker.produce("small", bytes(300)).error_code == ErrorCode.MESSAGE_TOO_LARGE
    broker.create_topic("compacted", cleanup_policy="compact")
    keyless = build_batch([Record(None, b"v", (), 1)])
    answer = broker.produce_batch("compacted", keyless).message.responses[0].partition_responses[0]
    assert answer.error_code == ErrorCode.INVALID_RECORD
    broker.create_topic("t")
    future = build_batch([Record(None, b"v", (), broker.clock.wall_ms() + 2 * 3_600_000)])
    answer = broker.produce_batch("t", future).message.responses[0].partition_responses[0]
    assert answer.error_code == ErrorCode.INVALID_TIMESTAMP


def test_log_append_time() -> None:
    broker = Harness()
    broker.create_topic("t", message_timestamp_type="LogAppendTime")
    broker.clock.advance(5000)
    answer = broker.produce("t", b"v")
    assert answer.log_append_time_ms == broker.clock.wall_ms()
    assert broker.read_all("t")[0].timestamp == broker.clock.wall_ms()


def test_a_full_disk_refuses_writes_and_serves_reads() -> None:
    broker = Harness(MemoryFiles(6 << 20))
    broker.create_topic("t")
    written = 0
    while (answer := broker.produce("t", bytes(200_000))).error_code == 0:
        written += 1
        assert written < 100
    assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert len(broker.read_all("t")) == written
    assert written > 3


def test_a_failed_sync_is_never_acknowledged() -> None:
    files = MemoryFiles()
    broker = Harness(files)
    broker.create_topic("t")
    broker.hold_syncs = True
    pending = broker.produce_batch("t", build_batch([Record(None, b"v", (), 1)]))
    files.fault = lambda call, path: errno.EIO if call == "sync" else None
    with pytest.raises(OSError, match="Input/output"):
        broker.sync()
    assert not pending.is_done


class TestFetchWaits:
    def test_a_fetch_waits_until_data_comes(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500))
        assert not pending.is_done
        broker.produce("t", b"v")
        assert pending.message.responses[0].partitions[0].records

    def test_a_fetch_waits_for_enough(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500, min_bytes=1000))
        broker.produce("t", b"v")
        assert not pending.is_done
        broker.produce("t", bytes(1000))
        assert pending.is_done

    def test_a_fetch_ends_when_its_time_is_up(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500))
        broker.advance(499)
        assert not pending.is_done
        broker.advance(1)
        assert pending.message.responses[0].partitions[0].records == b""
        assert not broker.core.partitions.watches

    def test_a_closed_connection_leaves_nothing(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500))
        broker.connection.closed()
        assert not broker.core.partitions.watches
        assert not broker.connection.waits

    def test_an_answered_fetch_leaves_no_timer(self) -> None:
        broker = Harness()
        broker.create_topic("t")

        def running() -> int:
            return sum(timer.callback is not None for _, _, timer in broker.core.timers.heap)

        before = running()
        pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500))
        assert running() == before + 1
        broker.produce("t", b"v")
        assert pending.is_done
        assert running() == before


class TestFetchLimits:
    def test_a_batch_larger_than_the_limit_still_comes(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", bytes(5000))
        broker.produce("t", bytes(5000))
        data = broker.fetch("t", max_bytes=10)
        assert 5000 < len(data.records or b"") < 6000

    def test_the_limit_holds_over_partitions(self) -> None:
        broker = Harness()
        broker.create_topic("t", 3)
        for partition in range(3):
            broker.produce("t", bytes(5000), partition=partition)
        request = broker.fetch_request("t", 0, max_bytes=6000)
        request.topics[0].partitions = [FetchRequest.FetchPartition(n, partition_max_bytes=1 << 20) for n in range(3)]
        answer = broker.call(ApiKey.FETCH, 12, request)
        sizes = [len(p.records) for p in answer.responses[0].partitions]
        assert sizes[0] > 5000
        assert sum(sizes) <= 6000

    @pytest.mark.parametrize(
        ("offset", "error"),
        [(-1, ErrorCode.OFFSET_OUT_OF_RANGE), (0, 0), (1, 0), (2, ErrorCode.OFFSET_OUT_OF_RANGE)],
    )
    def test_offsets_out_of_range(self, offset: int, error: int) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"v")
        assert broker.fetch("t", offset).error_code == error

    def test_epochs(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"v")
        broker.kill()
        epoch = broker.core.store.leader_epoch
        assert epoch > 0
        for claimed, error in ((epoch - 1, ErrorCode.FENCED_LEADER_EPOCH), (epoch + 1, ErrorCode.UNKNOWN_LEADER_EPOCH)):
            request = broker.fetch_request("t", 0)
            request.topics[0].partitions[0].current_leader_epoch = claimed
            answer = broker.call(ApiKey.FETCH, 12, request)
            assert answer.responses[0].partitions[0].error_code == error


class TestSessions:
    def full(self, broker: Harness) -> tuple[int, FetchResponse]:
        request = broker.fetch_request("t", 0, session_epoch=0)
        request.topics[0].partitions.append(FetchRequest.FetchPartition(1, partition_max_bytes=1 << 20))
        answer = broker.call(ApiKey.FETCH, 12, request)
        return answer.session_id, answer

    def test_an_incremental_fetch_tells_only_news(self) -> None:
        broker = Harness()
        broker.create_topic("t", 2)
        session_id, first = self.full(broker)
        assert session_id
        assert len(first.responses[0].partitions) == 2
        answer = broker.call(ApiKey.FETCH, 12, FetchRequest(session_id=session_id, session_epoch=1, max_bytes=1 << 20))
        assert answer.responses == []
        broker.produce("t", b"v", partition=1)
        answer = broker.call(ApiKey.FETCH, 12, FetchRequest(session_id=session_id, session_epoch=2, max_bytes=1 << 20))
        assert [p.partition_index for p in answer.responses[0].partitions] == [1]

    def test_a_new_log_start_is_news(self) -> None:
        broker = Harness()
        broker.create_topic("t", 2)
        session_id, _ = self.full(broker)
        broker.produce("t", b"v")
        request = broker.fetch_request("t", 1, session_id=session_id, session_epoch=1)
        assert broker.call(ApiKey.FETCH, 12, request).responses[0].partitions[0].log_start_offset == 0
        broker.core.store.advance_start({broker.core.partitions.log(broker.core.metadata.topics["t"], 0): 1})
        answer = broker.call(ApiKey.FETCH, 12, FetchRequest(session_id=session_id, session_epoch=2, max_bytes=1 << 20))
        assert [(p.partition_index, p.log_start_offset) for p in answer.responses[0].partitions] == [(0, 1)]

    def test_epochs_wrap(self) -> None:
        broker = Harness()
        broker.create_topic("t", 2)
        session_id, _ = self.full(broker)
        broker.core.sessions.sessions[session_id].epoch = 2**31 - 1
        for epoch in (2**31 - 1, 1):
            request = FetchRequest(session_id=session_id, session_epoch=epoch, max_bytes=1 << 20)
            assert broker.call(ApiKey.FETCH, 12, request).error_code == 0

    def test_forgotten_partitions_are_not_served(self) -> None:
        broker = Harness()
        broker.create_topic("t", 2)
        session_id, _ = self.full(broker)
        broker.produce("t", b"v", partition=1)
        forget = FetchRequest.ForgottenTopic(topic="t", partitions=[1])
        request = FetchRequest(
            session_id=session_id, session_epoch=1, max_bytes=1 << 20, forgotten_topics_data=[forget]
        )
        assert broker.call(ApiKey.FETCH, 12, request).responses == []

    def test_wrong_sessions_are_named(self) -> None:
        broker = Harness()
        broker.create_topic("t", 2)
        session_id, _ = self.full(broker)
        wrong_epoch = FetchRequest(session_id=session_id, session_epoch=5)
        assert broker.call(ApiKey.FETCH, 12, wrong_epoch).error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
        unknown = FetchRequest(session_id=session_id + 1, session_epoch=1)
        assert broker.call(ApiKey.FETCH, 12, unknown).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    def test_slots_are_bounded(self) -> None:
        broker = Harness(pairs={"max.incremental.fetch.session.cache.slots": 2})
        broker.create_topic("t", 2)
        assert all(self.full(broker)[0] for _ in range(2))
        assert self.full(broker)[0] == 0
        broker.clock.advance(121_000)
        assert self.full(broker)[0] != 0
        assert len(broker.core.sessions.sessions) == 2


@pytest.mark.parametrize("isolation_level", [0, 1])
@pytest.mark.parametrize(("offset", "values"), [(0, [b"durable"]), (1, []), (2, [])])
def test_a_fetch_ends_at_the_high_watermark(offset: int, values: list[bytes], isolation_level: int) -> None:
    """What is not on disk may be gone after a power cut: no consumer sees it before."""
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"durable")
    broker.hold_syncs = True
    held = broker.produce_batch("t", build_batch([Record(b"k", b"held", (), broker.clock.wall_ms())]))
    data = broker.fetch("t", offset, isolation_level=isolation_level)
    assert (data.error_code, data.high_watermark, data.last_stable_offset) == (0, 1, 1)
    found = [r.value for header, batch in batches(data.records or b"") for r in records(header, batch)]
    assert found == values
    assert not held.is_done
    broker.sync()
    assert held.message.responses[0].partition_responses[0].error_code == 0
    assert broker.fetch("t", offset, isolation_level=isolation_level).high_watermark == 2


def test_a_fetch_of_many_partitions_looks_only_at_what_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Harness()
    broker.create_topic("t", 100)
    wanted = FetchRequest.FetchTopic(
        topic="t", partitions=[FetchRequest.FetchPartition(n, partition_max_bytes=1 << 20) for n in range(100)]
    )
    size = len(build_batch([Record(b"k", b"v", (), broker.clock.wall_ms())]))
    body = FetchRequest(max_wait_ms=60_000, min_bytes=20 * size, max_bytes=1 << 20, session_epoch=-1, topics=[wanted])
    pending = broker.send(ApiKey.FETCH, 12, body)
    looks: list[int] = []
    bytes_between = Log.bytes_between

    def counted(log: Log, offset: int, *, committed: bool = False) -> int:
        looks.append(log.partition)
        return bytes_between(log, offset, committed=committed)

    monkeypatch.setattr(Log, "bytes_between", counted)
    for number in range(19):
        broker.produce("t", b"v", partition=number % 10)
    assert not pending.is_done
    assert len(looks) == 100 + 18
    broker.produce("t", b"v", partition=50)
    assert sum(len(p.records or b"") for p in pending.message.responses[0].partitions) == 20 * size
