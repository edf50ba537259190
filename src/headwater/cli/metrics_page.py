"""`/metrics` for Prometheus and `/healthz`, on a port of their own and only when asked for.

Each connection has a thread and a short time limit. Their number is small: one more closes the oldest. So connections
that send nothing keep no other client from asking, and the end of the broker waits for none of them.
"""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import ListenError
from headwater.observability.counters import METRICS, Counters, numbers
from headwater.protocol.apis import APIS


class BrokerCollector:
    """Reads the broker's numbers when they are asked for."""

    def __init__(self, core: BrokerCore) -> None:
        self.core = core
        self.counters = Counters(core.occurrences)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("headwater_requests", "Requests handled", labels=["api"])
        for key, count in self.counters.requests.items():
            if count:
                requests.add_metric([APIS[key].name], count)
        yield requests
        now = numbers(self.core, self.counters)
        for name, text, is_total in METRICS:
            yield (CounterMetricFamily if is_total else GaugeMetricFamily)(name, text, value=now[name])


CONNECTIONS_MAX = 16
REQUEST_S = 10.0  # a whole request and its answer
BACKLOG = 64


class QuietHandler(WSGIRequestHandler):
    """Neither logs each request nor looks up the client's name."""

    timeout = REQUEST_S

    def log_message(self, format: str, *args: Any) -> None:
        return

    def address_string(self) -> str:
        return str(self.client_address[0])


class BoundedServer(ThreadingMixIn, WSGIServer):
    """A thread per connection, at most CONNECTIONS_MAX, each for at most `request_s`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG
    request_s = REQUEST_S

    def __init__(self, address: tuple[str, int]) -> None:
        self.lock = threading.Lock()
        self.open: dict[socket.socket, threading.Timer] = {}  # the oldest first
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, QuietHandler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # WSGIServer's asks a name server for its own name
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        timer = threading.Timer(self.request_s, cut_off, [request])
        timer.daemon = True
        with self.lock:
            oldest = next(iter(self.open)) if len(self.open) >= CONNECTIONS_MAX else None
            if oldest is not None:
                self.open.pop(oldest).cancel()
            self.open[request] = timer
        if oldest is not None:
            cut_off(oldest)
        timer.start()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            timer = self.open.pop(request, None)
        if timer is not None:
            timer.cancel()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone, or was cut off, is not worth a log line."""


def cut_off(connection: socket.socket) -> None:
    """Wakes the thread that waits for the connection; that thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class MetricsServer:
    """Serves in threads until it is stopped. Raises ListenError when the address cannot be listened on."""

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
            self.server = BoundedServer((host, port))
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port} for metrics: {error.strerror}") from error
        self.server.set_app(app)
        self.address = host, self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, name="headwater-metrics", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Returns at once or within half a second, whatever clients do."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.open):
            cut_off(connection)
