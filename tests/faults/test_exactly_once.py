"""Records are copied exactly once, in order, with random aborts, while the broker and the copier are killed.

The copier gives up at each error and is started again; a loop with the Python API continues by itself.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import headwater as hw
from headwater.client.errors import TransactionAbortedError
from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer, running_server

KILLS = int(os.environ.get("TEST_COPY_KILLS", "8"))  # of each
RECORDS = 2_000 * KILLS
LOOP_KILLS = 3
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


class Loop:
    """Copies with the Python API, one record in each transaction, in a thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.committed = 0
        self.has_committed, self.over = threading.Event(), threading.Event()
        self.errors: list[BaseException] = []
        # A daemon: the process can end although a call never returns.
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            with (
                hw.Producer(self.address, transactional_id="loop") as producer,
                hw.Consumer(self.address, "source", group="loop", commit="manual") as source,
            ):
                while not self.over.is_set():
                    self.copy(producer, source)
        except BaseException as error:  # noqa: BLE001 - raised by `wait_committed`
            self.errors.append(error)
            self.has_committed.set()

    def copy(self, producer: hw.Producer[Any], source: hw.Consumer[Any]) -> None:
        for event in source:
            try:
                with producer.transaction(source):
                    producer.send("target", event.value)
            except TransactionAbortedError:
                return  # the consumer is back where it was
            self.committed += 1
            self.has_committed.set()
            if self.over.is_set():
                return

    def wait_committed(self) -> None:
        """Waits for the end of the next transaction."""
        self.has_committed.clear()
        assert self.has_committed.wait(QUIET_S), "transactions no longer end"
        if self.errors:
            raise self.errors[0]


@pytest.mark.timeout(900)
def test_a_loop_continues_after_its_only_broker_was_killed(tmp_path: Path) -> None:
    """With librdkafka's own `metadata.recovery.strategy` it waits for ever after the first kill."""
    with running_server(tmp_path) as server:
        with Wire(server.address) as wire:
            wire.create_topic("source")
            wire.create_topic("target")
        fill(server.address)
        loop = Loop(server.address)
        for _ in range(LOOP_KILLS):
            loop.wait_committed()
            server.kill()
            server.restart()
        loop.wait_committed()
        loop.over.set()
        loop.thread.join(QUIET_S)
        assert not loop.thread.is_alive()
        assert copied(server.address, loop.committed) == list(range(loop.committed))
