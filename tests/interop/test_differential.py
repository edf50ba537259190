"""A real Apache Kafka and Headwater are asked the same, in every version that both have; their answers must be the same."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from .conftest import KAFKA_SH, need, run
from .differential import Side, differences, run_step, script
from .exceptions import HERE
from .servers import HeadwaterServer, free_port, running_server

TOPICS = ("t", "x", "a.b")
COMPARISONS_MIN = 700
EXTRA_SETTINGS = "auto.create.topics.enable=false\n"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fresh one-node Kafka."""
    need("java")
    need("mvn")
    run([KAFKA_SH, "jars"])
    directory = tmp_path_factory.mktemp("kafka")
    (directory / "extra").write_text(EXTRA_SETTINGS)
    port = free_port()
    environment = {**os.environ, "EXTRA": str(directory / "extra")}
    command = [str(KAFKA_SH), "start", str(port), str(directory / "data")]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    process_id = int(started.stdout.split()[0])
    yield f"127.0.0.1:{port}"
    os.kill(process_id, signal.SIGKILL)


@pytest.fixture(scope="module")
def headwater(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    with running_server(tmp_path_factory.mktemp("headwater"), "--set", EXTRA_SETTINGS.strip()) as server:
        yield server


def expected_differences() -> list[tuple[str, str]]:
    """(step, beginning of a path) of what may differ."""
    lines = (HERE / "differential.txt").read_text().splitlines()
    parts = (line.split(": ", 2) for line in lines if line and not line.startswith("#"))
    return [(step, path) for step, path, _ in parts]


@pytest.mark.timeout(300)
def test_answers_are_kafkas(kafka: str, headwater: HeadwaterServer) -> None:
    sides = Side(kafka), Side(headwater.address)
    for side in sides:
        side.wait_for_coordinators()
        for topic in TOPICS:
            side.topic(topic)
    found, compared, used = [], 0, set()
    expected = expected_differences()
    for step in script():
        for version, one, other in run_step(step, sides):
            compared += 1
            for difference in differences(one, other):
                match = next((e for e in expected if e[0] == step.name and difference.startswith(e[1])), None)
                if match is None:
                    found.append(f"{step.name}, version {version}: {difference}")
                else:
                    used.add(match)
    for side in sides:
        side.wire.socket.close()
    assert found == []
    assert compared >= COMPARISONS_MIN
    assert used == set(expected)  # the list says nothing that is not so
