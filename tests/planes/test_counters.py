"""The broker's numbers, from its memory to its planes: one record per second in an internal topic that stays small."""

import errno
import logging
from functools import partial
from typing import Any

import pytest

from headwater.observability.counters import snapshot
from headwater.planes.counters_topic import (
    CONFIGS,
    FETCH_VERSION,
    TOPIC,
    CountersError,
    end_offset,
    end_request,
    fetch_request,
    last_numbers,
)
from headwater.planes.counters_writer import CountersWriter
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness


@pytest.fixture
def broker() -> Harness:
    found = Harness()
    CountersWriter(found.core, partial(snapshot, found.core, found.counters)).start()
    return found


def end(broker: Harness) -> int:
    return end_offset(broker.call(ApiKey.LIST_OFFSETS, 7, end_request()))


def read(broker: Harness) -> dict[str, float]:
    """As a plane reads them."""
    return last_numbers(broker.call(ApiKey.FETCH, FETCH_VERSION, fetch_request(end(broker) - 1)))


def test_before_the_first_there_are_none() -> None:
    assert end(Harness()) == 0


def test_there_is_one_at_once_and_one_per_second(broker: Harness) -> None:
    broker.advance(1)
    assert end(broker) == 1
    broker.advance(10_000)
    assert end(broker) == 11


def test_the_last_record_has_the_numbers_of_now(broker: Harness) -> None:
    broker.advance(1)
    before = read(broker)
    broker.create_topic("t")
    for _ in range(3):
        broker.produce_batch("t", build_batch([Record(None, b"v")]))
    broker.advance(1000)
    after = read(broker)
    assert (before["headwater_produced_records"], after["headwater_produced_records"]) == (0, 3)
    assert after["headwater_topics"] == before["headwater_topics"] + 1
    assert after['headwater_requests{api="Produce"}'] == 3
    assert 'headwater_requests{api="Produce"}' not in before


def test_a_restarted_broker_continues_in_the_same_topic(broker: Harness) -> None:
    broker.advance(2001)
    written = end(broker)
    broker.restart()
    assert end(broker) == written
    CountersWriter(broker.core, partial(snapshot, broker.core, broker.counters)).start()
    broker.advance(1)
    assert end(broker) == written + 1


def test_the_topic_is_the_brokers_own(broker: Harness) -> None:
    broker.advance(1)
    wanted = [MetadataRequest.MetadataRequestTopic(name=TOPIC)]
    (topic,) = broker.call(ApiKey.METADATA, 9, MetadataRequest(wanted)).topics
    assert (topic.is_internal, len(topic.partitions)) == (True, 1)
    answer = broker.produce_batch(TOPIC, build_batch([Record(None, b"{}")])).message
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    deleted = broker.call(ApiKey.DELETE_TOPICS, 4, DeleteTopicsRequest(topic_names=[TOPIC]))
    assert deleted.responses[0].error_code != 0


def test_the_topic_is_small(broker: Harness) -> None:
    broker.advance(1)
    config = broker.core.partitions.log_config(broker.core.metadata.topics[TOPIC])
    assert (config.retention_ms, config.retention_bytes, config.segment_bytes) == (3_600_000, 4 << 20, 1 << 20)
    assert set(CONFIGS) == {"cleanup.policy", "retention.ms", "retention.bytes", "segment.bytes"}
    broker.advance(3 * 3_600_000)
    log = broker.core.partitions.log(broker.core.metadata.topics[TOPIC], 0)
    assert log.end_offset > 10_000
    assert sum(segment.size for segment in log.segments) < 8 << 20


def test_of_several_nodes_the_first_has_it() -> None:
    broker = Harness(pairs={"headwater.nodes": 3, "node.id": 5})
    CountersWriter(broker.core, dict).start()
    broker.advance(1)
    assert broker.core.metadata.replicas(broker.core.metadata.topics[TOPIC], 0) == [5]


def test_a_full_disk_costs_snapshots_and_says_so(
    broker: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.advance(1)
    written = end(broker)

    def refuse(*arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(broker.core.partitions, "append", refuse)
        broker.advance(3000)
    assert "cannot be written to __headwater_counters" in caplog.text
    broker.advance(1000)
    assert end(broker) == written + 1


def test_a_broker_that_has_failed_writes_no_more(broker: Harness) -> None:
    broker.advance(1)
    broker.core.durability.fail(OSError(errno.EIO, "the disk is gone"))
    broker.hold_syncs = True
    log = broker.core.partitions.log(broker.core.metadata.topics[TOPIC], 0)
    before = log.end_offset
    broker.advance(3000)
    assert log.end_offset == before


def test_what_cannot_be_read_is_an_error_with_the_topics_name(broker: Harness) -> None:
    broker.advance(1)
    with pytest.raises(CountersError, match="__headwater_counters cannot be read: OFFSET_OUT_OF_RANGE"):
        last_numbers(broker.call(ApiKey.FETCH, FETCH_VERSION, fetch_request(1000)))
