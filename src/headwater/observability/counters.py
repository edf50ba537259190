"""The broker's counters: totals of its occurrences, and present values. `metrics` says what each number means.

core = BrokerCore(...)
counters = Counters(core.occurrences)
numbers(core, counters)["headwater_produced_records"]
"""

from headwater.broker.core import BrokerCore
from headwater.broker.occurrences import Occurrences
from headwater.observability.metrics import METRICS, REQUESTS
from headwater.protocol.apis import APIS


class Counters:
    """Totals since they were attached, by name without `headwater_`; `requests` are by API key."""

    def __init__(self, occurrences: Occurrences) -> None:
        # Plain dictionaries with all keys, because they are updated with every request.
        self.requests = dict.fromkeys(APIS, 0)
        self.totals = {metric.name.removeprefix("headwater_"): 0 for metric in METRICS}
        self.attach(occurrences)

    def attach(self, occurrences: Occurrences) -> None:
        """Connects observers. They are plain functions, which a Signal calls fastest."""
        requests, totals = self.requests, self.totals

        @occurrences.request_handled.connect()
        def handled(api_key: int, connection: object) -> None:
            requests[api_key] += 1

        @occurrences.appended.connect()
        def appended(log: object, base_offset: int, records: int, size_bytes: int) -> None:
            totals["produced_batches"] += 1
            totals["produced_records"] += records
            totals["produced_bytes"] += size_bytes

        @occurrences.fetched.connect()
        def fetched(size_bytes: int) -> None:
            totals["fetched_bytes"] += size_bytes

        @occurrences.log_cleaned.connect()
        def cleaned(log: object, reason: object, offsets: int, size_bytes: int) -> None:
            totals["deleted_records"] += offsets
            totals["deleted_bytes"] += size_bytes

        @occurrences.connection_closed.connect()
        def closed(address: str) -> None:
            totals["connections"] -= 1

        @occurrences.connection_opened.connect()
        def opened(address: str) -> None:
            totals["connections"] += 1
            totals["connections_accepted"] += 1

        self.attach_counts(occurrences)

    def attach_counts(self, occurrences: Occurrences) -> None:
        """Connects observers that only count."""
        totals = self.totals

        def one(name: str) -> None:
            totals[name] += 1

        occurrences.connection_refused.connect(lambda address, reason: one("connections_refused"))
        occurrences.stranger_closed.connect(lambda address: one("strangers_closed"))
        occurrences.slow_reader_closed.connect(lambda address, reason: one("slow_readers_closed"))
        occurrences.handshake_failed.connect(lambda address, error: one("failed_handshakes"))
        occurrences.protocol_failed.connect(lambda address, reason: one("protocol_errors"))
        occurrences.logged_in.connect(lambda principal: one("successful_authentication"))
        occurrences.login_refused.connect(lambda address: one("failed_authentication"))
        occurrences.synced.connect(lambda sync, logs: one("journal_syncs"))
        occurrences.checkpointed.connect(lambda: one("checkpoints"))
        occurrences.log_compacted.connect(lambda log: one("compactions"))
        occurrences.throttled.connect(lambda address, reason: one("throttled"))
        occurrences.rebalanced.connect(lambda group_id, generation, members: one("rebalances"))
        occurrences.transaction_ended.connect(
            lambda transactional_id, committed: one("transactions_committed" if committed else "transactions_aborted")
        )


def numbers(core: BrokerCore, counters: Counters) -> dict[str, float]:
    """The present values of all METRICS."""
    topics = list(core.metadata.topics.values())
    now = {
        "topics": len(topics),
        "partitions": sum(topic.partitions for topic in topics),
        "groups": len(core.groups.groups),
        "journal_waiting_bytes": core.store.journal.waiting_bytes,
    }
    return {f"headwater_{name}": now.get(name, total) for name, total in counters.totals.items()}


def snapshot(core: BrokerCore, counters: Counters) -> dict[str, float]:
    """The numbers for the planes, including the requests of each API that was used."""
    requests = {
        f'{REQUESTS.name}{{api="{APIS[key].name}"}}': count for key, count in counters.requests.items() if count
    }
    return {**requests, **numbers(core, counters)}
