"""Other people's clients, unchanged: what each writes it reads back, with every compression, and in groups."""

import asyncio
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from .conftest import HERE, need, run
from .servers import HeadwaterServer

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def new_topic(server: HeadwaterServer, partitions: int = 3) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": server.address})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)
    return name


def produce(server: HeadwaterServer, topic: str, values: list[bytes], **settings: Any) -> None:
    errors: list[Any] = []
    producer = Producer({"bootstrap.servers": server.address, **settings})
    for value in values:
        producer.produce(topic, value, value, on_delivery=lambda error, _: errors.append(error) if error else None)
    assert producer.flush(30) == 0
    assert errors == []


def consume(consumer: Consumer, count: int, timeout_polls: int = 120) -> list[Any]:
    found: list[Any] = []
    for _ in range(timeout_polls):
        found += [m for m in consumer.consume(500, 0.25) if not raise_error(m)]
        if len(found) >= count:
            break
    return found


def raise_error(message: Any) -> bool:
    error = message.error()
    assert error is None or error.code() == KafkaError._PARTITION_EOF, error
    return error is not None


class TestConfluent:
    @pytest.mark.parametrize("codec", CODECS)
    def test_codecs(self, server: HeadwaterServer, codec: str) -> None:
        topic = new_topic(server)
        values = [b"%d" % n * 20 for n in range(3000)]
        produce(server, topic, values, **{"compression.type": codec, "enable.idempotence": True})
        consumer = Consumer(
            {"bootstrap.servers": server.address, "group.id": f"g-{topic}", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        assert sorted(m.value() for m in consume(consumer, len(values))) == sorted(values)
        consumer.close()

    def test_members_come_and_go(self, server: HeadwaterServer) -> None:
        topic = new_topic(server, 6)
        stopping = threading.Event()
        seen: set[bytes] = set()
        unexpected: list[str] = []
        settings = {
            "bootstrap.servers": server.address,
            "group.id": f"g-{topic}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 200,
        }

        def member() -> None:
            consumer = Consumer(settings)
            consumer.subscribe([topic])
            mine = 0
            while not stopping.is_set() and mine < 4000:
                for message in consumer.consume(200, 0.1):
                    if not raise_error(message):
                        seen.add(message.value())
                        mine += 1
                if mine:
                    try:
                        consumer.commit(asynchronous=False)
                    except KafkaException as error:
                        unexpected.append(error.args[0].name())
            consumer.close()

        values = [b"%d" % n for n in range(10_000)]
        threads = [threading.Thread(target=member) for _ in range(2)]
        for thread in threads:
            thread.start()
        produce(server, topic, values[:5000])
        threads += [threading.Thread(target=member) for _ in range(2)]
        for thread in threads[2:]:
            thread.start()
        produce(server, topic, values[5000:])
        for _ in range(600):
            if len(seen) == len(values):
                break
            stopping.wait(0.1)
        stopping.set()
        for thread in threads:
            thread.join(60)
        assert len(seen) == len(values)
        assert set(unexpected) <= {"_NO_OFFSET", "REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION"}

    def test_static_member_keeps_its_partitions(self, server: HeadwaterServer) -> None:
        topic = new_topic(server, 2)
        produce(server, topic, [b"%d" % n for n in range(100)])
        settings = {
            "bootstrap.servers": server.address,
            "group.id": f"g-{topic}",
            "auto.offset.reset": "earliest",
            "group.instance.id": "one",
            "session.timeout.ms": 10_000,
        }
        for _ in range(2):
            consumer = Consumer(settings)
            consumer.subscribe([topic])
            for _ in range(100):
                consumer.consume(100, 0.1)
                if consumer.assignment():
                    break
            assert len(consumer.assignment()) == 2
            consumer.close()
        admin = AdminClient({"bootstrap.servers": server.address})
        group = admin.describe_consumer_groups([f"g-{topic}"])[f"g-{topic}"].result(20)
        assert [m.group_instance_id for m in group.members] == ["one"]

    def test_offsets_by_time_and_admin(self, server: HeadwaterServer) -> None:
        topic = new_topic(server, 1)
        producer = Producer({"bootstrap.servers": server.address})
        for n in range(10):
            producer.produce(topic, b"%d" % n, timestamp=1_700_000_000_000 + n * 1000)
        assert producer.flush(20) == 0
        consumer = Consumer({"bootstrap.servers": server.address, "group.id": "times"})
        (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 1_700_000_004_500)], timeout=10)
        assert found.offset == 5
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 10)
        consumer.close()
        admin = AdminClient({"bootstrap.servers": server.address})
        (future,) = admin.delete_records([TopicPartition(topic, 0, 4)]).values()
        assert future.result(20).low_watermark == 4
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        assert future.result(20)["retention.ms"].value == "604800000"
        admin.delete_topics([topic])[topic].result(20)


class TestAiokafka:
    @pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
    async def test_codecs(self, server: HeadwaterServer, codec: str | None) -> None:
        topic = await asyncio.to_thread(new_topic, server)
        values = [b"%d" % n * 20 for n in range(500)]
        producer = AIOKafkaProducer(
            bootstrap_servers=server.address, compression_type=codec, acks="all", enable_idempotence=True
        )
        await producer.start()
        await asyncio.gather(*[(await producer.send(topic, value, key=value)) for value in values])
        await producer.stop()
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=server.address, group_id=f"g-{topic}", auto_offset_reset="earliest"
        )
        await consumer.start()
        found: list[bytes] = []
        while len(found) < len(values):
            for messages in (await consumer.getmany(timeout_ms=1000)).values():
                found += [m.value for m in messages]
        await consumer.stop()
        assert sorted(found) == sorted(values)


class TestKcat:
    @pytest.mark.parametrize("codec", CODECS)
    def test_codecs(self, server: HeadwaterServer, codec: str, tmp_path: Path) -> None:
        need("kcat")
        topic = new_topic(server, 1)
        lines = [f"key{n}:value{n}" * 3 for n in range(2000)]
        (tmp_path / "lines").write_text("\n".join(lines) + "\n")
        run(["kcat", "-P", "-b", server.address, "-t", topic, "-z", codec, "-l", tmp_path / "lines"])
        found = run(["kcat", "-C", "-b", server.address, "-t", topic, "-e", "-q", "-o", "beginning"])
        assert found.splitlines() == lines

    def test_groups_and_metadata(self, server: HeadwaterServer, tmp_path: Path) -> None:
        need("kcat")
        topic = new_topic(server, 2)
        produce(server, topic, [b"%d" % n for n in range(100)])
        group = ["kcat", "-b", server.address, "-G", f"kcat-{topic}", "-e", "-q", "-X", "auto.offset.reset=earliest"]
        assert sorted(run([*group, topic]).split(), key=int) == [str(n) for n in range(100)]
        assert f'topic "{topic}" with 2 partitions' in run(["kcat", "-L", "-b", server.address, "-t", topic])


def test_franz_go(server: HeadwaterServer, tmp_path: Path) -> None:
    need("go")
    program = tmp_path / "franz"
    run(["go", "build", "-o", program, "."], cwd=HERE / "go")
    assert "ok 10000" in run([program, server.address, f"franz-{uuid.uuid4().hex[:8]}"])


def test_a_producer_survives_a_restart(tmp_path: Path) -> None:
    """An unmodified client recovers by itself when the broker is killed and comes back."""
    from .servers import running_server

    with running_server(tmp_path) as server:
        topic = new_topic(server, 1)
        delivered: list[int] = []
        producer = Producer({"bootstrap.servers": server.address, "enable.idempotence": True, "log_level": 0})
        for n in range(2000):
            producer.produce(topic, b"%d" % n, on_delivery=lambda e, m: delivered.append(m.offset()) if not e else None)
            if n == 1000:
                producer.poll(0.2)
                server.kill()
                server.restart()
        assert producer.flush(60) == 0
        assert len(delivered) == 2000
        found = run(
            [sys.executable, "-m", "headwater", "consume", topic, "-b", server.address],
            stdin=subprocess.DEVNULL,
        )
        assert found.split() == [str(n) for n in range(2000)]
