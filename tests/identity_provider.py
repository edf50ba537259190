"""An identity provider as a server: it has its keys at /keys, and gives tokens for client credentials at /token, expired ones at
/expired. To a machine in its own network it gives tokens without credentials, as Azure's metadata service does.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.tokens import claims, key_set, public_entry, token

METADATA_FIELDS = {"api-version", "client_id", "resource"}


class IdentityProvider(ThreadingHTTPServer):
    """What it does may be changed while it runs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.signs_with = "key-1"
        self.published = ["key-1"]
        self.lifetime_s = 3600
        self.granted: list[dict[str, str]] = []
        self.keys_read = 0

    def token(self, **more: Any) -> str:
        now_s = claims()["iat"]
        return token(self.signs_with, exp=now_s + self.lifetime_s, client_id="billing", **more)


class Requests(BaseHTTPRequestHandler):
    """Requests to the provider."""

    server: IdentityProvider

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/keys":
            self.server.keys_read += 1
            self.answer(key_set(*(public_entry(name) for name in self.server.published)))
        elif path == "/token" and parse_qs(query).keys() >= METADATA_FIELDS:
            self.grant(self.server.token())
        else:
            self.answer(b"{}", 400)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.granted.append({name: values[0] for name, values in form.items()})
        if self.path == "/token":
            self.grant(self.server.token())
        elif self.path == "/expired":
            self.grant(token(self.server.signs_with, exp=claims()["iat"] - 3600))
        else:
            self.answer(b"{}", 404)

    def grant(self, text: str) -> None:
        content = {"access_token": text, "token_type": "Bearer", "expires_in": self.server.lifetime_s}
        self.answer(json.dumps(content).encode())

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[IdentityProvider]:
    """A provider that runs within the block."""
    server = IdentityProvider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
