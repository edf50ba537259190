"""Consumers are killed and frozen, again and again, while they rebalance: every event is handled, copied ones exactly once.

A frozen one wakes up when its session is over and others have its partitions, and must not disturb them.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

import headwater as hw
from tests.faults.consuming import SESSION_TIMEOUT_S
from tests.interop.servers import running_server

KILLS = int(os.environ.get("TEST_KILLS", "200"))
COPY_KILLS = max(5, KILLS // 4)
WORKERS = 3
PARTITIONS = 6
EVENTS = 20_000
LIFE_S_MAX = 1.5
SLICES = 10  # in which the events of a life are sent
FREEZE_EVERY = 4  # lives
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

    def freeze(self, worker: int, time_s: float) -> None:
        self.processes[worker].send_signal(signal.SIGSTOP)
        time.sleep(time_s)
        self.processes[worker].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.log.close()


def disturb_while_they_work(workers: Workers, address: str, topic: str, kills: int, seed: int) -> None:
    """Kills workers, and freezes some, while events are sent; the last ones are sent after the last kill."""
    random = Random(seed)
    ends = [EVENTS * (n + 1) // (kills * SLICES + 1) for n in range(kills * SLICES)]
    with hw.Producer(address, cloudevents="none") as producer:
        sent = 0
        for life in range(kills):
            life_s = random.uniform(0.1, LIFE_S_MAX)  # how long it lasts is the seed's choice
            for end in ends[life * SLICES : (life + 1) * SLICES]:
                time.sleep(life_s / SLICES)
                sent = send(producer, topic, sent, end)  # they are at work on the last ones when they are killed
            if life % FREEZE_EVERY == 0:
                workers.freeze(random.randrange(WORKERS), random.uniform(0.7, 2.0) * SESSION_TIMEOUT_S)
            workers.kill(random.randrange(WORKERS))
        send(producer, topic, sent, EVENTS)


def send(producer: hw.Producer[int], topic: str, start: int, end: int) -> int:
    for n in range(start, end):
        producer.send(topic, n, key=n % 100)
    producer.flush()
    return end


def create(address: str, *topics: str) -> None:
    with hw.Admin(address) as admin:
        for topic in topics:
            admin.create_topic(topic, PARTITIONS)


def shown(numbers: Iterable[int]) -> str:
    """How many and the first of them: a failure's whole list would fill the log of a CI run."""
    found = sorted(numbers)
    return f"{len(found)}: {found[:20]}"


@pytest.mark.timeout(TIMEOUT_S)
def test_every_event_is_handled_at_least_once(tmp_path: Path) -> None:
    handled = tmp_path / "handled"
    with running_server(tmp_path, *OPTIONS) as server:
        create(server.address, "orders")
        workers = Workers(tmp_path, server.address, "orders", "group", "handle", str(handled))
        try:
            disturb_while_they_work(workers, server.address, "orders", KILLS, seed=1)
            deadline = time.monotonic() + DONE_TIMEOUT_S
            while len(seen := set(handled.read_text().split())) < EVENTS and time.monotonic() < deadline:
                time.sleep(0.2)  # nothing tells a test that other processes are done
        finally:
            workers.stop()
    assert shown(set(range(EVENTS)).difference(map(int, seen))) == "0: []", "lost"


@pytest.mark.timeout(TIMEOUT_S)
def test_copied_events_are_there_exactly_once(tmp_path: Path) -> None:
    with running_server(tmp_path, *OPTIONS) as server:
        create(server.address, "orders", "copies")
        workers = Workers(tmp_path, server.address, "orders", "group", "copy", "copies")
        try:
            disturb_while_they_work(workers, server.address, "orders", COPY_KILLS, seed=2)
            with hw.Consumer(server.address, "copies", group="check", value=int) as copies:
                events = copies.take(EVENTS, DONE_TIMEOUT_S * 1000)
                events += copies.take(1, 3000)  # one too many would come now
        finally:
            workers.stop()
    copied = Counter(event.value for event in events)
    assert shown(n for n in range(EVENTS) if copied[n] == 0) == "0: []", "lost"
    assert shown(n for n, times in copied.items() if times > 1) == "0: []", "copied more than once"
    for key in range(100):
        values = [event.value for event in events if event.key == str(key)]
        assert values == sorted(values)
