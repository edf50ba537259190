"""SIGKILL while logs are compacted: of every key the newest acknowledged value, or a newer one, is there."""

import os
import threading
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Message, Producer

from headwater.protocol.records import batches, records
from tests.broker.wire import Wire
from tests.interop.servers import running_server

KILLS = max(5, int(os.environ.get("TEST_KILLS", "200")) // 20)
KEYS = 400
VALUE_PADDING = bytes(300)
RECORDS_MIN = 20_000


class Updates:
    """A producer in a thread: ever newer numbers for random keys, and the newest acknowledged of each."""

    def __init__(self, address: str) -> None:
        settings = {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        self.producer = Producer({**settings, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20})
        self.acknowledged: dict[bytes, int] = {}
        self.errors: list[object] = []
        self.sent = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def delivered(self, error: object, message: Message) -> None:
        if error is not None:
            self.errors.append(error)
            return
        key, number = message.key(), int(message.value().partition(b":")[0])
        self.acknowledged[key] = max(number, self.acknowledged.get(key, -1))

    def run(self) -> None:
        random = Random(3)
        while not self.over.is_set() or self.sent < RECORDS_MIN:
            while len(self.producer) > 5_000 and not self.over.is_set():
                self.producer.poll(0.02)
            self.sent += 1
            value = b"%d:" % self.sent + VALUE_PADDING
            self.producer.produce(
                "t", value, b"key-%d" % random.randrange(KEYS), partition=0, on_delivery=self.delivered
            )
            self.producer.poll(0)

    def stop(self) -> None:
        self.over.set()
        self.thread.join()
        assert self.producer.flush(60) == 0


def newest(address: str) -> tuple[dict[bytes, int], int]:
    """The last value of each key, and the number of records that are there."""
    found: dict[bytes, int] = {}
    count = offset = 0
    with Wire(address) as wire:
        while data := wire.fetch("t", 0, offset):
            for header, batch in batches(data):
                for record in records(header, batch):
                    assert record.key is not None
                    assert record.value is not None
                    found[record.key] = int(record.value.partition(b":")[0])
                    count += 1
                offset = header.next_offset
    return found, count


@pytest.mark.timeout(400)
def test_nothing_newest_is_lost(tmp_path: Path) -> None:
    options = ["--set", "log.cleaner.backoff.ms=50"]
    random, pause = Random(9), threading.Event()
    with running_server(tmp_path, *options) as server:
        with Wire(server.address) as wire:
            segment_bytes = str(1 << 20)
            wire.create_topic(
                "t", cleanup_policy="compact", segment_bytes=segment_bytes, min_cleanable_dirty_ratio="0.01"
            )
        updates = Updates(server.address)
        for _ in range(KILLS):
            pause.wait(random.uniform(0.5, 4))
            server.kill()
            server.restart()
        updates.stop()
        assert updates.errors == []
        for _ in range(100):
            found, count = newest(server.address)
            assert all(found[key] >= number for key, number in updates.acknowledged.items())
            if count < updates.sent / 2:
                break
            pause.wait(0.5)
        else:
            raise AssertionError(f"{count} of {updates.sent} records are left: it was not compacted")
