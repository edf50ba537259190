"""What is read from a URL, and what is not."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headwater.effects.fetch import FetchError, fetch, post_form
from tests.certificates import make_certificate


class Handler(BaseHTTPRequestHandler):
    """Answers by the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, headers, body = {
            "/keys?a=1": (200, {"Content-Length": "5"}, b"hello"),
            "/chunks": (200, {"Transfer-Encoding": "chunked"}, b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            "/endless": (200, {"Connection": "close"}, b"x" * 100_000),
            "/moved": (302, {"Location": "/keys?a=1", "Content-Length": "0"}, b""),
            "/": (204, {}, b""),
        }.get(self.path, (404, {"Content-Length": "0"}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "Connection" in headers

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"]))
        body = f"{self.headers['X']} {self.headers['Content-Type']} ".encode() + form
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_is_read(address: str) -> None:
    assert fetch(f"{address}/keys?a=1", 5) == b"hello"
    assert fetch(f"{address}/chunks", 5) == b"hello"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/keys?a=1", "more than 4 bytes"),
        ("/endless", "more than 4 bytes"),
        ("/moved", "the answer is 302"),
        ("", "the answer is 204"),
        ("/nothing", "the answer is 404"),
    ],
)
def test_what_is_not_read(address: str, path: str, says: str) -> None:
    with pytest.raises(FetchError, match=says):
        fetch(address + path, 4)


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_an_answer_that_comes_byte_by_byte_is_given_up(begin: bytes) -> None:
    """Each byte comes in time, but the answer does not end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1000)
                connection.sendall(begin)
                while not done.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(FetchError, match=r"longer than 0\.2 s"):
                fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/", 1 << 20, timeout_s=0.2)
        finally:
            done.set()
            thread.join()


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """The URL of a server that answers one request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            thread.join()


def test_an_answer_that_ends_too_early_is_refused() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello") as url,
        pytest.raises(FetchError, match="ends too early"),
    ):
        fetch(url, 100)


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority")
    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path, "server", authority))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"https://127.0.0.1:{server.server_port}/posted"
    try:
        trusted = post_form(url, "a=b", {"X": "1"}, 100, authorities=str(tmp_path / "authority.crt"))
        assert trusted == b"1 application/x-www-form-urlencoded a=b"
        with pytest.raises(FetchError, match="more than 4 bytes"):
            post_form(url, "a=b", {"X": "1"}, 4, authorities=str(tmp_path / "authority.crt"))
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
            post_form(url, "a=b", {}, 100)
        with pytest.raises(FetchError, match="No such file"):
            post_form(url, "a=b", {}, 100, authorities=str(tmp_path / "nowhere"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(FetchError, match=r"timed out|longer than"):
            fetch(url, 10, timeout_s=0.05)
    with pytest.raises(FetchError, match="refused"):
        fetch(url, 10)


def test_what_is_not_http_is_named() -> None:
    with answering(b"SSH-2.0-OpenSSH\r\n") as url, pytest.raises(FetchError, match="BadStatusLine"):
        fetch(url, 10)


def test_tls_is_checked(address: str) -> None:
    with pytest.raises(FetchError, match=r"SSL|WRONG_VERSION|wrong version"):
        fetch(address.replace("http:", "https:") + "/keys?a=1", 5)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "the keys"
    path.write_bytes(b"hello")
    url = f"file://{tmp_path}/the%20keys"
    assert fetch(url, 5) == b"hello"
    with pytest.raises(FetchError, match="more than 4 bytes"):
        fetch(url, 4)
    with pytest.raises(FetchError, match="No such file"):
        fetch(url + "x", 4)
