"""The topic that carries the broker's counters to its planes: `__headwater_counters`, internal, with one partition.

Each record is a complete snapshot: a JSON object from names to numbers; the record's timestamp is its time. While there are
planes, one snapshot is written per second. The topic keeps an hour, and at most a few MiB. So a reader that needs the
present numbers reads the last record, and one that draws a curve reads them all.
"""

import json
from collections.abc import Mapping

from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from headwater.protocol.records import batches, records

TOPIC = "__headwater_counters"
INTERVAL_MS = 1000
CONFIGS: dict[str, str | None] = {
    "cleanup.policy": "delete",
    "retention.ms": str(3_600_000),
    "retention.bytes": str(4 << 20),
    "segment.bytes": str(1 << 20),
}
FETCH_BYTES = 1 << 20
FETCH_VERSION = 12  # the last version in which topics have names
LATEST = -1


class CountersError(RuntimeError):
    """The counters cannot be read. The message says why."""


def encode(numbers: Mapping[str, float]) -> bytes:
    return json.dumps(numbers, separators=(",", ":")).encode()


def decode(value: bytes) -> dict[str, float]:
    found: dict[str, float] = json.loads(value)
    return found


def end_request() -> ListOffsetsRequest:
    """Asks for the end of the topic."""
    partition = ListOffsetsRequest.ListOffsetsPartition(0, timestamp=LATEST)
    return ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(TOPIC, [partition])])


def end_offset(answer: ListOffsetsResponse) -> int:
    """The end of the topic; 0 if it does not exist yet. Raises CountersError."""
    partition = answer.topics[0].partitions[0]
    if partition.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return 0
    check(partition.error_code)
    return partition.offset


def fetch_request(offset: int) -> FetchRequest:
    """Asks for the records from an offset on, without waiting."""
    partition = FetchRequest.FetchPartition(0, fetch_offset=offset, partition_max_bytes=FETCH_BYTES)
    topic = FetchRequest.FetchTopic(topic=TOPIC, partitions=[partition])
    return FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=FETCH_BYTES, topics=[topic])


def last_numbers(answer: FetchResponse) -> dict[str, float]:
    """The numbers in the last fetched record; empty if there is no record. Raises CountersError."""
    partition = answer.responses[0].partitions[0]
    check(partition.error_code)
    values = [record.value for header, batch in batches(partition.records or b"") for record in records(header, batch)]
    return decode(bytes(values[-1])) if values and values[-1] is not None else {}


def check(code: int) -> None:
    if code:
        raise CountersError(f"{TOPIC} cannot be read: {ErrorCode(code).name}")
