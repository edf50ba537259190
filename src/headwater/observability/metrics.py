"""The names and meanings of the broker's metrics, and their text format for Prometheus (0.0.4).

A number's key is its metric's name, with labels if it has any: `headwater_requests{api="Produce"}`. In the text, the name of
a total ends in `_total`. Nothing here imports the broker, so the planes' process stays small.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric's name, its help text, and whether it only grows."""

    name: str
    text: str
    is_total: bool = True


METRICS = (
    Metric("headwater_produced_records", "Records appended for clients"),
    Metric("headwater_produced_batches", "Record batches appended for clients"),
    Metric("headwater_produced_bytes", "Bytes of batches appended for clients"),
    Metric("headwater_fetched_bytes", "Bytes of batches sent to clients"),
    Metric("headwater_connections_accepted", "Connections accepted"),
    Metric("headwater_protocol_errors", "Connections closed because of what they sent"),
    Metric("headwater_connections_refused", "Connections closed because of a limit or a quota"),
    Metric("headwater_strangers_closed", "Strangers closed to make room for others"),
    Metric("headwater_slow_readers_closed", "Clients closed because they did not read"),
    Metric("headwater_failed_handshakes", "TLS handshakes that failed"),
    Metric("headwater_failed_authentication", "Refused logins"),
    Metric("headwater_successful_authentication", "Logins"),
    Metric("headwater_journal_syncs", "Syncs of the journal"),
    Metric("headwater_checkpoints", "Checkpoints of the logs"),
    Metric("headwater_compactions", "Logs made shorter by compaction"),
    Metric("headwater_deleted_records", "Offsets deleted by retention and DeleteRecords"),
    Metric("headwater_deleted_bytes", "Bytes of segments deleted by retention and DeleteRecords"),
    Metric("headwater_throttled", "Times that a client had to wait for memory or the journal, or for its quota"),
    Metric("headwater_rebalances", "New generations and epochs of groups"),
    Metric("headwater_transactions_committed", "Transactions committed"),
    Metric("headwater_transactions_aborted", "Transactions aborted"),
    Metric("headwater_connections", "Connections open now", is_total=False),
    Metric("headwater_topics", "Topics", is_total=False),
    Metric("headwater_partitions", "Partitions", is_total=False),
    Metric("headwater_groups", "Consumer groups with members", is_total=False),
    Metric("headwater_journal_waiting_bytes", "Bytes appended and not yet synced", is_total=False),
)

REQUESTS = Metric("headwater_requests", "Requests handled")
UP = Metric("headwater_up", "1 if the broker answers, otherwise 0", is_total=False)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus_text(numbers: Mapping[str, float]) -> str:
    """The numbers of known metrics, in their order. A metric without a number is left out."""
    return "".join(f"{line}\n" for metric in (UP, REQUESTS, *METRICS) for line in lines(metric, numbers))


def lines(metric: Metric, numbers: Mapping[str, float]) -> Iterator[str]:
    labelled = f"{metric.name}{{"
    found = [(key, value) for key, value in numbers.items() if key == metric.name or key.startswith(labelled)]
    if found:
        name = f"{metric.name}_total" if metric.is_total else metric.name
        yield f"# HELP {name} {metric.text}"
        yield f"# TYPE {name} {'counter' if metric.is_total else 'gauge'}"
        for key, value in found:
            yield f"{name}{key.removeprefix(metric.name)} {float(value)!r}"
