"""Backups of a real broker under full load: what was acknowledged before one began is in it, also after others were killed."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer

from headwater.protocol.records import batches, records
from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer, running_server

PARTITIONS = 3
SEED = int(os.environ.get("TEST_BACKUPS_SEED", "0")) or int.from_bytes(os.urandom(4))
KILLS = max(3, int(os.environ.get("TEST_KILLS", "200")) // 60)
OPTIONS = ("--set", "headwater.journal.file.bytes=4194304")
SMALL_PIECE_BYTES = 256 * 1024
PADDING = bytes(Random(SEED).randbytes(900))


class Load:
    """A producer in a thread, as fast as the broker lets it; per partition the offsets of what was acknowledged."""

    def __init__(self, address: str) -> None:
        settings = {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        self.producer = Producer(settings)
        self.acknowledged: list[dict[int, int]] = [{} for _ in range(PARTITIONS)]
        self.errors: list[object] = []
        self.sent = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def delivered(self, error: object, message: Any) -> None:
        if error is not None:
            self.errors.append(error)
            return
        self.acknowledged[message.partition()][message.offset()] = int(message.value().partition(b":")[0])

    def run(self) -> None:
        while not self.over.is_set():
            while len(self.producer) > 5_000:
                self.producer.poll(0.02)
            self.sent += 1
            value = b"%d:" % self.sent + PADDING
            self.producer.produce("t", value, partition=self.sent % PARTITIONS, on_delivery=self.delivered)
            self.producer.poll(0)

    def stop(self) -> None:
        self.over.set()
        self.thread.join()
        assert self.producer.flush(60) == 0
        assert self.errors == []


def start_command(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "headwater.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_command(*arguments: object) -> dict[str, Any]:
    process = start_command(*arguments, "--json")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, (output, errors)
    found: dict[str, Any] = json.loads(output)
    return found


def everything(address: str, partition: int) -> dict[int, int]:
    """The number in each record, by offset."""
    found: dict[int, int] = {}
    offset = 0
    with Wire(address) as wire:
        while data := wire.fetch("t", partition, offset):
            for header, batch in batches(data):
                for record in records(header, batch):
                    assert record.value is not None
                    found[record.offset] = int(record.value.partition(b":")[0])
                offset = header.next_offset
    return found


@pytest.mark.timeout(300)
def test_a_backup_under_load(tmp_path: Path) -> None:
    random, pause, to = Random(SEED), threading.Event(), tmp_path / "to"
    with running_server(tmp_path, *OPTIONS) as server:
        with Wire(server.address) as wire:
            wire.create_topic("t", PARTITIONS, segment_bytes=str(4 << 20))
        load = Load(server.address)
        pause.wait(2)
        for _ in range(KILLS):
            killed = start_command("backup", server.data, to)
            pause.wait(random.uniform(0.3, 1.5))
            killed.kill()
            killed.communicate()
        before = [dict(found) for found in load.acknowledged]
        assert sum(map(len, before)) > 1_000
        under_load = run_command("backup", server.data, to)
        load.stop()
        assert under_load["damages"] == []
        compare(tmp_path / "restored", to, under_load["id"], before)
        quiet = run_command("backup", server.data, to)
        again = run_command("backup", server.data, to)
        assert again["new_bytes"] < SMALL_PIECE_BYTES, SEED  # a checkpoint may have come in between
        load = Load(server.address)
        pause.wait(0.5)
        load.stop()
        sent_bytes = load.sent * (len(PADDING) + 100)
        third = run_command("backup", server.data, to, "--keep", 3)
        assert 0 < third["new_bytes"] < sent_bytes + PARTITIONS * 2 * SMALL_PIECE_BYTES < quiet["size_bytes"], SEED
        assert len(third["removed"]) >= 1
        run_command("backup", "--verify", to)
        last = [everything(server.address, partition) for partition in range(PARTITIONS)]
    compare(tmp_path / "last", to, third["id"], last)


def compare(directory: Path, to: Path, backup_id: str, expected: list[dict[int, int]]) -> None:
    """Starts a broker on a restored backup: all that is expected is there, at its offsets."""
    run_command("restore", to, directory, "--id", backup_id)
    server = HeadwaterServer(directory, *OPTIONS)
    try:
        for partition, known in enumerate(expected):
            found = everything(server.address, partition)
            assert list(found) == list(range(len(found)))
            missing = [offset for offset, number in known.items() if found.get(offset) != number]
            assert not missing, (SEED, partition, missing[:5])
    finally:
        server.stop()
