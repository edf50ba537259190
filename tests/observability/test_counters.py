"""Each occurrence of the broker is emitted where it happens, and counted."""

import pytest

from headwater.broker.occurrences import Occurrences
from headwater.bus.signal import Signal
from headwater.observability.counters import Counters, numbers
from headwater.observability.metrics import METRICS
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.storage.retention import Reason
from tests.broker.harness import Harness
from tests.broker.transactional import Producer
from tests.coordinators.test_membership import stable_group


def test_every_occurrence_is_counted() -> None:
    occurrences = Occurrences()
    Counters(occurrences)
    signals = {name: signal for name, signal in vars(occurrences).items() if isinstance(signal, Signal)}
    assert len(signals) > 15
    assert [name for name, signal in signals.items() if not len(signal)] == ["failed"]  # then nothing is left to count


def test_every_total_has_a_metric() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"v")
    broker.fetch("t", 0)
    found = numbers(broker.core, broker.counters)
    assert list(found) == [metric.name for metric in METRICS]
    assert {f"headwater_{name}" for name in broker.counters.totals} <= set(found)
    assert broker.counters.requests[ApiKey.PRODUCE] == 1
    assert found["headwater_produced_records"] == found["headwater_produced_batches"] == 1
    assert found["headwater_produced_bytes"] == found["headwater_fetched_bytes"] > 61
    assert found["headwater_topics"] == found["headwater_partitions"] == 1
    assert found["headwater_journal_syncs"] >= 2


def test_generations_of_groups() -> None:
    broker = Harness()
    rebalanced: list[tuple[str, int, int]] = []
    broker.core.occurrences.rebalanced.connect(lambda *what: rebalanced.append(what))
    stable_group(broker, 2)
    assert rebalanced[-1] == ("g", rebalanced[-1][1], 2)


@pytest.mark.parametrize("commit", [True, False])
def test_ends_of_transactions(commit: bool) -> None:
    broker = Harness()
    broker.create_topic("t")
    ended: list[tuple[str, bool]] = []
    broker.core.occurrences.transaction_ended.connect(lambda name, committed: ended.append((name, committed)))
    producer = Producer(broker, "tx")
    producer.init()
    assert producer.produce("t", b"1") == 0
    producer.send_end(commit=commit)
    broker.sync()
    assert ended == [("tx", commit)]


def test_records_deleted_by_a_client_and_by_retention() -> None:
    broker = Harness()
    cleaned: list[tuple[str, Reason, int, int]] = []
    broker.core.occurrences.log_cleaned.connect(
        lambda log, reason, offsets, size_bytes: cleaned.append((log.topic, reason, offsets, size_bytes))
    )
    broker.create_topic("t", retention_ms="1000")
    broker.create_topic("kept")
    for topic in ("t", "t", "t", "kept"):
        broker.produce(topic, b"v")
    size_bytes = broker.core.partitions.log(broker.core.metadata.topics["t"], 0).size_bytes
    wanted = DeleteRecordsRequest.DeleteRecordsPartition(0, 2)
    request = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic("t", [wanted])], 1000)
    assert broker.call(ApiKey.DELETE_RECORDS, 2, request).topics[0].partitions[0].error_code == 0
    assert cleaned == [("t", Reason.REQUEST, 2, 0)]
    broker.clock.advance(60_000)
    broker.core.apply_retention()
    assert cleaned[1:] == [("t", Reason.TIME, 1, size_bytes)]
    assert broker.counters.totals["deleted_records"] == 3
    assert broker.counters.totals["deleted_bytes"] == size_bytes


def test_an_observer_that_raises_keeps_nothing_from_happening(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness()

    def broken(log: object, base_offset: int, records: int, size_bytes: int) -> None:
        raise RuntimeError("a defect of an observer")

    broker.core.occurrences.appended.connect(broken)
    broker.create_topic("t")
    broker.produce("t", b"v")
    assert broker.counters.totals["produced_records"] == 1
    assert "a defect of an observer" in caplog.text
