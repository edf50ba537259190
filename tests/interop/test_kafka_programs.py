"""Apache Kafka's own system-test programs, Streams and Connect against this broker."""

import json
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.broker.wire import Wire

from .conftest import HERE, jars, run
from .servers import HeadwaterServer, free_port, running_server

Tool = Callable[..., str]
TOOLS = "org.apache.kafka.tools"
SMOKE_TOPICS = [
    "data",
    "echo",
    "max",
    "min",
    "min-suppressed",
    "min-raw",
    "sum",
    "sws-raw",
    "sws-suppressed",
    "cnt",
    "avg",
    "dif",
    "tagg",
    "fk",
]


def name() -> str:
    return f"java-{uuid.uuid4().hex[:8]}"


def events(output: str, kind: str) -> list[dict[str, object]]:
    """The JSON lines of that name that a verifiable program prints."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("name") == kind]


def program(main: str, *arguments: object) -> list[str]:
    """The command that runs a main of Streams or Connect."""
    flags = ["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", jars(HERE / "programs" / "pom.xml")]
    return ["java", *flags, main, *map(str, arguments)]


class Background:
    """A program in the background, until `stop`."""

    def __init__(self, log: Path, command: list[str]) -> None:
        self.file = log.open("w")
        self.process = subprocess.Popen(command, stdout=self.file, stderr=self.file, text=True)
        self.log = log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)
        self.file.close()
        return self.log.read_text()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_verifiable_producer_and_consumer(
    kafka_tool: Tool, server: HeadwaterServer, tmp_path: Path, protocol: str
) -> None:
    topic = name()
    with Wire(server.address) as wire:
        wire.create_topic(topic, 3)
    at = ["--bootstrap-server", server.address, "--topic", topic]
    produced = kafka_tool(f"{TOOLS}.VerifiableProducer", *at, "--max-messages", 3000, "--acks", -1)
    sent = [event["value"] for event in events(produced, "producer_send_success")]
    assert len(sent) == 3000
    consumed = kafka_tool(
        f"{TOOLS}.VerifiableConsumer",
        *at,
        *["--group-id", f"group-{topic}", "--group-protocol", protocol, "--max-messages", 3000],
        *["--reset-policy", "earliest", "--verbose"],
    )
    got = [event["value"] for event in events(consumed, "record_data")]
    assert sorted(map(str, got)) == sorted(map(str, sent))


def test_client_compatibility(kafka_tool: Tool, server: HeadwaterServer) -> None:
    topic = name()
    with Wire(server.address) as wire:
        wire.create_topic(topic)
    supported = [
        "offsets-for-times-supported",
        "cluster-id-supported",
        "expect-record-too-large-exception",
        "create-topics-supported",
        "describe-acls-supported",
        "describe-configs-supported",
        "idempotent-producer-supported",
    ]
    flags = [word for flag in supported for word in (f"--{flag}", "false" if flag.startswith("expect") else "true")]
    output = kafka_tool(
        f"{TOOLS}.ClientCompatibilityTest",
        *["--bootstrap-server", server.address, "--topic", topic, "--num-cluster-nodes", 1, *flags],
    )
    assert "SUCCESS" in output


def test_transactional_message_copier(kafka_tool: Tool, server: HeadwaterServer) -> None:
    """Copies with random aborts arrive once, in order."""
    source, target = name(), name()
    count = 4000
    at = ["--bootstrap-server", server.address]
    kafka_tool(f"{TOOLS}.VerifiableProducer", *at, "--topic", source, "--max-messages", count, "--acks", -1)
    kafka_tool(
        f"{TOOLS}.TransactionalMessageCopier",
        *["--broker-list", server.address, "--input-topic", source, "--input-partition", 0, "--output-topic", target],
        *["--transaction-size", 137, "--transactional-id", f"tx-{target}", "--consumer-group", f"group-{target}"],
        *["--max-messages", count, "--enable-random-aborts"],
    )
    console = f"{TOOLS}.consumer.ConsoleConsumer"
    read = ["--from-beginning", "--max-messages", count, "--timeout-ms", 20000]
    isolated = ["--command-property", "isolation.level=read_committed"]
    found = kafka_tool(console, *at, "--topic", target, *read, *isolated).split()
    assert found == [str(n) for n in range(count)]


@pytest.mark.timeout(420)
def test_streams_with_exactly_once(tmp_path: Path) -> None:
    """Kafka Streams' smoke test: joins, windows, aggregates, tables; its driver checks every result."""
    with running_server(tmp_path) as server:
        with Wire(server.address) as wire:
            for topic in SMOKE_TOPICS:
                wire.create_topic(topic, 5)
        properties = tmp_path / "streams.properties"
        values = {
            "bootstrap.servers": server.address,
            "state.dir": tmp_path / "state",
            "processing.guarantee": "exactly_once_v2",
            "replication.factor": 1,
            "num.stream.threads": 2,
            "client.id": "smoke",
        }
        properties.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        smoke = "org.apache.kafka.streams.tests.StreamsSmokeTest"
        client = Background(tmp_path / "client.log", program(smoke, properties, "process"))
        try:
            result = run(program(smoke, properties, "run"), timeout_s=240)
        finally:
            log = client.stop()
    assert "SUCCESS" in result, result[-3000:] + log[-3000:]
    assert "PROCESSED-MORE-THAN-GENERATED" not in result


@pytest.fixture
def connect(server: HeadwaterServer, tmp_path: Path) -> Iterator[tuple[str, Background]]:
    port = free_port()
    settings = {
        "bootstrap.servers": server.address,
        "group.id": name(),
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "listeners": f"http://127.0.0.1:{port}",
        "plugin.discovery": "service_load",
        "exactly.once.source.support": "enabled",
    }
    for kind in ("config", "offset", "status"):
        settings[f"{kind}.storage.topic"] = f"{name()}-{kind}"
        settings[f"{kind}.storage.replication.factor"] = "1"
    properties = tmp_path / "connect.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    worker = Background(tmp_path / "connect.log", program(main, properties))
    yield f"http://127.0.0.1:{port}", worker
    worker.stop()


def request(url: str, content: object | None = None) -> object:
    import urllib.request

    data = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as response:
        return json.load(response)


def is_accepted(url: str, connector: object) -> bool:
    """Whether the worker takes the connector; raises while it does not."""
    return request(f"{url}/connectors", connector) is not None


def eventually(what: Callable[[], bool], seconds: float = 90) -> None:
    """Returns when it holds; fails after a while."""
    waiting = threading.Event()
    for _ in range(int(seconds * 5)):
        try:
            if what():
                return
        except OSError:
            pass
        waiting.wait(0.2)
    raise AssertionError("it did not happen")


def test_connect_distributed_moves_a_file(connect: tuple[str, Background], tmp_path: Path) -> None:
    """Kafka Connect with its file source, exactly once, and its file sink."""
    url, worker = connect
    source, sink = tmp_path / "source.txt", tmp_path / "sink.txt"
    lines = [f"line {n}" for n in range(500)]
    source.write_text("\n".join(lines) + "\n")
    topic = name()
    eventually(lambda: worker.process.poll() is None and request(url) is not None)
    for kind, file, topic_key in (("Source", source, "topic"), ("Sink", sink, "topics")):
        connector = {
            "name": f"file-{kind.lower()}",
            "config": {
                "connector.class": f"org.apache.kafka.connect.file.FileStream{kind}Connector",
                "tasks.max": "1",
                "file": str(file),
                topic_key: topic,
            },
        }
        eventually(partial(is_accepted, url, connector))
    eventually(lambda: sink.exists() and sink.read_text().splitlines() == lines)


@pytest.mark.timeout(300)
def test_what_compaction_keeps_is_right(kafka_tool: Tool, tmp_path: Path) -> None:
    settings = {
        "log.cleaner.backoff.ms": 500,
        "log.cleaner.min.cleanable.ratio": 0.01,
        "log.segment.bytes": 1 << 20,
        "log.flush.offset.checkpoint.interval.ms": 1000,
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with running_server(tmp_path, *options) as server:
        words = ["--messages", 200_000, "--percent-deletes", 10, "--sleep", 10]
        output = kafka_tool(f"{TOOLS}.LogCompactionTester", "--bootstrap-server", server.address, *words)
    found = re.search(r"(\d+) rows of data produced, (\d+) rows of data consumed", output)
    assert found is not None, output
    assert int(found[2]) < int(found[1]) / 2, output
    assert re.search(r"Validated \d+ values, 0 mismatches", output), output
