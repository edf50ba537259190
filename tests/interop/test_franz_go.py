"""franz-go's own suite, as its module brings it, against this broker: once in peace, once while the broker is killed.

A cut of it (fewer records) runs in CI; TEST_INTEROP=full runs it as its authors do.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import need, run
from .exceptions import read_exceptions
from .servers import HeadwaterServer, PatientProxy, free_port, running_server

MODULE = "github.com/twmb/franz-go@v1.22.2"
IS_FULL = os.environ.get("TEST_INTEROP") == "full"
RECORDS = "50000" if IS_FULL else "4000"
KILLS = 20 if IS_FULL else 3
SECONDS_BETWEEN_KILLS = 4.0
SUITE_TIMEOUT_S = 540
USER, PASSWORD = "kgo", "kgo-secret"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as a program, beside its sources."""
    need("go")
    listed = json.loads(run(["go", "mod", "download", "-json", MODULE]))
    target = tmp_path_factory.mktemp("franz-go") / "module"
    shutil.copytree(listed["Dir"], target, copy_function=shutil.copyfile)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    run(["go", "test", "-c", "-o", target / "suite", "./pkg/kgo"], cwd=target)
    return target


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[HeadwaterServer]:
    create_user(tmp_path / "data")
    listeners = ["--listen", "SASL_PLAINTEXT://127.0.0.1:0"]
    with running_server(tmp_path, *listeners, "--set", "super.users=User:ANONYMOUS") as server:
        yield server


def create_user(data: Path) -> None:
    command = [sys.executable, "-m", "headwater", "user", "create", USER, "--super-user", "--data", str(data)]
    subprocess.run(command, input=PASSWORD + "\n", text=True, check=True, timeout=60)


def run_suite(suite: Path, server: HeadwaterServer, *options: str, seeds: str = "") -> str:
    environment = {
        **os.environ,
        "KGO_TEST_RF": "1",
        "KGO_SEEDS": seeds or server.address,
        "KGO_TEST_RECORDS": RECORDS,
        "KGO_TEST_SCRAM": f"{USER}:{PASSWORD}:256",
        "KGO_TEST_SCRAM_SEEDS": server.addresses.get("SASL_PLAINTEXT", ""),
    }
    if not environment["KGO_TEST_SCRAM_SEEDS"]:
        del environment["KGO_TEST_SCRAM"], environment["KGO_TEST_SCRAM_SEEDS"]
    result = subprocess.run(
        [suite / "suite", "-test.v", f"-test.timeout={SUITE_TIMEOUT_S}s", *options],
        cwd=suite / "pkg" / "kgo",
        env=environment,
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_S + 30,
        check=False,
    )
    failed = re.findall(r"^--- FAIL: (\S+)", result.stdout, re.MULTILINE)
    assert result.returncode == 0, f"{failed}\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
    return result.stdout


def outcomes(output: str, outcome: str) -> set[str]:
    return set(re.findall(rf"^--- {outcome}: (\S+)", output, re.MULTILINE))


@pytest.mark.timeout(SUITE_TIMEOUT_S + 60)
def test_the_whole_suite_passes(suite: Path, secured: HeadwaterServer) -> None:
    output = run_suite(suite, secured)
    exceptions = read_exceptions("franz_go")
    passed, skipped = outcomes(output, "PASS"), outcomes(output, "SKIP")
    assert skipped == set(exceptions)
    assert len(exceptions) <= 0.05 * len(passed | skipped)
    assert {"TestTxnEtl", "TestGroupETL", "Test848RegexBrokerResolves", "TestSCRAMAuth"} <= passed


@pytest.mark.timeout(SUITE_TIMEOUT_S + 60)
def test_it_passes_while_the_broker_is_killed(suite: Path, tmp_path: Path) -> None:
    """What the suite's long tests produce, transform and consume arrives once, in order, over SIGKILLs."""
    proxy = PatientProxy()
    proxy.target_port = free_port()
    advertise = ("--advertise", f"127.0.0.1:{proxy.port}")
    with running_server(tmp_path, *advertise, port=proxy.target_port) as server:
        over = threading.Event()

        def kill_now_and_then() -> None:
            for _ in range(KILLS):
                if over.wait(SECONDS_BETWEEN_KILLS):
                    return
                server.kill()
                server.restart()

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            output = run_suite(suite, server, "-test.run=TestTxnEtl|TestGroupETL", seeds=f"127.0.0.1:{proxy.port}")
        finally:
            over.set()
            killer.join()
            proxy.stop()
    assert outcomes(output, "PASS") == {"TestTxnEtl", "TestGroupETL"}
