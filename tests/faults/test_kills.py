"""SIGKILL under load, again and again: no acknowledged record is lost, doubled, moved or changed, and a group's offset
never goes back. Clients live through all restarts, as users' applications would.

`TEST_KILLS` says how many kills there are in each test (`make kills`: 500), and `TEST_KILLS_SEED` repeats the choices of a run.
"""

import os
import shutil
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headwater.protocol.records import batches, check_batch, records
from headwater.testing.simulate.history import EndTransaction, Outcome, Send
from tests.broker.wire import Wire
from tests.faults.mixed_clients import MixedClients
from tests.interop.servers import HeadwaterServer, running_server
from tests.power.cut_history import Readers, write_everywhere

KILLS = int(os.environ.get("TEST_KILLS", "60"))
MIXED_KILLS = int(os.environ.get("TEST_KILLS", "40"))  # each takes longer
SEED = int(os.environ.get("TEST_KILLS_SEED", "0")) or int.from_bytes(os.urandom(4))
KILLS_IN_ROUND = 20  # then all is read and checked, and the next round begins with nothing
MIXED_SETTINGS = (
    "headwater.journal.file.bytes=1048576",
    "log.flush.offset.checkpoint.interval.ms=300",
    "log.cleaner.backoff.ms=100",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=3",
    "transaction.state.log.num.partitions=3",
)
PARTITIONS = 3
IN_QUEUE_MAX = 20_000
LONG_LIFE_S = 2.0
LIVES_OF_A_TRANSACTION = 6  # most lives are too short for one: librdkafka waits half a second for its coordinator


class Load:
    """A producer in a thread: numbered values to each partition, and what was acknowledged of them."""

    def __init__(self, address: str) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "delivery.timeout.ms": 120_000,
                "retry.backoff.ms": 20,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "batch.num.messages": 200,
                "log_level": 0,
            }
        )
        self.acknowledged: list[dict[int, int]] = [{} for _ in range(PARTITIONS)]  # number to offset
        self.errors: list[Any] = []
        self.sent = [0] * PARTITIONS
        self.is_under_way = threading.Event()  # librdkafka asks for its producer id twice a second: lives are shorter
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.errors.append(error)
            return
        self.acknowledged[message.partition()][int(message.key())] = message.offset()
        self.is_under_way.set()

    def run(self) -> None:
        random = Random(5)
        while not self.stopping.is_set():
            if len(self.producer) > IN_QUEUE_MAX:
                self.producer.poll(0.05)
                continue
            for partition in range(PARTITIONS):
                number = self.sent[partition]
                value = b"%d:" % number + bytes(random.randrange(300))
                self.producer.produce("t", value, b"%d" % number, partition=partition, on_delivery=self.delivered)
                self.sent[partition] += 1
            self.producer.poll(0)
            if random.random() < 0.02:
                self.stopping.wait(0.005)

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()
        assert self.producer.flush(120) == 0


def read_partition(address: str, partition: int) -> list[tuple[int, int, bytes]]:
    """Every record as (offset, number, value)."""
    found: list[tuple[int, int, bytes]] = []
    offset = 0
    with Wire(address) as wire:
        while data := wire.fetch("t", partition, offset):
            for header, batch in batches(data):
                check_batch(batch)
                for record in records(header, batch):
                    if record.offset >= offset:
                        found.append((record.offset, int(record.key or b""), record.value or b""))
                offset = max(offset, header.next_offset)
    return found


def commit_and_check(server: HeadwaterServer, committed: int) -> int:
    """After a restart the group's offset is what was acknowledged last; then a later one is committed."""
    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "group", "log_level": 0})
    try:
        (found,) = consumer.committed([TopicPartition("t", 0)], timeout=20)
        assert max(found.offset, 0) >= committed, f"the offset went back from {committed} to {found.offset}"
        (done,) = consumer.commit(offsets=[TopicPartition("t", 0, committed + 1)], asynchronous=False)
        assert done.error is None
        return committed + 1
    except KafkaException as error:  # the broker was killed meanwhile: nothing was promised
        assert error.args[0].retriable() or error.args[0].code() < 0, error
        return committed
    finally:
        consumer.close()


@pytest.mark.timeout(3600)
def test_nothing_acknowledged_is_lost_through_kills(tmp_path: Path) -> None:
    random = Random(SEED)
    with running_server(tmp_path, "--set", "headwater.journal.file.bytes=4194304") as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        topic = NewTopic("t", PARTITIONS, 1, config={"segment.bytes": "2097152"})
        admin.create_topics([topic])["t"].result(20)
        load = Load(server.address)
        committed = 0
        pause = threading.Event()
        try:
            assert load.is_under_way.wait(30)
            for kill in range(KILLS):
                if kill % 4 == 0:
                    committed = commit_and_check(server, committed)
                # Now and then a life is long enough for what librdkafka does twice a second only, on a slow machine too.
                pause.wait(LONG_LIFE_S if kill % 10 == 9 else random.uniform(0.02, 0.5))
                server.kill()
                server.restart()
            acknowledged = sum(map(len, load.acknowledged))
        finally:
            load.stop()
        assert load.errors == []
        assert acknowledged > KILLS  # while the broker was killed, not only afterwards
        for partition in range(PARTITIONS):
            check_partition(server.address, partition, load)
        assert sum(map(len, load.acknowledged)) == sum(load.sent)
        server.kill()
        server.restart()
        for partition in range(PARTITIONS):
            check_partition(server.address, partition, load)


def check_partition(address: str, partition: int, load: Load) -> None:
    found = read_partition(address, partition)
    assert [offset for offset, _, _ in found] == list(range(len(found)))
    numbers = [number for _, number, _ in found]
    assert numbers == sorted(set(numbers)), "records are doubled or out of order"
    assert all(value.startswith(b"%d:" % number) for _, number, value in found)
    by_number = {number: offset for offset, number, _ in found}
    missing = set(load.acknowledged[partition]) - set(by_number)
    assert not missing, f"{len(missing)} acknowledged records are gone from partition {partition}"
    wrong = [n for n, offset in load.acknowledged[partition].items() if offset >= 0 and by_number[n] != offset]
    assert not wrong, f"{len(wrong)} records are at other offsets than acknowledged"


def round_of_kills(directory: Path, kills: int, seed: int) -> list[str]:
    """Kills a broker under mixed load; returns what its clients saw that must not be."""
    random = Random(seed)
    options = [word for setting in MIXED_SETTINGS for word in ("--set", setting)]
    with running_server(directory, *options) as server:
        clients = MixedClients(server.address, random.getrandbits(32))
        try:
            clients.start()
            for kill in range(kills):
                if kill % LIVES_OF_A_TRANSACTION == 0:
                    clients.wait_for_transactions()
                clients.over.wait(random.uniform(0.02, 0.6))  # an error ends it early
                server.kill()
                server.restart()
        finally:
            clients.stop()
        server.kill()  # what was acknowledged last, too
        server.restart()
        readers = Readers(server.address, clients.history)
        problems = clients.refused + readers.problems(clients.facts)
        topics = {name for name in readers.topics if not name.startswith("__")}
        problems += write_everywhere(server.address, topics, kills)
        sends = [send for send in clients.history.of(Send) if send.outcome is Outcome.OK]
        ends = [end for end in clients.history.of(EndTransaction) if end.outcome is Outcome.OK]
        copies = [end for end in ends if end.process == "c"]
        print(
            f"{kills} kills, {len(clients.history.operations)} operations,",
            f"{len(sends)} sends and {len(ends)} ends, {len(copies)} of them the copier's",
        )
        if problems:
            (directory / "history").write_text("\n".join(clients.history.lines()))
            return problems
        assert len(sends) > 20 * kills
        assert min(len(copies), len(ends) - len(copies)) >= kills // LIVES_OF_A_TRANSACTION
    return []


@pytest.mark.timeout(7200)
def test_what_clients_of_all_kinds_see_through_kills(tmp_path: Path) -> None:
    """Idempotent and transactional producers, a copier, readers, compaction, topics that come and go: one checker for all."""
    for number, first in enumerate(range(0, MIXED_KILLS, KILLS_IN_ROUND)):
        directory = tmp_path / str(number)
        directory.mkdir()
        problems = round_of_kills(directory, min(KILLS_IN_ROUND, MIXED_KILLS - first), SEED + number)
        assert not problems, "\n".join([f"TEST_KILLS_SEED={SEED}, round {number}:", *problems[:30]])
        shutil.rmtree(directory / "data")
