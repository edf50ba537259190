"""Tokens for a client: asked for once in a while, and whatever goes wrong names the server and no secret."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from headwater.client.errors import AuthenticationError
from headwater.client.token_source import ClientCredentials, TokenSource
from headwater.effects.clock import ManualClock


class TokenServer(HTTPServer):
    """Answers with `content`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.asked: list[tuple[str, str, str]] = []
        self.status, self.content = 200, b""


class Requests(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.headers["Authorization"], self.headers["Content-Type"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[TokenServer]:
    running = TokenServer()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def source(server: TokenServer, scope: str = "") -> TokenSource:
    url = f"http://127.0.0.1:{server.server_port}/token?key=hidden"
    return TokenSource(ClientCredentials(url, "me:too", "s3cret", scope), ManualClock())


def answer(token: object, lifetime_s: object = None) -> bytes:
    return json.dumps({"access_token": token, "expires_in": lifetime_s}).encode()


def test_a_token_is_used_for_most_of_its_time(server: TokenServer) -> None:
    found = source(server, "a b")
    server.content = answer("x.y.z", 100)
    assert found.token() == found.token() == "x.y.z"
    basic = base64.b64encode(b"me%3Atoo:s3cret").decode()
    form = "grant_type=client_credentials&scope=a+b"
    assert server.asked == [(f"Basic {basic}", "application/x-www-form-urlencoded", form)]
    server.content = answer("p.q.r")
    assert isinstance(found.clock, ManualClock)
    found.clock.advance(79_999)
    assert found.token() == "x.y.z"
    found.clock.advance(1)
    assert found.token() == found.token() == "p.q.r"  # without a lifetime it is asked for each time
    assert [form for _, _, form in server.asked[1:]] == ["grant_type=client_credentials&scope=a+b"] * 2


def test_without_a_scope_none_is_asked_for(server: TokenServer) -> None:
    server.content = answer("x", True)
    assert source(server).token() == "x"
    assert server.asked[0][2] == "grant_type=client_credentials"


@pytest.mark.parametrize(
    ("status", "content", "says"),
    [
        (401, b"{}", "the answer is 401"),
        (302, b"", "the answer is 302"),
        (200, b"", "not JSON"),
        (200, b"[" * 100_000, "not JSON"),
        (200, b"[]", "no access_token"),
        (200, b"{}", "no access_token"),
        (200, answer(7), "no access_token"),
        (200, answer("a\r\nb"), "no access_token"),
        (200, answer(""), "no access_token"),
        (200, b" " * 300_000, "more than 262144"),
    ],
)
def test_what_goes_wrong_names_the_server(server: TokenServer, status: int, content: bytes, says: str) -> None:
    server.status, server.content = status, content
    found = source(server)
    with pytest.raises(AuthenticationError, match=says) as refused:
        found.token()
    assert f"no token from http://127.0.0.1:{server.server_port}/token: " in str(refused.value)
    assert "s3cret" not in f"{refused.value} {found!r}"
    assert "hidden" not in f"{refused.value} {found!r}"


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(AuthenticationError, match=f"127.0.0.1:{port}/: Connection refused"):
        TokenSource(ClientCredentials(f"http://127.0.0.1:{port}/", "me", "s3cret")).token()
