"""Records are copied exactly once, in order, with random aborts, while the broker and the copier are killed."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer, running_server

KILLS = int(os.environ.get("TEST_COPY_KILLS", "8"))  # of each
RECORDS = 2_000 * KILLS
COPIER = Path(__file__).parent / "copier.py"
QUIET_S = 120.0


class Copying:
    """The copier, started again whenever it ends."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.starts = 0
        self.over = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.over.is_set():
            self.starts += 1
            command = [sys.executable, str(COPIER), self.address, "source", "target", str(self.starts)]
            self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            self.process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def stop(self) -> None:
        self.over.set()
        self.kill()
        self.thread.join()


def fill(address: str) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5})
    for number in range(RECORDS):
        producer.produce("source", b"%d" % number, partition=0)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def copied(address: str, count: int) -> list[int]:
    """The committed records of the target, `count` of them, or fewer if no more come for a while."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition("target", 0, 0)])
    found: list[int] = []
    while len(found) < count:
        messages = consumer.consume(min(5_000, count - len(found)), QUIET_S)
        if not messages:
            break
        found += [int(message.value() or b"-1") for message in messages if message.error() is None]
    consumer.close()
    return found


def strike(server: HeadwaterServer, copying: Copying) -> None:
    random, pause = Random(11), threading.Event()
    for number in range(2 * KILLS):
        pause.wait(random.uniform(0.1, 1.2))
        if number % 2:
            server.kill()
            server.restart()
        else:
            copying.kill()


@pytest.mark.timeout(900)
def test_records_are_copied_exactly_once_through_kills(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        with Wire(server.address) as wire:
            wire.create_topic("source")
            wire.create_topic("target")
        fill(server.address)
        copying = Copying(server.address)
        try:
            strike(server, copying)
            found = copied(server.address, RECORDS)
        finally:
            copying.stop()
    assert found == list(range(RECORDS))
    assert copying.starts > KILLS
