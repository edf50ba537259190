"""The tools of other people that these tests run: where one cannot be had, its tests are skipped with the reason."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

import pytest

from .servers import HeadwaterServer, free_port_pair, running_server

HERE = Path(__file__).parent
KAFKA_SH = HERE / "kafka" / "kafka.sh"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater-interop"
TOOL_TIMEOUT_S = 110
BUILD_TIMEOUT_S = 600
# What a Kafka and a Headwater that are compared both have.
SAME_SETTINGS = {
    "auto.create.topics.enable": "false",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "group.consumer.assignment.interval.ms": "0",  # what a walk does must not depend on how long it takes
    "group.consumer.max.assignment.interval.ms": "600000",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(300))


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; make interop-tools installs it where it can")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    with running_server(tmp_path_factory.mktemp("headwater")) as running:
        yield running


class RunOptions(TypedDict, total=False):
    """Options of subprocess.run that `run` hands on."""

    cwd: Path
    env: Mapping[str, str]
    input: str
    stdin: int


def run(command: Sequence[str | Path], timeout_s: float = TOOL_TIMEOUT_S, **options: Unpack[RunOptions]) -> str:
    """Runs a program to its end; returns its output. Fails with all that it said."""
    result = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **options,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@contextmanager
def fetching() -> Iterator[None]:
    """Of several processes that run these tests one at a time fetches what they share."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kafka_jars() -> str:
    """The class path of Kafka."""
    with fetching():
        return run([KAFKA_SH, "jars"], timeout_s=BUILD_TIMEOUT_S).strip()


@pytest.fixture(scope="session")
def kafka_tool() -> Callable[..., str]:
    """Runs one of Kafka's own mains."""
    need("java")
    need("mvn")
    kafka_jars()

    def tool(
        class_name: str, *arguments: object, timeout_s: float = TOOL_TIMEOUT_S, **options: Unpack[RunOptions]
    ) -> str:
        return run([KAFKA_SH, "tool", class_name, *map(str, arguments)], timeout_s, **options)

    return tool


def jars(pom: Path, version: str = "") -> str:
    """The class path of a pom's dependencies, which stay in the cache; `version` is its property `kafka`."""
    need("java")
    need("mvn")
    key = hashlib.sha256(pom.read_bytes() + version.encode()).hexdigest()[:16]
    target = CACHE / f"{pom.parent.name}-{version or 'jars'}-{key}"
    with fetching():
        if not target.exists():
            made = tempfile.mkdtemp(dir=CACHE)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={made}"]
            goal += [f"-Dkafka={version}"] if version else []
            run(["mvn", "-q", "-B", "-f", pom, *goal], timeout_s=BUILD_TIMEOUT_S)
            Path(made).rename(target)
    return f"{target}/*"


@pytest.fixture(scope="session")
def clients_classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """kafka-clients 4.4.0 with our program, compiled."""
    clients = jars(HERE / "java" / "pom.xml")
    target = tmp_path_factory.mktemp("java")
    run(["javac", "-cp", clients, "-d", target, HERE / "java" / "AnswerCheck.java"])
    return f"{target}:{clients}"


def sasl_settings(port: int, sasl_port: int) -> dict[str, str]:
    """A second listener of a Kafka, for SCRAM without TLS."""
    protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
    clients = f"PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port}"
    return {
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{port + 1}",
        "advertised.listeners": clients,
        "listener.security.protocol.map": protocols,
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
    } | {
        f"listener.name.sasl_plaintext.scram-sha-{size}.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
        for size in (256, 512)
    }


@contextmanager
def running_kafka(
    directory: Path, settings: dict[str, str], sasl_port: int | None = None, *, java: str = ""
) -> Iterator[str]:
    """The address of a fresh one-node Kafka. With `sasl_port` it has a second listener, for users of SCRAM unless `settings` say
    something else. `java` are options of its JVM.
    """
    need("java")
    need("mvn")
    kafka_jars()
    port = free_port_pair()
    if sasl_port is not None:
        settings = {**sasl_settings(port, sasl_port), **settings}
    (directory / "extra").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    environment = {**os.environ, "EXTRA": str(directory / "extra"), **({"JAVA_TOOL_OPTIONS": java} if java else {})}
    started = run([KAFKA_SH, "start", str(port), directory / "data"], env=environment)
    process_id = int(started.split()[0])
    try:
        yield f"127.0.0.1:{port}"
    finally:
        os.kill(process_id, signal.SIGKILL)


def set_options(settings: dict[str, str]) -> list[str]:
    """The same settings as options of `headwater up`."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka to compare `headwater` with."""
    with running_kafka(tmp_path_factory.mktemp("kafka"), SAME_SETTINGS) as address:
        yield address


@pytest.fixture(scope="module")
def headwater(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    """Headwater, to be compared with `kafka`: with the same settings."""
    with running_server(tmp_path_factory.mktemp("headwater"), *set_options(SAME_SETTINGS)) as server:
        yield server
