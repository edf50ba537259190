"""Record batches: building, reading, counting, compressing, refusing."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.protocol.compression import Compression, CompressionError, compress, decompress
from headwater.protocol.records import (
    ABORT_MARKER,
    COMMIT_MARKER,
    HEADER_BYTES,
    CorruptBatchError,
    InvalidBatchError,
    Record,
    UnsupportedMagicError,
    batches,
    build_batch,
    check_batch,
    check_counts,
    control_record,
    counts_match,
    marker_of,
    read_header,
    records,
    set_append_time,
    write_crc,
)
from headwater.protocol.varint import varint

record_strategy = st.builds(
    Record,
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=300),
    headers=st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=10)), max_size=3),
    timestamp=st.integers(0, 2**48),
)


@given(st.lists(record_strategy, min_size=1, max_size=60), st.sampled_from(Compression), st.integers(0, 2**60))
def test_what_is_built_is_read_back(content: list[Record], compression: Compression, base_offset: int) -> None:
    batch = build_batch(content, base_offset=base_offset, compression=compression)
    header = check_batch(batch)
    check_counts(header, batch)
    found = list(records(header, batch))
    assert [(r.key, r.value, list(r.headers), r.timestamp) for r in found] == [
        (r.key, r.value, list(r.headers), r.timestamp) for r in content
    ]
    assert [r.offset for r in found] == list(range(base_offset, base_offset + len(content)))


@given(st.lists(st.integers(0, 20000), min_size=1, max_size=120), st.integers(-3, 3))
def test_counting_agrees_with_decoding(sizes: list[int], lie: int) -> None:
    batch = build_batch([Record(None, bytes(size), (), 1) for size in sizes])
    assert counts_match(batch, len(batch), len(sizes) + lie) == (lie == 0)


@given(st.lists(st.sampled_from([50, 51, 114, 178, 200, 242, 300, 20_000]), min_size=17, max_size=200))
def test_counting_where_only_part_of_the_length_is_the_same(sizes: list[int]) -> None:
    batch = build_batch([Record(None, bytes(size), (), 1) for size in sizes])
    assert counts_match(batch, len(batch), len(sizes))
    assert not counts_match(batch, len(batch), len(sizes) - 1)


def test_counting_many_records_of_one_size() -> None:
    batch = build_batch([Record(None, bytes(100), (), 1) for _ in range(10_000)])
    assert counts_match(batch, len(batch), 10_000)
    assert not counts_match(batch, len(batch), 9_999)
    assert not counts_match(batch, len(batch), 10_001)
    assert not counts_match(batch, len(batch) - 1, 10_000)


def lying(field_at: int, format_: str, value: int) -> bytearray:
    batch = build_batch([Record(b"k", b"v", (), 1), Record(b"k", b"w", (), 2)])
    struct.pack_into(format_, batch, field_at, value)
    write_crc(batch)
    return batch


@pytest.mark.parametrize(
    "batch",
    [lying(57, ">i", 3), lying(57, ">i", 0), lying(57, ">i", -1), lying(23, ">i", 5), lying(57, ">i", 2**31 - 1)],
)
def test_counts_that_lie_are_refused(batch: bytearray) -> None:
    with pytest.raises(InvalidBatchError):
        check_counts(check_batch(batch), batch)


def test_a_key_that_is_longer_than_its_record_is_refused() -> None:
    batch = build_batch([Record(b"key", b"value", (), 1)])
    key_length_at = HEADER_BYTES + 4  # after the record's length, attributes, timestamp and offset, a byte each
    assert batch[key_length_at] == varint(3)[0]
    batch[key_length_at] = varint(60)[0]
    write_crc(batch)
    with pytest.raises(CorruptBatchError, match="longer than its record"):
        list(records(read_header(batch), batch))


def test_damage_is_found() -> None:
    batch = build_batch([Record(b"k", b"v" * 50, (), 1)])
    for at in range(16, len(batch)):
        damaged = bytearray(batch)
        damaged[at] ^= 0x10
        with pytest.raises((CorruptBatchError, UnsupportedMagicError)):
            check_batch(damaged)
    for size in range(len(batch)):
        with pytest.raises(CorruptBatchError):
            check_batch(batch[:size])


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_are_refused(magic: int) -> None:
    batch = build_batch([Record(b"k", b"v", (), 1)])
    batch[16] = magic
    with pytest.raises(UnsupportedMagicError):
        check_batch(batch)


def test_a_partial_batch_at_the_end_is_left_out() -> None:
    first = build_batch([Record(b"a", b"1", (), 1)])
    second = build_batch([Record(b"b", b"2", (), 2)], base_offset=1)
    found = list(batches(bytes(first) + bytes(second[:-1])))
    assert [header.base_offset for header, _ in found] == [0]


def test_append_time_is_the_time_of_all_records() -> None:
    batch = build_batch([Record(b"a", b"1", (), 5), Record(b"a", b"1", (), 9)])
    set_append_time(batch, 1000)
    header = check_batch(batch)
    assert [r.timestamp for r in records(header, batch)] == [1000, 1000]


def test_control_batches() -> None:
    batch = build_batch([control_record(1, 7, 5)], attributes=0x30, producer_id=9, producer_epoch=1)
    header = check_batch(batch)
    assert header.is_control
    assert header.is_transactional
    assert next(records(header, batch)).key == b"\x00\x00\x00\x01"


@pytest.mark.parametrize(("marker", "commits"), [(ABORT_MARKER, False), (COMMIT_MARKER, True)])
def test_a_marker_commits_or_aborts(marker: int, commits: bool) -> None:
    batch = build_batch([control_record(marker, 7, 5)], attributes=0x30, producer_id=9, producer_epoch=1)
    assert marker_of(check_batch(batch), batch) == (commits, 7)


def test_another_control_batch_is_not_a_marker() -> None:
    batch = build_batch([control_record(2, 7, 5)], attributes=0x30, producer_id=9, producer_epoch=1)
    with pytest.raises(CorruptBatchError, match="not the marker"):
        marker_of(check_batch(batch), batch)


@given(st.binary(max_size=5000), st.sampled_from(Compression))
def test_compressions(data: bytes, compression: Compression) -> None:
    assert bytes(decompress(compression, compress(compression, data), 5000)) == data


@pytest.mark.parametrize("compression", [c for c in Compression if c is not Compression.NONE])
def test_a_bomb_is_refused(compression: Compression) -> None:
    bomb = compress(compression, bytes(10_000_000))
    with pytest.raises(CompressionError):
        decompress(compression, bomb, 1_000_000)


@given(st.sampled_from(Compression), st.binary(max_size=300))
def test_garbage_is_refused_or_read(compression: Compression, garbage: bytes) -> None:
    batch = build_batch([Record(b"k", b"v", (), 1)], compression=compression)
    damaged = batch[:HEADER_BYTES] + garbage
    struct.pack_into(">i", damaged, 8, len(damaged) - 12)
    write_crc(damaged)
    header = read_header(damaged)
    with contextlib.suppress(CorruptBatchError, CompressionError):
        list(records(header, damaged, 1_000_000))
