"""What a frame may make of memory and time: counts that lie, tags without end, strings without end."""

import struct

import pytest

from headwater.protocol.compiled import STRING_BYTES_MAX, decode, encode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.varint import uvarint

TOPICS = 50


def metadata(names: int) -> bytes:
    return encode(MetadataRequest([MetadataRequest.MetadataRequestTopic(name="x") for _ in range(names)]), 9)


def test_elements_are_counted_over_the_whole_message() -> None:
    assert len(decode(MetadataRequest, 9, metadata(TOPICS), 0, TOPICS)[0].topics) == TOPICS
    with pytest.raises(ProtocolError, match="more elements"):
        decode(MetadataRequest, 9, metadata(TOPICS), 0, TOPICS - 1)


def test_numbers_are_elements_too() -> None:
    """A hundred arrays of a few numbers are as much as one of many."""
    topics = [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic("t", [1, 2, 3]) for _ in range(TOPICS)]
    frame = encode(AddPartitionsToTxnRequest(v3_and_below_topics=topics), 3)
    assert decode(AddPartitionsToTxnRequest, 3, frame, 0, 4 * TOPICS)[0].v3_and_below_topics == topics
    with pytest.raises(ProtocolError, match="more elements"):
        decode(AddPartitionsToTxnRequest, 3, frame, 0, 4 * TOPICS - 1)


@pytest.mark.parametrize("count", [2, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 70) - 1])
def test_a_count_that_the_frame_cannot_hold_is_refused(count: int) -> None:
    with pytest.raises(ProtocolError):
        decode(MetadataRequest, 9, uvarint(count + 1) + b"\x02x\x00")


@pytest.mark.parametrize("count", [-2, -(1 << 31), 1 << 30])
def test_a_count_of_a_fixed_size_that_lies_is_refused(count: int) -> None:
    frame = struct.pack(">i", count) + b"\x00\x01x"
    if count < 0:  # null, as in Kafka: all topics
        assert decode(MetadataRequest, 1, frame)[0].topics is None
        return
    with pytest.raises(ProtocolError, match="too early"):
        decode(MetadataRequest, 1, frame)


def test_tagged_fields_are_elements_too() -> None:
    """Known ones that come again, and unknown ones, in a message and in a struct."""
    again = encode(FetchRequest(cluster_id="c"), 12)
    at = again.index(b"\x01\x00\x02\x02c")  # one tag: 0, of two bytes
    frame = again[:at] + uvarint(TOPICS) + again[at + 1 :] * TOPICS
    assert decode(FetchRequest, 12, frame, 0, TOPICS)[0].cluster_id == "c"
    with pytest.raises(ProtocolError, match="more elements"):
        decode(FetchRequest, 12, frame, 0, TOPICS - 1)
    unknown = metadata(0)[:-1] + uvarint(TOPICS) + b"\x63\x00" * TOPICS
    assert decode(MetadataRequest, 9, unknown, 0, TOPICS)[0].topics == []
    with pytest.raises(ProtocolError, match="more elements"):
        decode(MetadataRequest, 9, unknown, 0, TOPICS - 1)


def test_a_string_is_as_long_as_kafka_allows() -> None:
    def named(size: int) -> bytes:
        return encode(MetadataRequest([MetadataRequest.MetadataRequestTopic(name="x" * size)]), 9)

    assert len(decode(MetadataRequest, 9, named(STRING_BYTES_MAX))[0].topics[0].name) == STRING_BYTES_MAX
    with pytest.raises(ProtocolError, match="longer than 32767"):
        decode(MetadataRequest, 9, named(STRING_BYTES_MAX + 1))


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(MetadataRequest, 9, metadata(1).replace(b"x", b"\xff"))
