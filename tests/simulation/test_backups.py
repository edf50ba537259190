"""Backups of a running broker, step by step between, and within, what the broker does.

Each seed is a history of producers, transactions, groups, compaction, deletion, checkpoints and rolls on files in memory.
A backup is made meanwhile: some of its steps come between two actions of the broker, some within them, at a call for a
file. Then a broker is started on what is restored. What was acknowledged before the backup began must be there, what came
later may be, and in no log may be what another lacks: every transaction is there whole or not at all.
Each run has other seeds, and a failure prints its own. TEST_SEEDS says how many histories are tried.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from headwater.broker import state_logs
from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.metadata import Topic
from headwater.broker.partitions import Partitions
from headwater.cli.backup import topics_in
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.work import at_once
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.storage import backup_cut, backup_logs
from headwater.storage.backup import Backup
from headwater.storage.backup_repository import Manifest, Repository, restore_backup
from headwater.storage.config import LogConfig
from tests.broker.harness import Harness, Pending
from tests.broker.transactional import Producer, committed_values, fetched_offset

SEEDS = max(1, int(os.environ.get("TEST_SEEDS", "60")) // 8)
CHUNK = 50
FIRST_SEED = int(os.environ.get("TEST_BACKUPS_SEED", "0")) or int.from_bytes(os.urandom(4))
KEYS = 4
ACTIONS_MAX = 150  # while a backup is made; then the broker has nothing to do, so that the backup ends


PARTITIONS = (("a", 0), ("a", 1), ("b", 0))


class Lane:
    """One producer and its transactions, numbered; each writes its number to some partitions, and as an offset."""

    def __init__(self, broker: Harness, number: int, version: int) -> None:
        self.name = f"tx-{number}"
        self.producer = Producer(broker, self.name, version)
        self.next = 1
        self.open: dict[tuple[str, int], int] = {}  # partitions of the open transaction, and the records in each
        self.pending: list[Pending] = []
        self.offset: Pending | None = None
        self.ending: tuple[bool, Pending] | None = None
        self.outcomes: dict[int, bool | None] = {}  # None: there was no answer
        self.written: dict[int, dict[tuple[str, int], int]] = {}
        self.has_offset: set[int] = set()

    def value(self) -> bytes:
        return b"%s:%d" % (self.name.encode(), self.next)

    def step(self, random: Random) -> None:
        producer = self.producer
        if self.ending is not None:
            return
        action = random.random()
        if action < 0.6:
            key = random.choice(PARTITIONS)
            if producer.version < 2 and key not in self.open:
                producer.broker.hold_syncs = False
                assert producer.add(*key) == 0
                producer.broker.hold_syncs = True
            self.open[key] = self.open.get(key, 0) + 1
            self.pending.append(producer.send_produce(key[0], self.value(), partition=key[1]))
        elif action < 0.75 and producer.version >= 2 and self.offset is None:
            self.offset = producer.send_offset(self.name, "a", self.next)
        elif (self.open or self.offset is not None) and all(p.is_done for p in (*self.pending, self.offset) if p):
            commit = random.random() < 0.7
            self.note(None)
            self.ending = commit, producer.send_end(commit=commit)

    def note(self, outcome: bool | None) -> None:
        self.outcomes[self.next] = outcome
        self.written[self.next] = dict(self.open)
        if self.offset is not None:
            self.has_offset.add(self.next)

    def collect(self) -> None:
        for pending in self.pending:
            if pending.is_done:
                assert pending.message.responses[0].partition_responses[0].error_code == 0
        if self.ending is not None and self.ending[1].is_done:
            commit, pending = self.ending
            answer = pending.message
            assert answer.error_code == 0, answer
            if self.producer.version >= 2:
                self.producer.took(answer)
            self.note(commit)
            self.begin_next()

    def begin_next(self) -> None:
        self.next += 1
        self.open, self.pending, self.offset, self.ending = {}, [], None, None


class CompactingHarness(Harness):
    """Small segments; the topic `c` is compacted as soon as it may be."""

    segment_bytes = 3000
    journal_file_bytes = 1 << 16
    opened = 0

    def open(self) -> BrokerCore:
        segment_bytes = self.segment_bytes
        self.opened += 1

        class SmallSegments(Partitions):
            def log_config(self, topic: Topic) -> LogConfig:
                config = LogConfig(segment_bytes=segment_bytes, index_interval_bytes=200, retention_ms=-1)
                if topic.name == "c":
                    return replace(config, compact=True, delete=False, min_cleanable_dirty_ratio=0.0)
                return config

        class SmallCore(BrokerCore):
            partitions_class = SmallSegments

        settings = replace(Settings.from_pairs(self.pairs), headwater_journal_file_bytes=self.journal_file_bytes)
        return SmallCore(settings, self.files, self.clock, SeededEntropy(self.opened), directory="data")


class Running:
    """A broker in use, as a seed decides."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.files = MemoryFiles()
        CompactingHarness.segment_bytes = random.choice((600, 3000, 100_000))
        CompactingHarness.journal_file_bytes = random.choice((4096 + 2000, 1 << 14, 1 << 18))
        pairs = {"offsets.topic.num.partitions": 2, "transaction.state.log.num.partitions": 2}
        self.broker = CompactingHarness(self.files, ManualClock(), pairs)
        for name, partitions in (("a", 2), ("b", 1), ("c", 1), ("d", 2)):
            self.broker.create_topic(name, partitions)
        self.lanes = [Lane(self.broker, n, version) for n, version in enumerate((2, 1))]
        for lane in self.lanes:
            assert lane.producer.init().error_code == 0
        self.broker.hold_syncs = True
        self.sent: dict[tuple[str, int], list[bytes]] = defaultdict(list)
        self.produced: list[tuple[tuple[str, int], bytes, Pending]] = []
        self.acknowledged: dict[tuple[str, int], list[bytes]] = defaultdict(list)
        self.commits: list[tuple[int, Pending]] = []
        self.committed = self.number = self.rules = 0
        self.extra: dict[str, int] = {}
        broker = self.broker
        self.actions: list[Callable[[], object]] = [
            lambda: self.produce(*random.choice((("d", 0), ("d", 1)))),
            lambda: self.produce("c", 0),
            self.step_lane,
            self.commit,
            broker.sync_one,
            self.checkpoint,
            lambda: broker.advance(random.randrange(1, 30)),  # compaction proceeds
            lambda: broker.core.shorten_state_logs(),
            self.delete_records,
            self.change_topics,
            lambda: self.at_once(self.add_rule),
            self.start_again,
        ]
        usual = (10, 10, 25, 8, 20, 4, 4, 2, 2, 4, 2, 1)
        self.weights = [max(weight * random.choice((0, 0.3, 1, 1, 3)), 0.1) for weight in usual]

    def act(self) -> None:
        """One action. How often which comes is drawn for each seed: some have nothing but one kind."""
        (action,) = self.random.choices(self.actions, self.weights)
        action()
        self.broker.begin_sync()
        self.collect()

    def start_again(self) -> None:
        """Stops the broker, or kills it, when all has been answered, and starts it."""
        self.release_checkpoint()
        self.broker.sync()
        self.collect()
        self.random.choice((self.broker.kill, self.broker.restart))()

    def step_lane(self) -> None:
        lane = self.random.choice(self.lanes)
        if lane.producer.version < 2:  # it waits for an answer
            self.release_checkpoint()
        lane.step(self.random)

    def at_once(self, change: Callable[[], object]) -> None:
        self.release_checkpoint()
        self.broker.hold_syncs = False
        change()
        self.broker.hold_syncs = True

    def release_checkpoint(self) -> None:
        disk = self.broker.disk
        disk.holds_checkpoints = False
        if disk.held_checkpoint is not None:
            checkpoint, disk.held_checkpoint = disk.held_checkpoint, None
            disk.run_checkpoint(checkpoint)

    def checkpoint(self) -> None:
        disk = self.broker.disk
        if disk.held_checkpoint is not None:
            self.release_checkpoint()
        elif self.broker.core.store.running_checkpoint is None:
            disk.holds_checkpoints = self.random.random() < 0.5
            self.broker.core.durability.begin_checkpoint()

    def produce(self, topic: str, partition: int) -> None:
        self.number += 1
        key = b"k%d" % self.random.randrange(KEYS)
        value = b"%s/%d/" % (key, self.number) + bytes(self.random.randrange(300))
        pending = self.produce_keyed(topic, partition, key, value)
        self.sent[topic, partition].append(value)
        self.produced.append(((topic, partition), value, pending))

    def produce_keyed(self, topic: str, partition: int, key: bytes, value: bytes) -> Pending:
        from headwater.protocol.records import Record, build_batch

        batch = build_batch([Record(key, value, (), self.broker.clock.wall_ms())])
        return self.broker.produce_batch(topic, batch, partition)

    def commit(self) -> None:
        offset = self.committed + len(self.commits) + 1
        partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, offset)
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="a", partitions=[partition])
        self.commits.append(
            (offset, self.broker.send(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest("group", topics=[topic])))
        )

    def delete_records(self) -> None:
        log = self.broker.core.partitions.log(self.broker.core.metadata.topics["d"], 0)
        partition = DeleteRecordsRequest.DeleteRecordsPartition(0, self.random.randint(0, log.high_watermark))
        request = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic("d", [partition])], 1000)
        self.at_once(lambda: self.broker.call(ApiKey.DELETE_RECORDS, 2, request))

    def change_topics(self) -> None:
        self.at_once(self.change_topics_now)

    def change_topics_now(self) -> None:
        name = f"extra-{self.random.randrange(3)}"
        if name in self.extra:
            del self.extra[name]
            answer = self.broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]))
            assert answer.responses[0].error_code == 0
        else:
            self.number += 1
            self.broker.create_topic(name)
            self.broker.produce(name, b"%d" % self.number)
            self.extra[name] = self.number

    def add_rule(self) -> None:
        self.rules += 1
        rule = CreateAclsRequest.AclCreation(2, f"t{self.rules}", 3, "User:u", "*", 3, 3)
        answer = self.broker.call(ApiKey.CREATE_ACLS, 3, CreateAclsRequest([rule]))
        assert answer.results[0].error_code in (0, 54), answer

    def collect(self) -> None:
        for lane in self.lanes:
            lane.collect()
        while self.commits and self.commits[0][1].is_done:
            offset, pending = self.commits.pop(0)
            assert pending.message.topics[0].partitions[0].error_code == 0
            self.committed = offset
        while self.produced and self.produced[0][2].is_done:
            key, value, pending = self.produced.pop(0)
            assert pending.message.responses[0].partition_responses[0].error_code == 0
            self.acknowledged[key].append(value)


class Acknowledged:
    """What clients know at a moment."""

    def __init__(self, running: Running) -> None:
        self.records = {key: list(values) for key, values in running.acknowledged.items()}
        self.committed = running.committed
        self.extra = dict(running.extra)
        self.outcomes = [dict(lane.outcomes) for lane in running.lanes]
        log = running.broker.core.store.logs
        self.start = next(
            (entry.start_offset for entry in log.values() if (entry.topic, entry.partition) == ("d", 0)), 0
        )


def interleaved(running: Running, backup: Backup, actions_per_step: float, within: float) -> Manifest:
    """Makes the backup while the broker runs. `within`: how often a call for a file lets the backup proceed, too."""
    random, steps, actions_left = running.random, backup.steps(), ACTIONS_MAX
    result: list[Manifest] = []
    is_in_backup = False

    def step() -> None:
        nonlocal is_in_backup
        is_in_backup = True
        try:
            next(steps)
        except StopIteration as stop:
            result.append(stop.value)
        finally:
            is_in_backup = False

    def at_call(call: str, path: str) -> int | None:
        if not is_in_backup and not result and random.random() < within:
            step()
        return None

    running.files.fault = at_call
    try:
        while not result:
            step()
            if not result and actions_left and random.random() < actions_per_step:
                actions_left -= 1
                running.act()
    finally:
        running.files.fault = None
    return result[0]


def check(running: Running, before: Acknowledged, files: MemoryFiles) -> None:
    """Starts a broker on what was restored and compares."""
    broker = CompactingHarness(files, ManualClock(running.broker.clock.wall_ms()), running.broker.pairs)
    for key in (("d", 0), ("d", 1)):
        check_prefix(running, before, broker, key)
    newest: dict[bytes, int] = {}
    for record in broker.read_all("c"):
        assert record.value in running.sent["c", 0]
        newest[record.key or b""] = int((record.value or b"").split(b"/")[1])
    for value in before.records.get(("c", 0), ()):
        name, written = value.split(b"/")[:2]
        assert newest.get(name, -1) >= int(written), (name, written, newest)
    check_group(running, before, broker)
    for topic, number in before.extra.items():
        if running.extra.get(topic) == number:
            assert [record.value for record in broker.read_all(topic)] == [b"%d" % number], topic
    check_transactions(running, before, broker)
    log_errors = [log.damages for log in broker.core.store.logs.values() if log.damages]
    assert not log_errors
    assert not broker.core.store.damaged


def check_prefix(running: Running, before: Acknowledged, broker: Harness, key: tuple[str, int]) -> None:
    values = [record.value or b"" for record in broker.read_all(*key)]
    log = broker.core.partitions.log(broker.core.metadata.topics[key[0]], key[1])
    assert values == running.sent[key][log.start_offset : log.end_offset]
    assert log.end_offset >= len(before.records.get(key, ()))
    if key == ("d", 0):
        now = running.broker.core.partitions.log(running.broker.core.metadata.topics["d"], 0)
        assert before.start <= log.start_offset <= now.start_offset


def check_group(running: Running, before: Acknowledged, broker: Harness) -> None:
    offset, error = fetched_offset(broker, "group", "a")
    assert error == 0
    if before.committed or offset >= 0:
        assert before.committed <= offset <= running.committed + len(running.commits), (before.committed, offset)


def check_transactions(running: Running, before: Acknowledged, broker: Harness) -> None:
    lanes = running.lanes
    for lane in lanes:
        lane.producer.broker = broker
        assert lane.producer.init().error_code == 0
    seen = {key: committed_values(broker, *key) for key in PARTITIONS}
    for lane, known in zip(lanes, before.outcomes, strict=True):
        offset, error = fetched_offset(broker, lane.name, "a")
        assert error == 0
        there = []
        for number in lane.outcomes:
            value = b"%s:%d" % (lane.name.encode(), number)
            found = {key: seen[key].count(value) for key in PARTITIONS if seen[key].count(value)}
            is_there = bool(found) or (number in lane.has_offset and offset == number)
            assert found == (lane.written[number] if is_there else {}), (lane.name, number, found)
            if lane.outcomes[number] is False:
                assert not is_there, (lane.name, number)
            if known.get(number):
                assert bool(found) or not lane.written[number], (lane.name, number)
            if is_there or (known.get(number) and not lane.written[number]):
                there.append(number)
        with_offset = [number for number in there if number in lane.has_offset]
        assert offset == (with_offset[-1] if with_offset else -1), (lane.name, offset, with_offset)


def run(seed: int) -> None:
    running = Running(seed)
    random = running.random
    repository = Repository(running.files, "backups", create=True)
    for _ in range(random.randint(1, 3)):
        for _ in range(random.randrange(120)):
            running.act()
        if random.random() < 0.1:
            running.broker.sync()
            running.collect()
        before = Acknowledged(running)
        repository.take_lock()
        backup = Backup(running.files, "data", repository, running.broker.clock, topics_in)
        manifest = interleaved(running, backup, random.choice((0.02, 0.1, 0.5)), random.choice((0.0, 0.02, 0.2)))
        repository.remove_unused()
        repository.release()
        assert manifest.damages == []
        files = MemoryFiles()
        at_once(restore_backup(repository, repository.manifest(manifest.backup_id), files, "data"))
    check(running, before, files)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_a_backup_has_what_was_acknowledged(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_logs, "SNAPSHOT_RECORDS_MIN", 5)
    monkeypatch.setattr(backup_cut, "COPY_BYTES", 2048)
    monkeypatch.setattr(backup_logs, "READ_BYTES", 1000)
    for number in range(first, min(first + CHUNK, SEEDS)):
        seed = FIRST_SEED + number
        try:
            run(seed)
        except BaseException as error:
            raise AssertionError(f"TEST_BACKUPS_SEED={seed} TEST_SEEDS=8: {error}") from error
