"""The tests of administration that sarama and kafka-go bring, as their modules have them, against this broker.

Both suites have an address of their own in the source: it is replaced by that of the broker. sarama's expects a cluster of
several nodes, and a proxy before each that breaks connections; the tests here break none.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from .conftest import need, run
from .exceptions import read_exceptions
from .servers import HeadwaterServer, running_server

SARAMA = "github.com/IBM/sarama@v1.61.1"
KAFKA_GO = "github.com/segmentio/kafka-go@v0.4.51"
SUITE_TIMEOUT_S = 240
KAFKA_VERSION = "4.1.0"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    with running_server(tmp_path_factory.mktemp("cluster"), "--nodes", "5") as server:
        yield server


def build_suite(directory: Path, module: str, source: str, before: str, after: str, *options: str) -> Path:
    """The suite as a program, beside its sources, with another address in one of them."""
    need("go")
    listed = json.loads(run(["go", "mod", "download", "-json", module]))
    target = directory / "module"
    shutil.copytree(listed["Dir"], target, copy_function=shutil.copyfile)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    text = (target / source).read_text()
    assert text.count(before) == 1
    (target / source).write_text(text.replace(before, after))
    run(["go", "test", "-c", *options, "-o", target / "suite", "."], cwd=target, timeout_s=SUITE_TIMEOUT_S)
    return target


def outcomes(target: Path, tests: str, left_out: Collection[str] = (), **environment: str) -> dict[str, str]:
    """PASS, FAIL or SKIP of each test. Fails if the suite does."""
    options = [f"-test.timeout={SUITE_TIMEOUT_S}s", f"-test.run={tests}"]
    options += [f"-test.skip=^({'|'.join(left_out)})$"] if left_out else []
    result = subprocess.run(
        [target / "suite", "-test.v", *options],
        cwd=target,
        env={**os.environ, "KAFKA_VERSION": KAFKA_VERSION, **environment},
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_S + 30,
        check=False,
    )
    found = re.findall(r"^--- (PASS|FAIL|SKIP): (\S+)", result.stdout, re.MULTILINE)
    assert result.returncode == 0, f"{found}\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
    return {name: outcome for outcome, name in found}


class NoProxies(BaseHTTPRequestHandler):
    """What sarama's suite asks of Toxiproxy, answered as if there were proxies that break nothing."""

    def do_GET(self) -> None:
        body = json.dumps({"name": self.path.rpartition("/")[2], "enabled": True}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        assert self.path == "/reset"
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def no_proxies() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), NoProxies) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_saramas_tests_of_administration(cluster: HeadwaterServer, tmp_path: Path) -> None:
    before = 'fmt.Sprintf("127.0.0.1:%d", 29090+i))'
    target = build_suite(tmp_path, SARAMA, "functional_test.go", before, f'"{cluster.address}")', "-tags", "functional")
    with no_proxies() as proxies:
        found = outcomes(target, "^TestFuncAdmin", left_out=read_exceptions("sarama"), TOXIPROXY_ADDR=proxies)
    assert found["TestFuncAdminQuotas"] == "PASS"
    assert set(found.values()) == {"PASS"}, found
    assert len(found) >= 15


def test_kafka_gos_test_of_quotas(cluster: HeadwaterServer, tmp_path: Path) -> None:
    before = 'newClient(TCP("localhost"))'
    target = build_suite(
        tmp_path, KAFKA_GO, "client_test.go", before, f'newClient(TCP("{cluster.address}"))', "-mod=mod"
    )
    assert outcomes(target, "^TestClientAlterClientQuotas$") == {"TestClientAlterClientQuotas": "PASS"}
