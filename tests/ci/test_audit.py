"""`make audit` fails where a package is vulnerable, and where it could look nothing up."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
VULNERABILITY = {
    "id": "GHSA-test",
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "summary": "it is broken",
    "affected": [
        {
            "package": {"name": "aiokafka", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


@contextmanager
def advisories(*, is_vulnerable: bool) -> Iterator[str]:
    """OSV's interface; one package has a vulnerability, or none has."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            short = {"id": VULNERABILITY["id"], "modified": VULNERABILITY["modified"]}
            found = [
                {"vulns": [short]} if is_vulnerable and query["package"]["name"] == "aiokafka" else {}
                for query in queries
            ]
            self.answer({"results": found})

        def do_GET(self) -> None:
            self.answer(VULNERABILITY)

        def answer(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(AUDIT), "--service-url", url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_found_is_success() -> None:
    with advisories(is_vulnerable=False) as url:
        result = audit(url)
    assert result.returncode == 0, result.stderr
    assert "packages audited, no known vulnerability" in result.stdout


def test_a_vulnerability_is_named() -> None:
    with advisories(is_vulnerable=True) as url:
        result = audit(url)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "aiokafka" in line
    assert "GHSA-test it is broken; fixed in 99.0" in line


def test_an_audit_of_nothing_fails_in_one_line() -> None:
    with socket.socket() as taken:  # bound and not listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        result = audit(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("audit: nothing was audited: ")
