"""The metrics port: connections that send nothing keep nobody out, and do not hold up the end."""

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from headwater.broker.shell.listeners import ListenError
from headwater.broker.shell.ready import address_text
from headwater.cli.metrics_page import CONNECTIONS_MAX, BoundedServer, MetricsServer
from tests.broker.harness import Harness


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def metrics(harness: Harness) -> Iterator[MetricsServer]:
    server = MetricsServer(harness.core, "127.0.0.1", 0)
    yield server
    server.stop()


def connect(server: MetricsServer) -> socket.socket:
    host, port = server.address
    return socket.create_connection((host, int(port)), 20)


def get(server: MetricsServer, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address_text(*server.address)}{path}", timeout=20) as answer:
        body: bytes = answer.read()
        return body


def test_connections_that_send_nothing_keep_nobody_out(metrics: MetricsServer) -> None:
    idle = [connect(metrics) for _ in range(5 * CONNECTIONS_MAX)]
    for each in idle:
        each.sendall(b"GET /heal")
    assert get(metrics, "/healthz") == b"ok\n"
    assert b"headwater_connections_accepted_total" in get(metrics, "/metrics")
    # The oldest was cut off for the others.
    assert idle[0].recv(1) == b""
    assert len(metrics.server.open) <= CONNECTIONS_MAX
    for each in idle:
        each.close()


def test_a_request_has_an_end(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedServer, "request_s", 0.2)
    server = MetricsServer(harness.core, "127.0.0.1", 0)
    with connect(server) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert slow.recv(1) == b""
    server.stop()


def test_it_ends_whatever_clients_do(harness: Harness) -> None:
    server = MetricsServer(harness.core, "127.0.0.1", 0)
    with connect(server) as idle, connect(server) as half:
        half.sendall(b"GET")
        assert get(server, "/healthz") == b"ok\n"
        server.stop()
        assert idle.recv(1) == b""
        assert half.recv(1) == b""
        with pytest.raises(OSError):
            connect(server)


def test_an_address_in_use(metrics: MetricsServer, harness: Harness) -> None:
    with pytest.raises(ListenError, match="in use"):
        MetricsServer(harness.core, "127.0.0.1", metrics.address[1])


def test_refused_logins_are_counted(metrics: MetricsServer, harness: Harness) -> None:
    for _ in range(7):
        harness.core.occurrences.login_refused.emit("10.0.0.1")
    assert b"headwater_failed_authentication_total 7.0" in get(metrics, "/metrics")
