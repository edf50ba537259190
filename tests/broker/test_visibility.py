"""After an answer with acks=1 or 0 the records are seen, though the journal has not synced them yet."""

from typing import Any

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness, Pending

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL = -1, -2, -3, -4
TIME_MS = 1_699_999_999_000


def batch(*values: bytes, **more: Any) -> bytes:
    return bytes(build_batch([Record(b"k", value, (), TIME_MS + n) for n, value in enumerate(values)], **more))


@pytest.fixture
def broker() -> Harness:
    """One record is durable; two more are written with acks=1, acknowledged, and wait for the journal."""
    made = Harness()
    made.create_topic("t")
    made.create_topic("still")
    made.produce_batch("t", batch(b"1"))
    made.hold_syncs = True
    assert (
        made.produce_batch("t", batch(b"2", b"3"), acks=1).message.responses[0].partition_responses[0].base_offset == 1
    )
    return made


def list_offsets(broker: Harness, time_ms: int, version: int = 10, timeout_ms: int = 1000, **more: Any) -> Pending:
    wanted = ListOffsetsRequest.ListOffsetsTopic("t", [ListOffsetsRequest.ListOffsetsPartition(0, -1, time_ms)])
    return broker.send(ApiKey.LIST_OFFSETS, version, ListOffsetsRequest(-1, 0, [wanted], timeout_ms, **more))


def listed(pending: Pending) -> tuple[int, int]:
    found = pending.message.topics[0].partitions[0]
    return found.error_code, found.offset


def delete_records(broker: Harness, offset: int, timeout_ms: int = 1000) -> Pending:
    wanted = DeleteRecordsRequest.DeleteRecordsTopic("t", [DeleteRecordsRequest.DeleteRecordsPartition(0, offset)])
    return broker.send(ApiKey.DELETE_RECORDS, 2, DeleteRecordsRequest([wanted], timeout_ms))


def deleted(pending: Pending) -> tuple[int, int]:
    found = pending.message.topics[0].partitions[0]
    return found.error_code, found.low_watermark


@pytest.mark.parametrize(("time_ms", "offset"), [(LATEST, 3), (MAX_TIMESTAMP, 2), (TIME_MS + 1, 2)])
def test_the_end_is_answered_when_it_is_durable(broker: Harness, time_ms: int, offset: int) -> None:
    pending = list_offsets(broker, time_ms)
    assert not pending.is_done
    broker.sync()
    assert listed(pending) == (0, offset)


@pytest.mark.parametrize("time_ms", [EARLIEST, EARLIEST_LOCAL])
def test_the_beginning_does_not_wait(broker: Harness, time_ms: int) -> None:
    assert listed(list_offsets(broker, time_ms)) == (0, 0)


def test_another_topic_does_not_wait(broker: Harness) -> None:
    wanted = ListOffsetsRequest.ListOffsetsTopic("still", [ListOffsetsRequest.ListOffsetsPartition(0, -1, LATEST)])
    assert listed(broker.send(ApiKey.LIST_OFFSETS, 10, ListOffsetsRequest(-1, 0, [wanted]))) == (0, 0)


def test_what_comes_later_is_not_waited_for(broker: Harness) -> None:
    pending = list_offsets(broker, LATEST)
    broker.begin_sync()
    broker.produce_batch("t", batch(b"4"), acks=1)
    broker.end_sync()
    assert listed(pending) == (0, 3)


def test_a_group_on_its_way_to_the_disk_is_enough(broker: Harness) -> None:
    broker.begin_sync()
    pending = list_offsets(broker, LATEST)
    broker.end_sync()
    assert listed(pending) == (0, 3)


@pytest.mark.parametrize(("version", "waited_ms"), [(10, 2_000), (9, 30_000)])
def test_the_wait_for_offsets_ends(broker: Harness, version: int, waited_ms: int) -> None:
    pending = list_offsets(broker, LATEST, version, timeout_ms=2_000)
    broker.advance(waited_ms - 1)
    assert not pending.is_done
    broker.advance(1)
    assert listed(pending) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    broker.sync()  # the answer is given once


@pytest.mark.parametrize("offset", [-1, 3])
def test_records_are_deleted_when_they_are_durable(broker: Harness, offset: int) -> None:
    pending = delete_records(broker, offset)
    assert not pending.is_done
    broker.sync()
    assert deleted(pending) == (0, 3)
    assert listed(list_offsets(broker, EARLIEST)) == (0, 3)


def test_deleting_what_is_durable_does_not_wait(broker: Harness) -> None:
    assert deleted(delete_records(broker, 1)) == (0, 1)


def test_deleting_beyond_the_end_is_refused(broker: Harness) -> None:
    pending = delete_records(broker, 4)
    broker.sync()
    assert deleted(pending) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)


@pytest.mark.parametrize("offset", [-1, 3])
def test_the_wait_for_a_deletion_ends(broker: Harness, offset: int) -> None:
    pending = delete_records(broker, offset, timeout_ms=500)
    broker.advance(500)
    assert deleted(pending) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    broker.sync()
    assert listed(list_offsets(broker, EARLIEST)) == (0, 0)


def fetch(broker: Harness, offset: int, max_wait_ms: int = 0, max_bytes: int = 1 << 20) -> Pending:
    return broker.send(
        ApiKey.FETCH, 12, broker.fetch_request("t", offset, max_wait_ms=max_wait_ms, max_bytes=max_bytes)
    )


def fetched(pending: Pending) -> tuple[int, int]:
    found = pending.message.responses[0].partitions[0]
    return len(found.records), found.high_watermark


@pytest.mark.parametrize("offset", [0, 1])
def test_a_fetch_up_to_the_end_has_what_was_acknowledged(broker: Harness, offset: int) -> None:
    pending = fetch(broker, offset)
    assert not pending.is_done
    broker.sync()
    size, high_watermark = fetched(pending)
    assert high_watermark == 3
    assert size >= len(batch(b"2", b"3"))


def test_a_parked_fetch_whose_time_is_up_has_it_too(broker: Harness) -> None:
    pending = fetch(broker, 1, max_wait_ms=10)
    broker.advance(10)
    assert not pending.is_done
    broker.sync()
    assert fetched(pending)[1] == 3


def test_a_fetch_does_not_wait_for_what_was_never_answered() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce_batch("t", batch(b"1"))
    broker.hold_syncs = True
    assert not broker.produce_batch("t", batch(b"2"), acks=-1).is_done
    assert fetched(fetch(broker, 0)) == (len(batch(b"1")), 1)
    assert fetched(fetch(broker, 1)) == (0, 1)


def test_a_batch_sent_again_waits_for_its_first_copy_alone() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.hold_syncs = True
    sent = batch(b"1", producer_id=7, producer_epoch=0, base_sequence=0)
    first = broker.produce_batch("t", sent)
    broker.begin_sync()  # on its way to the disk: nothing else follows
    again = broker.produce_batch("t", sent)
    assert not again.is_done
    broker.end_sync()
    for pending in (first, again):
        assert pending.message.responses[0].partition_responses[0].base_offset == 0
