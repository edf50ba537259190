"""One life of a broker and its clients as a script: everything that touches files happens in it, and is checked after it.

The script makes and deletes topics, produces with and without group commits, commits and aborts transactions, commits
offsets, deletes records, lets retention and compaction remove some, takes checkpoints a step at a time between all
that, and stops, kills and starts the broker. A call on the files may fail (`faulty_files.py`). Then a request may be answered
with an error, or the broker ends: a supervisor starts it again, and the script continues. What it must never do:

    - acknowledge what is not there afterwards, or show a record twice, out of order, or of an aborted transaction
    - answer with UNKNOWN_SERVER_ERROR, or raise where nobody names what has failed
    - fail to start when the files work again, or lose a topic, or take what a deletion was acknowledged for
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.metadata import Topic
from headwater.broker.partitions import Partitions
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.observability.counters import Counters
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.records import Record, batches, build_batch, records
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.config import LogConfig
from headwater.storage.errors import StorageError
from tests.broker.harness import Harness, HeldDisk, Pending
from tests.broker.transactional import Producer, committed_values, fetched_offset
from tests.simulation.faulty_files import FaultyFiles

GROUP = "group"
DAY_MS = 24 * 3600 * 1000
Place = tuple[str, int]


class EndedError(Exception):
    """The broker has ended, as it does when its files fail it."""


class SteppedDisk(HeldDisk):
    """A checkpoint proceeds by a step when the script says so."""

    steps: Iterator[None] | None = None

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.steps = checkpoint.steps()

    def step(self) -> None:
        if self.steps is None or self.durability.is_failed:
            return
        try:
            next(self.steps)
        except StopIteration:
            self.steps = None
            self.durability.checkpoint_ended(None)
        except OSError as error:
            self.steps = None
            self.durability.checkpoint_ended(error)


class SmallPartitions(Partitions):
    """Logs that roll after a few batches, with indexes that have entries."""

    def log_config(self, topic: Topic) -> LogConfig:
        config = super().log_config(topic)
        return replace(config, segment_bytes=min(2000, config.segment_bytes), index_interval_bytes=200)


class SmallSegments(BrokerCore):
    """A broker over such logs."""

    partitions_class = SmallPartitions


class ScriptedBroker(Harness):
    """The broker of the script, on files that may fail."""

    disk: SteppedDisk

    def __init__(self, files: FaultyFiles, random: Random) -> None:
        self.faulty, self.random = files, random
        self.opened = 0
        super().__init__(
            files,
            ManualClock(),
            {
                "headwater.journal.file.bytes": 1 << 16,
                "offsets.topic.num.partitions": 1,
                "transaction.state.log.num.partitions": 1,
                "log.retention.check.interval.ms": 5000,
                "log.cleaner.backoff.ms": 3000,
                "log.flush.offset.checkpoint.interval.ms": 4000,
            },
        )

    def open(self) -> BrokerCore:
        """Starts it, as a supervisor does: again where it failed. Once the files work it must start."""
        settings = Settings.from_pairs(self.pairs)
        fails = self.random.randint(1, 3)  # as often as a lasting fault lets it fail before the files work again
        for attempt in range(1, fails + 2):
            self.opened += 1
            try:
                return SmallSegments(settings, self.files, self.clock, SeededEntropy(self.opened), directory="data")
            except (OSError, StorageError) as error:
                assert self.faulty.planned is not None, f"it does not start though nothing fails: {error!r}"
                is_named = isinstance(error, StorageError) or error.filename
                assert is_named, f"it does not name what has failed: {error!r}"
                assert not self.files.locks, "the next start would say that the directory is in use"
                if attempt == fails or not self.faulty.planned.lasts:
                    self.faulty.heal()
        raise AssertionError("it does not start")

    @property
    def core(self) -> BrokerCore:
        return self.current

    @core.setter
    def core(self, core: BrokerCore) -> None:
        self.current, self.disk = core, SteppedDisk(core)
        self.counters = Counters(core.occurrences)


@dataclass
class Outcomes:
    """The answers to the clients of one partition. A value is sent once."""

    sent: list[bytes] = field(default_factory=list)
    acknowledged: dict[bytes, int] = field(default_factory=dict)  # value to offset
    refused: set[bytes] = field(default_factory=set)  # an error was answered, and nothing else can have written it
    start: int = 0  # everything below was deleted, and that was acknowledged


class ScriptedRun:
    """See the module's docstring."""

    def __init__(self, files: FaultyFiles, seed: int) -> None:
        self.files = files
        self.random = Random(seed)
        self.broker = ScriptedBroker(files, self.random)
        self.places: dict[Place, Outcomes] = {}
        self.topics: dict[str, bool | None] = {}  # whether it exists; None: there was no answer
        self.pending: list[tuple[Pending, Callable[[Any], None]]] = []
        self.transactions: list[tuple[dict[Place, list[bytes]], bool | None]] = []
        self.committed = -1  # the group's offset that was acknowledged last
        self.committed_sent = -1
        self.compacted: dict[bytes, list[tuple[bytes, bool]]] = {}  # key to values, and whether acknowledged
        self.numbers = 0
        self.done: Counter[str] = Counter()  # how often what takes its time has happened

    @property
    def has_done_everything(self) -> bool:
        """Whether the script has reached what it is for; without a fault it must."""
        return all(self.done[what] for what in ("checkpoints", "compactions", "segments removed"))

    # -- the script

    def run(self) -> None:
        for step in self.steps():
            try:
                step()
                self.broker.disk.raise_errors()
            except EndedError:
                self.start_again()
            except OSError:
                durability = self.broker.core.durability
                assert durability.is_failed or durability.held is not None  # there is no room for what waits
                self.start_again()
        self.finish()

    def steps(self) -> Iterator[Callable[[], None]]:
        yield lambda: self.create("a", 2)
        yield lambda: self.create("c", 1, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"})
        yield lambda: self.create("r", 1, {"retention.ms": "1000"})
        for n in range(5):
            yield partial(self.produce, "a", n % 2)
            yield partial(self.produce_key, b"k%d" % (n % 2))
        yield self.settle
        yield self.begin_checkpoint
        for n in range(12):  # between its steps
            yield partial(self.produce, "a", n % 2)
            yield lambda: self.produce_key(b"k1")
            yield self.step_checkpoint
            yield self.sync_one
        yield lambda: self.delete("r")
        yield self.step_checkpoint
        yield lambda: self.create("r", 1, {"retention.ms": "1000"})
        yield lambda: self.produce("r", 0)
        yield lambda: self.commit_offset(3)
        yield lambda: self.delete_records("a", 0, 5)
        yield self.finish_checkpoint
        for commit in (True, False):
            yield partial(self.transaction, commit)
        for _ in range(3):
            yield lambda: self.produce("r", 0, size=900)
        yield self.begin_checkpoint
        yield self.step_checkpoint
        yield lambda: self.commit_offset(4)
        yield self.finish_checkpoint
        yield lambda: self.pass_time(6000)  # retention, compaction, a regular checkpoint
        yield self.finish_checkpoint
        yield lambda: self.pass_time(4000)
        yield self.stop_and_start
        yield lambda: self.produce("a", 1)
        yield lambda: self.transaction(True)
        yield self.begin_checkpoint
        yield self.step_checkpoint
        yield self.kill_and_start
        for _ in range(3):  # the journal's files fill up alternately
            yield lambda: self.produce("a", 0, size=30_000)
            yield self.settle
            yield self.step_checkpoint
        yield self.finish_checkpoint
        yield lambda: self.commit_offset(5)
        yield lambda: self.delete("r")
        yield lambda: self.pass_time(10_000)
        yield self.settle

    # -- what clients do

    def value(self, size: int = 0) -> bytes:
        self.numbers += 1
        return b"%d:" % self.numbers + bytes(size)

    def send(self, key: int, version: int, message: Any, then: Callable[[Any], None]) -> None:
        """Sends a request, whose answer comes when it comes."""
        self.broker.hold_syncs = True
        try:
            pending = self.broker.send(key, version, message)
        except OSError as error:
            raise AssertionError(f"{ApiKey(key).name} is not answered: {error!r}") from error
        finally:
            self.broker.hold_syncs = False
        self.pending.append((pending, then))
        self.broker.begin_sync()
        self.collect()

    def collect(self) -> None:
        for entry in [entry for entry in self.pending if entry[0].is_done]:
            self.pending.remove(entry)
            entry[1](entry[0].message)

    def call(self, key: int, version: int, message: Any, then: Callable[[Any], None]) -> None:
        self.send(key, version, message, then)
        self.settle()

    def checked(self, code: int) -> int:
        assert code != ErrorCode.UNKNOWN_SERVER_ERROR
        return code

    def create(self, name: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        def created(answer: Any) -> None:
            code = self.checked(answer.topics[0].error_code)
            if code == 0:
                self.topics[name] = True
                for partition in range(partitions):
                    self.places[name, partition] = Outcomes()
            else:
                assert code in (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.TOPIC_ALREADY_EXISTS), code

        pairs = [CreateTopicsRequest.CreatableTopicConfig(*pair) for pair in (configs or {}).items()]
        wanted = CreateTopicsRequest.CreatableTopic(name, partitions, 1, configs=pairs)
        self.topics[name] = None
        self.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted]), created)

    def delete(self, name: str) -> None:
        def deleted(answer: Any) -> None:
            code = self.checked(answer.responses[0].error_code)
            if code == 0:
                self.topics[name] = False
                for place in [place for place in self.places if place[0] == name]:
                    del self.places[place]
            else:
                assert code in (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), code

        self.topics[name] = None
        self.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]), deleted)

    def produce(self, topic: str, partition: int, size: int = 100) -> None:
        outcomes = self.places.get((topic, partition))
        if outcomes is None:
            return
        value = self.value(size)
        outcomes.sent.append(value)

        def produced(answer: Any) -> None:
            found = answer.responses[0].partition_responses[0]
            if self.checked(found.error_code) == 0:
                outcomes.acknowledged[value] = found.base_offset
            else:
                outcomes.refused.add(value)

        self.send_batch(topic, partition, Record(value, value, (), self.broker.clock.wall_ms()), produced)

    def produce_key(self, key: bytes) -> None:
        if ("c", 0) not in self.places:
            return
        value = self.value(150)
        values = self.compacted.setdefault(key, [])
        values.append((value, False))

        def produced(answer: Any) -> None:
            if self.checked(answer.responses[0].partition_responses[0].error_code) == 0:
                values[[v for v, _ in values].index(value)] = value, True

        self.send_batch("c", 0, Record(key, value, (), self.broker.clock.wall_ms()), produced)

    def send_batch(self, topic: str, partition: int, record: Record, then: Callable[[Any], None]) -> None:
        from headwater.protocol.messages.produce import ProduceRequest

        data = ProduceRequest.PartitionProduceData(partition, bytes(build_batch([record])))
        body = ProduceRequest(None, -1, 1000, [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])])
        self.send(ApiKey.PRODUCE, 9, body, then)

    def commit_offset(self, offset: int) -> None:
        def committed(answer: Any) -> None:
            if self.checked(answer.topics[0].partitions[0].error_code) == 0:
                self.committed = offset

        partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, offset)
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="a", partitions=[partition])
        self.committed_sent = offset
        self.call(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest(GROUP, topics=[topic]), committed)

    def delete_records(self, topic: str, partition: int, offset: int) -> None:
        outcomes = self.places.get((topic, partition))
        if outcomes is None:
            return

        def deleted(answer: Any) -> None:
            found = answer.topics[0].partitions[0]
            if self.checked(found.error_code) == 0:
                outcomes.start = max(outcomes.start, found.low_watermark)

        outcomes.start = -offset  # it may be deleted from now on
        wanted = DeleteRecordsRequest.DeleteRecordsTopic(
            topic, [DeleteRecordsRequest.DeleteRecordsPartition(partition, offset)]
        )
        self.call(ApiKey.DELETE_RECORDS, 2, DeleteRecordsRequest([wanted], 1000), deleted)

    def transaction(self, commit: bool) -> None:
        """A transaction over two partitions. The client gives it up at the first error."""
        if self.topics.get("a") is not True:
            return
        producer = Producer(self.broker, "tx")
        values: dict[Place, list[bytes]] = {}
        at = len(self.transactions)
        self.transactions.append((values, False))  # nothing was decided
        if self.checked(producer.init().error_code):
            return
        for place in (("a", 0), ("a", 1)):
            value = self.value()
            values[place] = [value]
            if self.checked(producer.produce(*place[:1], value, partition=place[1])):
                return
        self.transactions[at] = values, None
        code = self.checked(producer.end(commit=commit))
        if code == 0:
            self.transactions[at] = values, commit

    # -- what happens to the broker

    def settle(self) -> None:
        """Everything that was sent is on disk and answered, or the broker ends."""
        for _ in range(100):
            self.broker.begin_sync()
            if self.broker.disk.file is not None:
                self.broker.end_sync()
            elif self.broker.disk.steps is not None and self.broker.core.store.journal.waiting_bytes:
                self.broker.disk.step()  # the journal waits for it
            elif self.pending:  # some work is done in slices
                self.broker.clock.advance(1)
                self.broker.core.timers.run_due()
            else:
                break
            self.collect()

    def sync_one(self) -> None:
        self.broker.sync_one()
        self.collect()

    def begin_checkpoint(self) -> None:
        self.broker.core.durability.begin_checkpoint()

    def step_checkpoint(self) -> None:
        self.broker.disk.step()
        self.broker.disk.raise_errors()

    def finish_checkpoint(self) -> None:
        while self.broker.disk.steps is not None:
            self.step_checkpoint()

    def pass_time(self, milliseconds: int) -> None:
        for _ in range(milliseconds // 500):
            self.broker.clock.advance(500)
            self.broker.core.timers.run_due()
            self.broker.begin_sync()
            self.step_checkpoint()
            self.sync_one()
        totals = self.broker.counters.totals
        self.done["checkpoints"] += totals["checkpoints"]
        self.done["compactions"] += totals["compactions"]
        if ("r", 0) in self.places and "r" in self.broker.core.metadata.topics:
            self.done["segments removed"] += self.broker.core.partitions.log(
                self.broker.core.metadata.topics["r"], 0
            ).start_offset

    def stop_and_start(self) -> None:
        self.finish_checkpoint()
        self.settle()
        try:
            self.broker.core.close()
        except OSError as error:
            raise EndedError from error
        finally:
            assert not self.files.locks, "nobody can use the directory again"
        self.pending.clear()
        self.broker.core = self.broker.open()

    def kill_and_start(self) -> None:
        self.pending.clear()
        with contextlib.suppress(OSError):  # a killed process closes nothing
            self.broker.core.store.abandon()
        self.broker.core = self.broker.open()

    def start_again(self) -> None:
        """The broker has ended: its process is gone, perhaps the machine's power too, and a supervisor starts it again."""
        self.pending.clear()
        self.files.locks.clear()
        if self.random.random() < 0.5:
            self.files.crash(self.random)
        self.broker.core = self.broker.open()

    def finish(self) -> None:
        self.files.heal()
        self.start_again()
        self.broker.sync()
        Check(self).all()


class Check:
    """What must hold at the end."""

    def __init__(self, run: ScriptedRun) -> None:
        self.run, self.broker = run, run.broker

    def all(self) -> None:
        topics = self.broker.core.metadata.topics
        for name, exists in self.run.topics.items():
            assert exists is None or (name in topics) == exists, (name, exists)
        for producer in [Producer(self.broker, "tx")]:  # what was not ended is aborted
            assert producer.init().error_code == 0
        for place, outcomes in self.run.places.items():
            if place[0] in topics:
                self.partition(place, outcomes)
        if "c" in topics and ("c", 0) in self.run.places:
            self.compacted()
        self.transactions()
        offset, code = fetched_offset(self.broker, GROUP, "a") if "a" in topics else (-1, 0)
        assert code == 0
        if self.run.topics.get("a") is True:
            assert self.run.committed <= offset <= max(self.run.committed_sent, self.run.committed)
        self.serves()

    def partition(self, place: Place, outcomes: Outcomes) -> None:
        log = self.broker.core.partitions.log(self.broker.core.metadata.topics[place[0]], place[1])
        assert not log.damages, log.damages
        there = self.records(*place)
        found = {record.value: record.offset for record in there}
        assert len(found) == len(there), f"{place}: a record is there twice"
        offsets = list(found.values())
        assert offsets == sorted(offsets)
        if outcomes.start > 0:
            assert log.start_offset >= outcomes.start
        for value, offset in outcomes.acknowledged.items():
            if place[0] in ("r", "c"):  # retention and compaction may have removed it
                assert found.get(value, offset) == offset
            elif offset >= abs(outcomes.start):
                assert found.get(value) == offset, f"{place}: {value[:9]!r} was acknowledged at {offset}"
        assert not outcomes.refused.intersection(found), f"{place}: a record is there that was refused"

    def records(self, topic: str, partition: int) -> list[Record]:
        """What consumers see, without transactions' markers."""
        log = self.broker.core.partitions.log(self.broker.core.metadata.topics[topic], partition)
        offset, found = log.start_offset, []
        while offset < log.high_watermark:
            data = self.broker.fetch(topic, offset, partition)
            assert data.error_code == 0
            assert data.records
            for header, batch in batches(data.records):
                if not header.is_control:
                    found += [record for record in records(header, batch) if record.offset >= offset]
                offset = header.next_offset
        return found

    def compacted(self) -> None:
        """Of each key the newest that was acknowledged is there, or a later one."""
        found = [(record.key, record.value) for record in self.records("c", 0)]
        for key, values in self.run.compacted.items():
            newest = max((n for n, (_, is_acknowledged) in enumerate(values) if is_acknowledged), default=None)
            if newest is None:
                continue
            there = [value for found_key, value in found if found_key == key]
            order = [value for value, _ in values]
            assert there == sorted(there, key=lambda value: order.index(value or b""))
            assert there, f"{key!r} is gone"
            assert order.index(there[-1] or b"") >= newest, f"the newest value of {key!r} is gone"

    def transactions(self) -> None:
        if self.run.topics.get("a") is not True:
            return
        seen = {place: committed_values(self.broker, *place) for place in (("a", 0), ("a", 1))}
        for values, outcome in self.run.transactions:
            counts = [seen[place].count(value) for place, sent in values.items() for value in sent]
            if not counts:
                continue
            if outcome is None:
                assert len(set(counts)) == 1, f"a transaction is torn: {counts}"
            else:
                assert set(counts) == {int(outcome)}, (counts, outcome)

    def serves(self) -> None:
        """It serves as if nothing had happened: every partition accepts a record and returns it."""
        for name, topic in list(self.broker.core.metadata.topics.items()):
            if topic.is_internal:
                continue
            for partition in range(topic.partitions):
                assert self.broker.produce(name, b"last", partition=partition).error_code == 0
                assert self.broker.read_all(name, partition)[-1].value == b"last"
        self.broker.restart()
