"""What real clients ask a full broker for at once stays within the limit of elements."""

from typing import Any

import pytest

from headwater.broker.dispatch import REQUEST_ELEMENTS_MAX
from headwater.broker.metadata import PARTITIONS_MAX
from headwater.protocol.compiled import decode, encode_parts
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest

NAMES = [f"topic-{number}" for number in range(PARTITIONS_MAX)]
Group = OffsetFetchRequest.OffsetFetchRequestGroup
FULL = {
    "fetch": (
        12,
        FetchRequest(
            topics=[FetchRequest.FetchTopic(topic=n, partitions=[FetchRequest.FetchPartition(0)]) for n in NAMES]
        ),
    ),
    "list_offsets": (
        7,
        ListOffsetsRequest(
            -1, 0, [ListOffsetsRequest.ListOffsetsTopic(n, [ListOffsetsRequest.ListOffsetsPartition(0)]) for n in NAMES]
        ),
    ),
    "offset_commit": (
        9,
        OffsetCommitRequest(
            "g",
            topics=[
                OffsetCommitRequest.OffsetCommitRequestTopic(
                    name=n, partitions=[OffsetCommitRequest.OffsetCommitRequestPartition(0)]
                )
                for n in NAMES
            ],
        ),
    ),
    "offset_fetch": (
        8,
        OffsetFetchRequest(
            groups=[
                Group(
                    "g",
                    topics=[OffsetFetchRequest.OffsetFetchRequestTopics(name=n, partition_indexes=[0]) for n in NAMES],
                )
            ]
        ),
    ),
    "metadata": (12, MetadataRequest([MetadataRequest.MetadataRequestTopic(name=n) for n in NAMES])),
    "describe_configs": (
        4,
        DescribeConfigsRequest([DescribeConfigsRequest.DescribeConfigsResource(2, n, None) for n in NAMES]),
    ),
    "delete_topics": (5, DeleteTopicsRequest(topic_names=NAMES)),
}


@pytest.mark.parametrize("name", FULL)
def test_a_request_for_every_partition_of_a_full_broker_is_decoded(name: str) -> None:
    version, message = FULL[name]
    parts: list[Any] = []
    encode_parts(message, version, parts)
    decoded, _ = decode(type(message), version, bytearray(b"".join(parts)), 0, REQUEST_ELEMENTS_MAX)
    assert decoded == message
