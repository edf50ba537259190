"""Full load while topics, groups, connections and transactions come and go: memory and descriptors stay flat.

`TEST_SOAK_S` says for how many seconds (`make soak`: half an hour). The first third warms up. After that the middle value
of the first samples is held against the middle value of the last ones.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer, running_server

SOAK_S = float(os.environ.get("TEST_SOAK_S", "45"))
SAMPLE_S = 0.5
GROWTH_MIB_MAX = 12
DESCRIPTORS_GROWTH_MAX = 40
IN_QUEUE_MAX = 50_000
QUIET = {"log_level": 0}
SETTINGS = (
    "log.retention.check.interval.ms=1000",
    "log.cleaner.backoff.ms=500",
    "headwater.journal.file.bytes=33554432",
)
LOAD_TOPIC = {"retention.bytes": str(32 << 20), "segment.bytes": str(8 << 20)}
COMPACTED_TOPIC = {"cleanup.policy": "compact", "segment.bytes": str(1 << 20), "min.cleanable.dirty.ratio": "0.1"}


class Usage:
    """What a process has in memory, and how many descriptors it has open."""

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id
        self.memory_mib: list[float] = []
        self.descriptors: list[int] = []

    def sample(self) -> None:
        status = Path(f"/proc/{self.process_id}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        self.memory_mib.append(int(kib) / 1024)
        self.descriptors.append(len(os.listdir(f"/proc/{self.process_id}/fd")))

    def growth(self, values: list[float] | list[int]) -> float:
        """By how much the last third of the samples is above the second third."""
        third = len(values) // 3
        return median(values[-third:]) - median(values[third : 2 * third])


class Load:
    """What runs at the same time: each part in a thread, again and again, until the end."""

    def __init__(self, server: HeadwaterServer) -> None:
        self.address = server.address
        self.settings = {"bootstrap.servers": server.address, **QUIET}
        self.admin = AdminClient(self.settings)
        self.ended = threading.Event()
        self.rounds: dict[str, int] = {}
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self.repeat, args=(part,)) for part in self.parts()]

    def parts(self) -> list[Callable[[int], None]]:
        return [self.produce, self.consume, self.use_topic, self.use_connections, self.use_transaction, self.use_group]

    def repeat(self, part: Callable[[int], None]) -> None:
        try:
            while not self.ended.is_set():
                part(self.rounds.setdefault(part.__name__, 0))
                self.rounds[part.__name__] += 1
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failures.append(error)
            self.ended.set()

    def produce(self, number: int) -> None:
        """As fast as the broker answers, for some seconds: then it is another producer."""
        producer = Producer({**self.settings, "enable.idempotence": True, "linger.ms": 5})
        until = time.monotonic() + 5
        while time.monotonic() < until and not self.ended.is_set():
            if len(producer) > IN_QUEUE_MAX:
                producer.poll(0.05)
                continue
            for _ in range(100):
                producer.produce("load", bytes(1000))
                producer.produce("compacted", b"v" * 100, key=b"%d" % (number % 100))
            producer.poll(0)
        assert producer.flush(60) == 0

    def consume(self, number: int) -> None:
        """A member that joins, reads, commits and leaves; every second one by the new protocol."""
        protocol = {"group.protocol": "consumer"} if number % 2 else {}
        group = f"readers-{number % 2}"
        consumer = Consumer({**self.settings, "group.id": group, "auto.offset.reset": "latest", **protocol})
        consumer.subscribe(["load"])
        for _ in range(20):
            consumer.consume(1000, 0.1)
        consumer.close()

    def use_topic(self, number: int) -> None:
        name = f"passing-{number}"
        self.admin.create_topics([NewTopic(name, 3, 1)])[name].result(60)
        producer = Producer(self.settings)
        for partition in range(3):
            producer.produce(name, bytes(1000), partition=partition)
        assert producer.flush(60) == 0
        self.admin.delete_topics([name])[name].result(60)

    def use_connections(self, number: int) -> None:
        wires = [Wire(self.address) for _ in range(20)]
        for wire in wires:
            wire.call(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("soak", "1"))
            wire.socket.close()
        self.ended.wait(0.2)

    def use_transaction(self, number: int) -> None:
        producer = Producer({**self.settings, "transactional.id": f"soak-{number % 20}"})
        producer.init_transactions(60)
        for step in range(5):
            producer.begin_transaction()
            producer.produce("load", bytes(1000))
            producer.abort_transaction(60) if step % 2 else producer.commit_transaction(60)

    def use_group(self, number: int) -> None:
        name = f"passing-{number}"
        consumer = Consumer({**self.settings, "group.id": name})
        consumer.commit(offsets=[TopicPartition("load", 0, 1)], asynchronous=False)
        consumer.close()
        self.admin.delete_consumer_groups([name])[name].result(60)


@pytest.mark.timeout(int(SOAK_S) + 300)
def test_memory_and_descriptors_stay_flat_under_load(tmp_path: Path) -> None:
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    with running_server(tmp_path, *options) as server:
        load = Load(server)
        created = load.admin.create_topics(
            [NewTopic("load", 8, 1, config=LOAD_TOPIC), NewTopic("compacted", 2, 1, config=COMPACTED_TOPIC)]
        )
        for done in created.values():
            done.result(60)
        usage = Usage(server.process.pid)
        for thread in load.threads:
            thread.start()
        until = time.monotonic() + SOAK_S
        while time.monotonic() < until and not load.ended.wait(SAMPLE_S):
            usage.sample()
        load.ended.set()
        for thread in load.threads:
            thread.join()
        memory, descriptors = usage.growth(usage.memory_mib), usage.growth(usage.descriptors)
        figures = f"memory {median(usage.memory_mib):.0f} MiB, {memory:+.1f}; descriptors {descriptors:+.0f}; rounds {load.rounds}"
        print(figures)
        assert load.failures == [], figures
        assert memory <= GROWTH_MIB_MAX, figures
        assert descriptors <= DESCRIPTORS_GROWTH_MAX, figures
