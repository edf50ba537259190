"""Consumers are killed, again and again, while they rebalance: every event is handled, and copied ones exactly once."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

import headwater as hw
from tests.interop.servers import running_server

KILLS = int(os.environ.get("TEST_KILLS", "200"))
COPY_KILLS = max(5, KILLS // 4)
WORKERS = 3
PARTITIONS = 6
EVENTS = 20_000
LIFE_S_MAX = 1.5
DONE_TIMEOUT_S = 120.0
TIMEOUT_S = 900
OPTIONS = ["--set", "group.min.session.timeout.ms=500", "--set", "group.initial.rebalance.delay.ms=0"]


class Workers:
    """Processes in one group, each of which can be killed and started again."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.arguments = arguments
        self.log = (directory / "workers.log").open("w")
        self.processes = [self.start(n) for n in range(WORKERS)]

    def start(self, worker: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.faults.consuming", *self.arguments, str(worker)]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def kill(self, worker: int) -> None:
        self.processes[worker].kill()
        self.processes[worker].wait()
        self.processes[worker] = self.start(worker)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.log.close()


def kill_while_they_work(workers: Workers, address: str, topic: str, kills: int, seed: int) -> None:
    """Sends events all the while, some before each kill, the last after the last one."""
    random, sent = Random(seed), 0
    with hw.Producer(address, cloudevents="none") as producer:
        for number in range(kills + 1):
            until = EVENTS * (number + 1) // (kills + 1)
            for n in range(sent, until):
                producer.send(topic, n, key=n % 100)
            producer.flush()
            sent = until
            if number < kills:
                time.sleep(random.uniform(0.1, LIFE_S_MAX))  # how long a life lasts is the seed's choice
                workers.kill(random.randrange(WORKERS))


def create(address: str, *topics: str) -> None:
    with hw.Admin(address) as admin:
        for topic in topics:
            admin.create_topic(topic, PARTITIONS)


@pytest.mark.timeout(TIMEOUT_S)
def test_every_event_is_handled_at_least_once(tmp_path: Path) -> None:
    handled = tmp_path / "handled"
    with running_server(tmp_path, *OPTIONS) as server:
        create(server.address, "orders")
        workers = Workers(tmp_path, server.address, "orders", "group", "handle", str(handled))
        try:
            kill_while_they_work(workers, server.address, "orders", KILLS, seed=1)
            deadline = time.monotonic() + DONE_TIMEOUT_S
            while len(seen := set(handled.read_text().split())) < EVENTS and time.monotonic() < deadline:
                time.sleep(0.2)  # nothing tells a test that other processes are done
        finally:
            workers.stop()
    assert seen == {str(n) for n in range(EVENTS)}


@pytest.mark.timeout(TIMEOUT_S)
def test_copied_events_are_there_exactly_once(tmp_path: Path) -> None:
    with running_server(tmp_path, *OPTIONS) as server:
        create(server.address, "orders", "copies")
        workers = Workers(tmp_path, server.address, "orders", "group", "copy", "copies")
        try:
            kill_while_they_work(workers, server.address, "orders", COPY_KILLS, seed=2)
            with hw.Consumer(server.address, "copies", group="check", value=int) as copies:
                events = copies.take(EVENTS, DONE_TIMEOUT_S * 1000)
                events += copies.take(1, 3000)  # one too many would come now
        finally:
            workers.stop()
    assert Counter(event.value for event in events) == Counter(range(EVENTS))
    for key in range(100):
        values = [event.value for event in events if event.key == str(key)]
        assert values == sorted(values)
