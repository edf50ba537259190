"""Requests that several steps make."""

from collections.abc import Callable
from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.records import Record, build_batch
from tests.security.matrix import message

from .side import Side


def batch(*values: bytes, **more: Any) -> bytes:
    return bytes(build_batch([Record(b"k", value, (), 1_795_000_000_000) for value in values], **more))


def produce(topic: str, data: bytes, partition: int = 0, transactional_id: str | None = None, acks: int = -1) -> Any:
    m = message(ApiKey.PRODUCE)

    def make(side: Side) -> Any:
        part = m.PartitionProduceData(partition, data)
        topic_data = m.TopicProduceData(name=topic, topic_id=side.known.get(topic, bytes(16)), partition_data=[part])
        return m(transactional_id, acks, 5000, [topic_data])

    return make


def fetch(topic: str, offset: int, isolation: int = 0, partition: int = 0) -> Any:
    m = message(ApiKey.FETCH)

    def make(side: Side) -> Any:
        part = m.FetchPartition(partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        wanted = m.FetchTopic(topic=topic, topic_id=side.known.get(topic, bytes(16)), partitions=[part])
        return m(
            max_wait_ms=10, min_bytes=1, max_bytes=1 << 20, isolation_level=isolation, session_epoch=-1, topics=[wanted]
        )

    return make


def same(key: ApiKey, *values: Any, **more: Any) -> Callable[[Side], Any]:
    return lambda side: message(key)(*values, **more)
