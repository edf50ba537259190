"""Applications of FastStream, aiokafka, Quix Streams and Faust run unchanged on this broker."""

import json
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater as hw

from .servers import HeadwaterServer, running_server

APPLICATIONS = Path(__file__).parent / "frameworks"
PACKAGES = ["faststream[confluent,kafka]==0.7.8", "quixstreams==3.28.1", "faust-streaming==0.15.3", "aiokafka==0.14.0"]
NAMES = sorted(path.stem.removesuffix("_app") for path in APPLICATIONS.glob("*_app.py"))
NUMBERS = 50
INSTALL_TIMEOUT_S = 300
DONE_TIMEOUT_MS = 60_000.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the frameworks, in an environment of its own."""
    directory = tmp_path_factory.mktemp("frameworks")
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S)
    return python


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HeadwaterServer]:
    with running_server(tmp_path) as server:
        yield server


@pytest.mark.timeout(INSTALL_TIMEOUT_S + 120)
@pytest.mark.parametrize("name", NAMES)
def test_an_application_runs_unchanged(python: Path, server: HeadwaterServer, tmp_path: Path, name: str) -> None:
    with hw.Admin(server.address) as admin:
        for topic in ("numbers", "doubled"):
            admin.create_topic(topic)
    with hw.Producer(server.address) as producer:
        for n in range(NUMBERS):
            producer.send("numbers", {"value": n})
    log = tmp_path / "application.log"
    with log.open("w") as output:
        command = [str(python), str(APPLICATIONS / f"{name}_app.py"), server.address]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        try:
            with (
                hw.Producer(server.address) as producer,
                hw.Consumer(server.address, "doubled", group="check") as doubled,
            ):
                # Faust begins at the end of a topic: what is sent later comes in any case.
                values: set[int] = set()
                rounds = 0
                while len(values) < NUMBERS and rounds < DONE_TIMEOUT_MS / 1000 and process.poll() is None:
                    values |= {value_of(event) for event in doubled.take(NUMBERS, 1000)}
                    rounds += 1
                    if name == "faust":
                        producer.send_batch("numbers", [{"value": n} for n in range(NUMBERS)]).result()
        finally:
            process.terminate()
            process.wait(30)
    assert values == {2 * n for n in range(NUMBERS)}, log.read_text()[-3000:]


def value_of(event: "hw.Event[bytes]") -> int:
    return int(json.loads(event.raw or b"{}")["value"])
