"""The text that Prometheus reads: read here by its own parser, where every number has the name that it always had."""

from prometheus_client.parser import text_string_to_metric_families

from headwater.observability.counters import Counters, snapshot
from headwater.observability.metrics import METRICS, REQUESTS, UP, prometheus_text
from tests.broker.harness import Harness

NAMES = [
    "headwater_up",
    "headwater_requests_total",
    "headwater_produced_records_total",
    "headwater_produced_batches_total",
    "headwater_produced_bytes_total",
    "headwater_fetched_bytes_total",
    "headwater_connections_accepted_total",
    "headwater_protocol_errors_total",
    "headwater_connections_refused_total",
    "headwater_strangers_closed_total",
    "headwater_slow_readers_closed_total",
    "headwater_failed_handshakes_total",
    "headwater_failed_authentication_total",
    "headwater_successful_authentication_total",
    "headwater_journal_syncs_total",
    "headwater_checkpoints_total",
    "headwater_compactions_total",
    "headwater_deleted_records_total",
    "headwater_deleted_bytes_total",
    "headwater_throttled_total",
    "headwater_rebalances_total",
    "headwater_transactions_committed_total",
    "headwater_transactions_aborted_total",
    "headwater_connections",
    "headwater_topics",
    "headwater_partitions",
    "headwater_groups",
    "headwater_journal_waiting_bytes",
]


def test_every_number_of_the_broker_is_there_under_its_name() -> None:
    broker = Harness()
    broker.create_topic("t", 3)
    found = {UP.name: 1.0, **snapshot(broker.core, broker.counters)}
    families = list(text_string_to_metric_families(prometheus_text(found)))
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert list(samples) == NAMES
    assert samples["headwater_partitions"].value == 3
    assert samples["headwater_requests_total"].labels == {"api": "CreateTopics"}
    assert {family.name: family.type for family in families} == {
        metric.name: "counter" if metric.is_total else "gauge" for metric in (UP, REQUESTS, *METRICS)
    }
    assert all(family.documentation for family in families)


def test_large_numbers_are_not_rounded() -> None:
    assert "headwater_produced_bytes_total 9007199254740991.0\n" in prometheus_text(
        {"headwater_produced_bytes": 2**53 - 1}
    )


def test_a_broker_that_does_not_answer_has_one_number() -> None:
    assert prometheus_text({UP.name: 0.0}).splitlines()[2:] == ["headwater_up 0.0"]


def test_requests_that_there_were_not_cross_to_nobody() -> None:
    broker = Harness()
    assert not any(
        key.startswith("headwater_requests") for key in snapshot(broker.core, Counters(broker.core.occurrences))
    )
