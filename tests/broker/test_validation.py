"""A plain batch is recognized in one expression, which allows nothing that the full checks refuse."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.broker.validation import RECORDS_AT_ONCE, check_header, plain_header, wants_timestamps
from headwater.protocol.compression import Compression
from headwater.protocol.errors import ApiError
from headwater.protocol.records import (
    CONTROL,
    HEADER,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    Record,
    build_batch,
    read_header,
    write_crc,
)
from headwater.storage.config import LogConfig

NOW_MS = 1_700_000_000_000
PLAIN = LogConfig()
FIELDS = ("length", "magic", "crc", "attributes", "last_offset_delta", "max_timestamp", "records_count")
PRODUCER_FIELDS = ("producer_id", "producer_epoch", "base_sequence")


def batch_of(count: int = 1, compression: Compression = Compression.NONE) -> bytearray:
    records = [Record(b"k", b"%d" % n, (), NOW_MS) for n in range(count)]
    return build_batch(records, compression=compression)


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("count", [1, 2, 100])
def test_nearly_every_batch_is_plain(compression: Compression, count: int) -> None:
    batch = batch_of(count, compression)
    assert plain_header(PLAIN, batch, NOW_MS) == read_header(batch)
    assert plain_header(PLAIN, memoryview(batch), NOW_MS) == read_header(batch)


@pytest.mark.parametrize(
    "config",
    [
        LogConfig(compact=True),
        LogConfig(log_append_time=True),
        LogConfig(timestamp_before_max_ms=1000),
        LogConfig(compression_type="zstd"),
        LogConfig(max_message_bytes=60),
        LogConfig(timestamp_after_max_ms=-1),
    ],
)
def test_what_a_topic_asks_of_single_records_is_left_to_the_full_checks(config: LogConfig) -> None:
    assert plain_header(config, batch_of(), NOW_MS) is None


def test_settings_that_are_changed_back_make_batches_plain_again() -> None:
    assert plain_header(replace(LogConfig(compact=True), compact=False), batch_of(), NOW_MS) is not None


@pytest.mark.parametrize("attributes", [CONTROL, TRANSACTIONAL, LOG_APPEND_TIME, 5, -1])
def test_special_batches_are_not_plain(attributes: int) -> None:
    batch = batch_of()
    batch[21:23] = attributes.to_bytes(2, "big", signed=True)
    write_crc(batch)
    assert plain_header(PLAIN, batch, NOW_MS) is None


def test_a_batch_with_very_many_records_is_not_plain() -> None:
    assert plain_header(PLAIN, batch_of(RECORDS_AT_ONCE), NOW_MS) is not None
    assert plain_header(PLAIN, batch_of(RECORDS_AT_ONCE + 1), NOW_MS) is None


@pytest.mark.parametrize("size", [0, 1, 60, 61, 69])
def test_a_part_of_a_batch_is_not_plain(size: int) -> None:
    assert plain_header(PLAIN, batch_of()[:size], NOW_MS) is None


@given(
    field=st.sampled_from([*FIELDS, *PRODUCER_FIELDS]),
    value=st.integers(-2, 9) | st.integers(-(2**15), 2**15 - 1),
    producer=st.tuples(st.integers(-1, 3), st.integers(-1, 2), st.integers(-1, 2)),
    has_crc=st.booleans(),
    count=st.integers(1, 3),
)
def test_what_is_plain_passes_the_full_checks(
    field: str, value: int, producer: tuple[int, int, int], has_crc: bool, count: int
) -> None:
    batch = batch_of(count)
    header = read_header(batch)._replace(**dict(zip(PRODUCER_FIELDS, producer, strict=True)))
    header = header._replace(**{field: value % 128 if field == "magic" else abs(value) if field == "crc" else value})
    HEADER.pack_into(batch, 0, *header)
    if has_crc:
        write_crc(batch)
    found = plain_header(PLAIN, batch, NOW_MS)
    try:
        checked = check_header(PLAIN, batch)
    except ApiError:
        assert found is None
    else:
        needs_more = wants_timestamps(PLAIN, checked, NOW_MS) or checked.attributes & ~7
        assert found == (None if needs_more else checked)


@given(st.data())
def test_no_flipped_bit_passes_for_plain(data: st.DataObject) -> None:
    """Except in the base offset and the leader epoch, which the broker writes itself."""
    batch = batch_of(2)
    position = data.draw(st.integers(8, len(batch) - 1).filter(lambda at: not 12 <= at < 16))
    batch[position] ^= 1 << data.draw(st.integers(0, 7))
    assert plain_header(PLAIN, batch, NOW_MS) is None
