"""The matrix: many versions of many clients, each with the same tasks, on Headwater and on a real Kafka.

Each client's program creates a topic, writes with acks 1, all and 0, asks for the latest offset right after each answer,
writes idempotently and in transactions where the client can, reads in a group, commits and looks at what is committed.
kafka-clients does more (admin, codecs, rebalances, static members, both group protocols), and a Flink job copies a topic
exactly once over a failure. The programs are in matrix/, each with its own lock file. TEST_INTEROP=full runs all of it on
Headwater with three virtual nodes too.
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .conftest import BUILD_TIMEOUT_S, CACHE, HERE, TOOL_TIMEOUT_S, jars, need, run, running_kafka, set_options
from .servers import running_server

MATRIX = HERE / "matrix"
# Else members of the new group protocol (KIP-848) hear of each other after five seconds.
SETTINGS = {"group.consumer.min.heartbeat.interval.ms": "100", "group.consumer.heartbeat.interval.ms": "100"}

BROKERS = ["headwater", "kafka"] + (["three-nodes"] if os.environ.get("TEST_INTEROP") == "full" else [])
KAFKA_CLIENTS = [
    "2.4.1",
    "2.8.2",
    "3.1.2",
    "3.2.3",
    "3.3.2",
    "3.4.1",
    "3.6.2",
    "3.7.2",
    "3.8.1",
    "3.9.2",
    "4.0.2",
    "4.4.0",
]
FLINK = "1.20.5"
# Language and program: the client's older and its newest version, as its lock files have them.
CLIENTS = {
    "python confluent": ("2.0.2", "2.16.1"),
    "python aiokafka": ("0.8.1", "0.14.0"),
    "python kafka_python": ("2.0.2", "3.0.12"),
    "go franz": ("v1.15.3", "v1.22.3"),
    "go sarama": ("v1.41.2", "v1.61.1"),
    "go segmentio": ("v0.4.42", "v0.4.51"),
    "go confluent": ("v2.3.0", "v2.11.1"),
    "node kafkajs": ("1.16.0", "2.2.4"),
    "node platformatic": ("1.22.0", "1.35.0"),
    "rust rskafka": ("0.5.0", "0.6.0"),
}
AGES = ("older", "newest")
ROWS = [
    (*name.split(), age, version)
    for name, versions in CLIENTS.items()
    for age, version in zip(AGES, versions, strict=True)
]


@pytest.fixture(scope="module", params=BROKERS)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("broker")
    if request.param == "kafka":
        with running_kafka(directory, SETTINGS) as kafka:
            yield kafka
    else:
        nodes = "3" if request.param == "three-nodes" else "1"
        with running_server(directory, "--nodes", nodes, *set_options(SETTINGS)) as server:
            yield server.address


def java(classpath: str, main: str, *arguments: str, timeout_s: float = TOOL_TIMEOUT_S) -> str:
    flags = [
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
    ]
    opened = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util")]  # for Flink
    return run(["java", *flags, *opened, "-cp", classpath, main, *arguments], timeout_s)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our program for kafka-clients, compiled once, against the oldest."""
    target = tmp_path_factory.mktemp("classes")
    source = MATRIX / "java" / "MatrixCheck.java"
    oldest = jars(MATRIX / "java" / "pom.xml", KAFKA_CLIENTS[0])
    run(["javac", "--release", "8", "-Xlint:-options", "-cp", oldest, "-d", target, source])
    return target


class Builds:
    """Makes what the programs need, once for each age."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = cache(self.make_python)
        self.go = cache(self.make_go)
        self.node = cache(self.make_node)
        self.rust = cache(self.make_rust)

    def command(self, language: str, name: str, age: str) -> list[str | Path]:
        if language == "python":
            return [self.python(age), MATRIX / "python" / f"{name}_check.py"]
        if language == "go":
            return [self.go(age) / name]
        if language == "rust":
            return [self.rust() / name, age]
        return ["node", self.node() / f"{name}_check.mjs", f"{name}-{age}"]

    def make_python(self, age: str) -> Path:
        if age == "older" and sys.version_info >= (3, 12):
            pytest.skip("the older Python clients have wheels up to Python 3.11")
        target = self.directory / f"python-{age}"
        uv = Path(sys.executable).with_name("uv")
        run([uv, "venv", "-q", "--python", sys.executable, target])
        python = target / "bin" / "python"
        requirements = MATRIX / "python" / f"{age}.txt"
        run(
            [uv, "pip", "install", "-q", "--python", python, "--only-binary", ":all:", "-r", requirements],
            BUILD_TIMEOUT_S,
        )
        return python

    def make_go(self, age: str) -> Path:
        need("go")
        target = self.directory / f"go-{age}"
        target.mkdir()
        module = "go.mod" if age == "newest" else f"{age}.mod"
        names = [f"./{name.split()[1]}" for name in CLIENTS if name.startswith("go ")]
        run(["go", "build", f"-modfile={module}", "-o", target, *names], BUILD_TIMEOUT_S, cwd=MATRIX / "go")
        return target

    def make_node(self) -> Path:
        need("npm")
        target = self.directory / "node"
        shutil.copytree(MATRIX / "node", target, ignore=shutil.ignore_patterns("node_modules"))
        run(
            ["npm", "ci", "--silent", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
            BUILD_TIMEOUT_S,
            cwd=target,
        )
        return target

    def make_rust(self) -> Path:
        need("cargo")
        target = CACHE / "rust"
        manifest = MATRIX / "rust" / "Cargo.toml"
        run(["cargo", "build", "-q", "--locked", "--manifest-path", manifest, "--target-dir", target], BUILD_TIMEOUT_S)
        return target / "debug"


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


def new_topic() -> str:
    return f"matrix-{uuid.uuid4().hex[:12]}"


@pytest.mark.timeout(3 * TOOL_TIMEOUT_S)
@pytest.mark.parametrize("version", KAFKA_CLIENTS)
def test_kafka_clients(request: pytest.FixtureRequest, address: str, classes: Path, version: str) -> None:
    """3.3 to 3.7 cannot connect to a broker that names features from 0 in ApiVersions below 4 (KAFKA-17011).

    Kafka's own broker is there to show that the program is right. It has hung once, on a busy machine: there it may try again.
    """
    command = f"{classes}:{jars(MATRIX / 'java' / 'pom.xml', version)}", "MatrixCheck", address
    try:
        output = java(*command)
    except subprocess.TimeoutExpired:
        if request.node.callspec.params["address"] != "kafka":
            raise
        output = java(*command)
    assert output.endswith(f"kafka-clients {version}\n"), output


@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.parametrize(("language", "name", "age", "version"), ROWS, ids=lambda value: str(value))
def test_client(address: str, builds: Builds, language: str, name: str, age: str, version: str) -> None:
    output = run([*builds.command(language, name, age), address, new_topic()])
    assert output == f"ok {version}\n"


def test_kcat(address: str) -> None:
    need("kcat")
    topic = new_topic()
    lines = []
    for n, settings in enumerate(["acks=1", "acks=all", "enable.idempotence=true"]):
        lines.append(settings)
        run(["kcat", "-P", "-b", address, "-t", topic, "-X", settings], input=f"{settings}\n")
        assert run(["kcat", "-Q", "-b", address, "-t", f"{topic}:0:-1"]) == f"{topic} [0] offset {n + 1}\n"
    group = ["kcat", "-b", address, "-G", topic, "-e", "-q", "-X", "auto.offset.reset=earliest", topic]
    assert run(group).splitlines() == lines
    run(["kcat", "-P", "-b", address, "-t", topic], input="one more\n")
    assert run(group).splitlines() == ["one more"]


@pytest.mark.timeout(BUILD_TIMEOUT_S)
def test_flink(address: str, tmp_path: Path) -> None:
    """A job with checkpoints fails in an open transaction, starts again, and each record is there once."""
    classpath = jars(MATRIX / "flink" / "pom.xml")
    run(["javac", "-cp", classpath, "-d", tmp_path, MATRIX / "flink" / "FlinkCheck.java"])
    output = java(f"{tmp_path}:{classpath}", "FlinkCheck", address, new_topic(), new_topic())
    assert output == f"ok {FLINK}\n"
