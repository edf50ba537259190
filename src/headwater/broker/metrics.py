"""`/metrics` for Prometheus and `/healthz`, on a port of their own and only when asked for."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headwater.broker.core import BrokerCore
from headwater.broker.listeners import ListenError
from headwater.protocol.apis import APIS


class BrokerCollector:
    """Reads the core's numbers when they are asked for."""

    def __init__(self, core: BrokerCore) -> None:
        self.core = core

    def collect(self) -> Iterator[Metric]:
        core, statistics = self.core, self.core.statistics
        requests = CounterMetricFamily("headwater_requests", "Requests handled", labels=["api"])
        for key, count in list(statistics.requests.items()):
            requests.add_metric([APIS[key].name], count)
        yield requests
        for name, text, value in (
            ("headwater_produced_records", "Records appended for clients", statistics.produced_records),
            ("headwater_produced_batches", "Record batches appended for clients", statistics.produced_batches),
            ("headwater_produced_bytes", "Bytes of batches appended for clients", statistics.produced_bytes),
            ("headwater_fetched_bytes", "Bytes of batches sent to clients", statistics.fetched_bytes),
            ("headwater_connections_accepted", "Connections accepted", statistics.connections_accepted),
            ("headwater_protocol_errors", "Connections closed for what they sent", statistics.protocol_errors),
            ("headwater_connections_refused", "Connections closed at once: a limit", statistics.connections_refused),
            ("headwater_strangers_closed", "Strangers closed in favour of others", statistics.strangers_closed),
            ("headwater_slow_readers_closed", "Clients closed that did not read", statistics.slow_readers_closed),
            ("headwater_failed_handshakes", "TLS handshakes that failed", statistics.failed_handshakes),
            ("headwater_failed_authentication", "Refused logins", statistics.failed_authentications),
            ("headwater_successful_authentication", "Logins", statistics.successful_authentications),
            ("headwater_journal_syncs", "Syncs of the journal", statistics.journal_syncs),
            ("headwater_checkpoints", "Checkpoints of the logs", statistics.checkpoints),
        ):
            yield CounterMetricFamily(name, text, value=value)
        partitions = sum(topic.partitions for topic in list(core.metadata.topics.values()))
        for name, text, value in (
            ("headwater_connections", "Connections open now", statistics.connections),
            ("headwater_topics", "Topics", len(core.metadata.topics)),
            ("headwater_partitions", "Partitions", partitions),
            ("headwater_groups", "Consumer groups with members", len(core.groups.groups)),
            ("headwater_journal_waiting_bytes", "Bytes appended and not yet synced", core.store.journal.waiting_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class QuietHandler(WSGIRequestHandler):
    """Does not log each request."""

    def log_message(self, format: str, *args: Any) -> None:
        return


class MetricsServer:
    """Serves in a thread until it is stopped. Raises ListenError when the address cannot be listened on."""

    def __init__(self, core: BrokerCore, host: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(BrokerCollector(core))
        metrics = make_wsgi_app(registry)

        def app(environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environment.get("PATH_INFO")
            if path == "/metrics":
                return cast(Iterable[bytes], metrics(environment, start_response))
            if path == "/healthz":
                status, body = ("503 Service Unavailable", b"failed\n") if core.is_failed else ("200 OK", b"ok\n")
            else:
                status, body = "404 Not Found", b"there is /metrics and /healthz\n"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [body]

        try:
            self.server = make_server(host, port, app, handler_class=QuietHandler)
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port} for metrics: {error.strerror}") from error
        self.address = f"{host}:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, name="headwater-metrics", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
