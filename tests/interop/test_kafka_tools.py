"""Apache Kafka's own programs against this broker, and on its files."""

import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.protocol.compression import Compression
from headwater.protocol.records import Record, batches, build_batch, check_batch, records
from tests.broker.wire import Wire

from .servers import HeadwaterServer, running_server

Tool = Callable[..., str]
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
TOPIC_COMMAND = "org.apache.kafka.tools.TopicCommand"
GROUP_COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
DUMP = "org.apache.kafka.tools.DumpLogSegments"


def name() -> str:
    return f"java-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_console_producer_and_consumer(kafka_tool: Tool, server: HeadwaterServer, codec: str) -> None:
    """Java's batches pass through to Java, and we decompress what it compresses."""
    topic = name()
    lines = [f"line {n} " * 5 for n in range(500)]
    at = ["--bootstrap-server", server.address, "--topic", topic]
    kafka_tool(CONSOLE_PRODUCER, *at, "--compression-codec", codec, input="\n".join(lines) + "\n")
    found = kafka_tool(CONSOLE_CONSUMER, *at, "--from-beginning", "--max-messages", 500, "--timeout-ms", 20000)
    assert [line.strip() for line in found.splitlines()] == [line.strip() for line in lines]
    with Wire(server.address) as wire:
        data = wire.fetch(topic, 0, 0)
    seen = [r.value for _, batch in batches(data) for r in records(check_batch(batch), batch)]
    assert [value.decode().strip() for value in seen if value] == [line.strip() for line in lines]


def test_java_decompresses_what_we_compress(kafka_tool: Tool, server: HeadwaterServer) -> None:
    topic = name()
    now = int(time.time() * 1000)
    with Wire(server.address) as wire:
        wire.create_topic(topic)
        for compression in Compression:
            values = [f"{compression.name} {n} ".encode() * 30 for n in range(200)]
            batch = build_batch([Record(b"k", v, [("h", b"x")], now) for v in values], compression=compression)
            assert wire.produce(topic, 0, batch) == 0
    at = ["--bootstrap-server", server.address, "--topic", topic, "--from-beginning"]
    found = kafka_tool(CONSOLE_CONSUMER, *at, "--max-messages", 1000, "--timeout-ms", 20000)
    assert [line.split()[0] for line in found.splitlines()] == [c.name for c in Compression for _ in range(200)]


def test_topic_command(kafka_tool: Tool, server: HeadwaterServer) -> None:
    topic = name()
    at = ["--bootstrap-server", server.address]
    kafka_tool(TOPIC_COMMAND, *at, "--create", "--topic", topic, "--partitions", 3, "--config", "retention.ms=12345")
    assert topic in kafka_tool(TOPIC_COMMAND, *at, "--list").split()
    kafka_tool(TOPIC_COMMAND, *at, "--alter", "--topic", topic, "--partitions", 5)
    described = kafka_tool(TOPIC_COMMAND, *at, "--describe", "--topic", topic)
    assert "PartitionCount: 5" in described
    assert "ReplicationFactor: 1" in described
    assert "retention.ms=12345" in described
    assert len(re.findall(r"Partition: \d", described)) == 5
    kafka_tool(TOPIC_COMMAND, *at, "--delete", "--topic", topic)
    assert topic not in kafka_tool(TOPIC_COMMAND, *at, "--list").split()


def test_group_command(kafka_tool: Tool, server: HeadwaterServer) -> None:
    topic = name()
    with Wire(server.address) as wire:
        wire.create_topic(topic)
        wire.produce(topic, 0, build_batch([Record(None, b"v", (), int(time.time() * 1000))] * 10))
    at = ["--bootstrap-server", server.address]
    group = ["--group", f"group-{topic}"]
    kafka_tool(
        CONSOLE_CONSUMER, *at, "--topic", topic, *group, "--from-beginning", "--max-messages", 10, "--timeout-ms", 20000
    )
    described = kafka_tool(GROUP_COMMAND, *at, "--describe", *group)
    row = next(line.split() for line in described.splitlines() if topic in line and not line.startswith("Consumer"))
    assert row[1:6] == [topic, "0", "10", "10", "0"]
    kafka_tool(GROUP_COMMAND, *at, *group, "--reset-offsets", "--to-offset", 3, "--topic", topic, "--execute")
    assert " 3 " in kafka_tool(GROUP_COMMAND, *at, "--describe", *group)
    assert re.search(rf"{group[1]}\s+Empty", kafka_tool(GROUP_COMMAND, *at, "--list", "--state"))
    kafka_tool(GROUP_COMMAND, *at, "--delete", *group)
    assert group[1] not in kafka_tool(GROUP_COMMAND, *at, "--list").split()


def test_performance_tools(kafka_tool: Tool, server: HeadwaterServer) -> None:
    topic = name()
    produced = kafka_tool(
        "org.apache.kafka.tools.ProducerPerformance",
        *["--topic", topic, "--num-records", 50000, "--record-size", 100, "--throughput", -1],
        *["--producer-props", f"bootstrap.servers={server.address}", "acks=all"],
    )
    assert "50000 records sent" in produced
    consumed = kafka_tool(
        "org.apache.kafka.tools.ConsumerPerformance",
        *["--bootstrap-server", server.address, "--topic", topic, "--messages", 50000, "--timeout", 20000],
    )
    assert ", 50000, " in consumed
    latency = kafka_tool("org.apache.kafka.tools.EndToEndLatency", server.address, topic, 200, "all", 100)
    assert "Avg latency" in latency


def test_dump_log_reads_our_segments(kafka_tool: Tool, tmp_path: Path) -> None:
    with running_server(tmp_path) as server, Wire(server.address) as wire:
        wire.create_topic("dumped", segment_bytes="1048576")
        now = int(time.time() * 1000)
        for n in range(40):
            batch = build_batch(
                [Record(b"k", bytes(5000), [("h", b"v")], now + n)] * 10,
                producer_id=7,
                producer_epoch=0,
                base_sequence=n * 10,
            )
            assert wire.produce("dumped", 0, batch) == 0
    directory = tmp_path / "data" / "dumped-0"
    logs = sorted(directory.glob("*.log"))
    assert len(logs) == 2
    for log in logs:
        dumped = kafka_tool(DUMP, "--deep-iteration", "--files", log)
        assert "isvalid: true" in dumped
        assert "isvalid: false" not in dumped
        indexes = kafka_tool(
            DUMP, "--index-sanity-check", "--files", f"{log.with_suffix('.index')},{log.with_suffix('.timeindex')}"
        )
        assert "passed sanity check" in indexes
        checked = kafka_tool(DUMP, "--files", f"{log.with_suffix('.index')},{log.with_suffix('.timeindex')}")
        assert "mismatch" not in checked.lower()
        assert "offset:" in checked
    snapshots = sorted(directory.glob("*.snapshot"))
    assert snapshots
    assert "producerId: 7" in kafka_tool(DUMP, "--files", snapshots[-1])
    metadata = tmp_path / "data" / "__cluster_metadata-0" / f"{0:020d}.log"
    assert '"name":"dumped"' in kafka_tool(DUMP, "--cluster-metadata-decoder", "--files", metadata)
