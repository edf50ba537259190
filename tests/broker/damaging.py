"""A data directory with a file of every kind, ways to damage it, and a check of all that a broker then serves.

The check compares with what was written: bytes that are served have to be those. What is missing has to be named at ERROR
with its partition and its offsets, no offset may be used twice, and what the broker does not know has to stay as it was.
"""

import copy
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.protocol.records import Record, batches, build_batch, records
from headwater.storage.checkpoints import write_topic_id
from headwater.storage.errors import StorageError
from headwater.storage.segment import segment_name
from tests.broker.harness import Harness
from tests.broker.transactional import READ_COMMITTED, Producer

Partition = tuple[str, int]
DATA: tuple[Partition, ...] = (("orders", 0), ("orders", 1), ("paid", 0), ("state", 0))
GROUPS = ("billing", "mail", "stock")
SETTINGS = {
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
    "log.cleaner.min.cleanable.ratio": "0.01",
}
FOREIGN = (
    "data/notes.txt",
    "data/photos/a.jpg",
    "data/report-7/a.log",
    "data/journal/notes.txt",
    "data/orders-0/notes.txt",
    "data/orders-1/.cleaning/notes.txt",
    "data/lost-1.1f-stray/00000000000000000000.log",
)
MINE = b"mine, and nobody else's"
RANGE = re.compile(r"offsets (\d+) to (\d+|the segment's last)")
FROM = re.compile(r"from offset (\d+) on")
OFFSET_MAX = (1 << 63) - 1


@dataclass
class Written:
    """What a directory holds, and what a broker served of it before anything was damaged."""

    files: MemoryFiles
    batches: dict[Partition, dict[int, bytes]] = field(default_factory=dict)
    offsets: dict[Partition, set[int]] = field(default_factory=dict)  # that have a record, or are a marker's
    committed: dict[Partition, list[int]] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    times: dict[Partition, dict[int, int]] = field(default_factory=dict)  # offsets by timestamp
    groups: dict[str, list[int]] = field(default_factory=dict)  # what was committed, in order
    transactions: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    topics: dict[str, tuple[bytes, int, dict[str, str]]] = field(default_factory=dict)
    foreign: dict[str, bytes] = field(default_factory=dict)
    cluster_id: str = ""

    def copy(self) -> MemoryFiles:
        """The directory, to be damaged."""
        files = MemoryFiles()
        files.root = copy.deepcopy(self.files.root)
        return files


def tree(files: MemoryFiles, path: str = "data") -> Iterator[str]:
    """Every file below a directory."""
    for name in files.list_directory(path):
        try:
            files.list_directory(f"{path}/{name}")
        except FileNotFoundError:
            yield f"{path}/{name}"
        else:
            yield from tree(files, f"{path}/{name}")


def put(files: MemoryFiles, path: str, content: bytes) -> None:
    files.make_directory(path.rpartition("/")[0])
    file = files.open(path, create=True)
    file.truncate(0)
    file.write([content], 0)


class Writer:
    """Fills a directory."""

    def __init__(self) -> None:
        self.broker = Harness(pairs=SETTINGS)
        self.number = 0
        self.written = Written(self.broker.files)
        for name, count, configs in (
            ("orders", 2, {}),
            ("paid", 1, {}),
            ("state", 1, {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.01"}),
            ("gone", 1, {}),
        ):
            self.broker.create_topic(name, count, index_interval_bytes="100", **configs)

    def produce(self, topic: str, partition: int = 0, count: int = 3, key: bytes | None = None) -> None:
        self.broker.clock.advance(1000)
        now = self.broker.clock.wall_ms()
        content = []
        for n in range(count):
            self.number += 1
            value = b"%s/%d/%d " % (topic.encode(), partition, self.number) + bytes([65 + self.number % 26]) * 30
            content.append(Record(key or b"key-%d" % (self.number % 4), value, (("n", b"%d" % n),), now + n))
        answer = self.broker.produce_batch(topic, build_batch(content), partition).message
        assert answer.responses[0].partition_responses[0].error_code == 0

    def commit(self, group: str) -> None:
        offsets = self.written.groups.setdefault(group, [])
        offsets.append(len(offsets) + 1)
        partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, offsets[-1])
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])
        answer = self.broker.call(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest(group, topics=[topic]))
        assert answer.topics[0].partitions[0].error_code == 0

    def write(self, rounds: int) -> None:
        """Some of everything."""
        for n in range(rounds):
            for topic, partition in DATA:
                self.produce(topic, partition)
            for name, commit in (("a", n % 2 == 0), ("b", True)):
                producer = Producer(self.broker, name, 2)
                assert producer.init().error_code == 0
                assert producer.produce("paid", b"%s-%d" % (name.encode(), n)) == 0
                assert producer.end(commit=commit) == 0
            for group in GROUPS:
                self.commit(group)

    def roll(self) -> None:
        for log in list(self.broker.core.store.logs.values()):
            if log.segments and log.segments[-1].size:
                log.roll()

    def compact(self) -> None:
        """Also gives compaction something to leave gaps with."""
        core = self.broker.core
        core.store.checkpoint()
        totals = self.broker.counters.totals
        before = totals["compactions"]
        assert core.compaction.start_next()
        for _ in range(1000):
            self.broker.clock.advance(2)
            core.timers.run_due()
            if totals["compactions"] > before and not core.compaction.is_running:
                return
        raise AssertionError("compaction does not end")

    def leave_others(self) -> None:
        """What is not the broker's, what is left of a deleted topic, and a log of no topic."""
        files, broker = self.broker.files, self.broker
        broker.produce("gone", b"x")
        left = {name: read_file(files, f"data/gone-0/{name}") for name in files.list_directory("data/gone-0")}
        answer = broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["gone"]))
        assert answer.responses[0].error_code == 0
        for name, content in left.items():
            for directory in ("0.1f-gone-delete", "lost-0"):
                put(files, f"data/{directory}/{name}", content)
        write_topic_id(files, "data/lost-0", b"l" * 16)
        for path in FOREIGN:
            put(files, path, MINE + path.encode())
        put(files, f"data/orders-1/.cleaning/{segment_name(0)}.log", b"a copy")
        self.written.foreign = {path: read_file(files, path) for path in FOREIGN}

    def finish(self, *, clean: bool) -> Written:
        written, broker = self.written, self.broker
        for partition in DATA:
            self.note(partition)
        core = broker.core
        written.transactions = transactions_of(broker)
        written.topics = topics_of(broker)
        written.cluster_id = core.store.cluster_id
        core.close() if clean else core.store.abandon()
        return written

    def note(self, partition: Partition) -> None:
        written, broker = self.written, self.broker
        log = broker.core.partitions.log(broker.core.metadata.topics[partition[0]], partition[1])
        found: dict[int, bytes] = {}
        offsets: set[int] = set()
        times: dict[int, int] = {}
        offset = log.start_offset
        while offset < log.high_watermark:
            data = broker.fetch(partition[0], offset, partition[1])
            for header, batch in batches(data.records or b""):
                found[header.base_offset] = bytes(batch)
                for record in records(header, batch):
                    offsets.add(record.offset)
                    if not header.is_control:
                        times.setdefault(record.timestamp, record.offset)
                offset = header.next_offset
        written.batches[partition], written.offsets[partition] = found, offsets
        written.times[partition], written.ends[partition] = times, log.end_offset
        written.committed[partition] = committed_offsets(broker, partition, offsets, set())


def transactions_of(broker: Harness) -> dict[str, tuple[int, int, str]]:
    found = broker.core.transactions.transactions
    return {name: (t.producer_id, t.producer_epoch, t.state.name) for name, t in found.items()}


def topics_of(broker: Harness) -> dict[str, tuple[bytes, int, dict[str, str]]]:
    topics = broker.core.metadata.topics.items()
    return {name: (topic.topic_id, topic.partitions, dict(topic.configs)) for name, topic in topics}


def committed_offsets(broker: Harness, partition: Partition, offsets: set[int], missing: set[int]) -> list[int]:
    """Of all offsets that have records those that a reader of committed ones gets, which passes over what is missing."""
    log = broker.core.partitions.log(broker.core.metadata.topics[partition[0]], partition[1])
    offset, found = log.start_offset, []
    while offset < log.last_stable_offset:
        data = broker.fetch(partition[0], offset, partition[1], isolation_level=READ_COMMITTED)
        if not data.records:
            assert offset in missing or offset not in offsets, (partition, offset, data.error_code)
            offset += 1
            continue
        waiting = sorted((a.first_offset, a.producer_id) for a in data.aborted_transactions or ())
        aborted: set[int] = set()
        for header, batch in batches(data.records):
            while waiting and waiting[0][0] <= header.last_offset:
                aborted.add(waiting.pop(0)[1])
            if header.is_control:
                aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted):
                found += [r.offset for r in records(header, batch) if r.offset >= offset]
            offset = header.next_offset
    return found


def build(*, clean: bool) -> Written:
    """A directory after a clean or an unclean stop; after the latter the journal has a part of everything."""
    writer = Writer()
    writer.write(2)
    writer.roll()
    writer.write(2)
    writer.roll()
    writer.compact()
    writer.leave_others()
    writer.write(2)
    writer.broker.core.store.checkpoint()
    if not clean:
        # The next life has another leader epoch, and its first records are in the journal only.
        writer.broker.kill()
        writer.write(1)
        writer.broker.core.store.checkpoint()
        writer.broker.create_topic("late")
        writer.write(1)
    return writer.finish(clean=clean)


class Check:
    """Starts a broker on a damaged directory and looks at everything. `outcome` says how it ended."""

    def __init__(
        self,
        written: Written,
        files: MemoryFiles,
        lines: list[logging.LogRecord],
        given_up: dict[Partition, set[int]] | None = None,
    ) -> None:
        self.written, self.files, self.lines = written, files, lines
        self.given_up = given_up or {}
        self.missing: dict[Partition, set[int]] = {}
        self.outcome = ""

    def run(self) -> str:
        before = {path: read_file(self.files, path) for path in tree(self.files)}
        try:
            self.broker = Harness(self.files, pairs=SETTINGS)
        except StorageError as error:
            self.refused(str(error), before)
            return "refused"
        self.serves_what_was_written()
        assert topics_of(self.broker).items() >= self.written.topics.items()
        if ("__transaction_state", 0) not in self.given_up:
            assert transactions_of(self.broker) == self.written.transactions
        assert self.broker.core.store.cluster_id == self.written.cluster_id
        self.uses_no_offset_twice()
        self.leaves_others_alone(before)
        if any(self.missing.values()) or self.lost_groups:
            return "damaged"
        return "rebuilt" if any(r.levelno >= logging.INFO for r in self.lines) else "whole"

    def refused(self, message: str, before: dict[str, bytes]) -> None:
        """Only what decides over everything may stop a start; then nothing is changed but what says how it ended.

        The journal may have brought back a torn end before: each byte is as it was found, or as it was written.
        """
        assert re.search(r"data/(__cluster_metadata|__transaction_state|meta\.properties|journal/)", message), message
        assert re.search(r"restore|move|choose|look", message), message
        assert "\n" not in message
        after = {path: read_file(self.files, path) for path in tree(self.files)}
        for path, content in before.items():
            if path.endswith(".log") and "__transaction_state" not in message:
                written = read_file(self.written.files, path)
                assert len(after[path]) == len(content), path
                assert all(byte in pair for byte, *pair in zip(after[path], content, written, strict=False)), path

    # -- what is served

    def serves_what_was_written(self) -> None:
        for partition in DATA:
            self.missing[partition] = self.read(partition)
            self.check_named(partition, self.missing[partition] - self.given_up.get(partition, set()))
            self.check_committed(partition)
            self.check_times(partition)
        self.check_groups()

    def read(self, partition: Partition) -> set[int]:
        """Reads everything; returns the offsets that are not served."""
        written = self.written.batches[partition]
        served: set[int] = set()
        offset = 0
        while offset < self.written.ends[partition]:
            data = self.broker.fetch(partition[0], offset, partition[1])
            if not data.records:
                assert data.error_code in (0, ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.OFFSET_OUT_OF_RANGE)
                offset += 1
                continue
            for header, batch in batches(data.records):
                is_old = header.base_offset < self.written.ends[partition]
                is_empty = not header.records_count
                is_filler = (is_empty or header.is_control) and header.base_offset in self.given_up.get(
                    partition, set()
                )
                if is_old and not is_filler and (not is_empty or header.base_offset in written):
                    assert bytes(batch) == written.get(header.base_offset), (partition, header.base_offset)
                    served.update(range(header.base_offset, header.next_offset))
                assert header.next_offset > offset
                offset = header.next_offset
        return self.written.offsets[partition] - served

    def errors_about(self, name: str) -> list[str]:
        lines = [r.getMessage() for r in self.lines if r.levelno >= logging.ERROR]
        return [line for line in lines if f"{name}/" in line or f"{name}:" in line or f"{name} " in line]

    def check_named(self, partition: Partition, missing: set[int]) -> None:
        lines = self.errors_about("{}-{}".format(*partition))
        for line in lines:
            if "out of use" in line or "is not a log" in line:
                return
            for start, end in RANGE.findall(line):
                last = int(end) if end.isdecimal() else OFFSET_MAX
                missing = {offset for offset in missing if not int(start) <= offset <= last}
            for start in FROM.findall(line):
                missing = {offset for offset in missing if offset < int(start)}
        assert not missing, (partition, missing, lines)

    def check_committed(self, partition: Partition) -> None:
        missing = self.missing[partition]
        try:
            found = committed_offsets(self.broker, partition, self.written.offsets[partition], missing)
        except OSError:
            assert missing
            return
        assert found == [offset for offset in self.written.committed[partition] if offset not in missing]

    def check_times(self, partition: Partition) -> None:
        times, missing = self.written.times[partition], self.missing[partition]
        given_up = self.given_up.get(partition, set())
        wanted = [(time, offset) for time, offset in times.items() if offset % 3 == 0 and offset not in given_up]
        for time, offset in wanted:
            asked = ListOffsetsRequest.ListOffsetsPartition(partition[1], -1, time)
            request = ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(partition[0], [asked])])
            answer = self.broker.call(ApiKey.LIST_OFFSETS, 8, request).topics[0].partitions[0]
            if answer.error_code == 0:
                assert answer.offset == offset, (partition, time)
            else:
                assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
                assert missing, (partition, time)

    def check_groups(self) -> None:
        self.lost_groups = False
        lines = self.errors_about("__consumer_offsets-0")
        for group, offsets in self.written.groups.items():
            found, error = self.fetched_offset(group)
            if (found, error) == (offsets[-1], 0):
                continue
            self.lost_groups = True
            assert lines or ("__consumer_offsets", 0) in self.given_up, group
            if error:
                assert error == ErrorCode.COORDINATOR_NOT_AVAILABLE
            else:  # the journal had the only copy, and the offsets of the records are named
                assert found in offsets
                assert ("__consumer_offsets", 0) in self.given_up or any(RANGE.search(line) for line in lines)

    def fetched_offset(self, group: str) -> tuple[int, int]:
        wanted = OffsetFetchRequest.OffsetFetchRequestTopic("orders", [0])
        answer = self.broker.call(ApiKey.OFFSET_FETCH, 7, OffsetFetchRequest(group_id=group, topics=[wanted]))
        if answer.error_code:
            return -1, answer.error_code
        return answer.topics[0].partitions[0].committed_offset, answer.topics[0].partitions[0].error_code

    # -- afterwards

    def uses_no_offset_twice(self) -> None:
        """Writes, stops and looks again."""
        for partition in DATA:
            answer = self.broker.produce(partition[0], b"new", partition=partition[1])
            if answer.error_code:
                assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
                assert any("out of use" in line for line in self.errors_about("{}-{}".format(*partition)))
            else:
                assert answer.base_offset >= self.written.ends[partition], partition
        self.broker.kill() if len(self.lines) % 2 else self.broker.restart()
        for partition in DATA:
            assert self.read(partition) <= self.missing[partition]

    def leaves_others_alone(self, before: dict[str, bytes]) -> None:
        for path in self.written.foreign:
            if path in before:
                assert read_file(self.files, path) == before[path], path


class Lines(logging.Handler):
    """What the broker logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> list[logging.LogRecord]:
        self.logger = logging.getLogger("headwater")
        self.level, self.logger.level = self.logger.level, logging.INFO
        self.propagates, self.logger.propagate = self.logger.propagate, False
        self.logger.addHandler(self)
        return self.records

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.level, self.logger.propagate = self.level, self.propagates


def outcome(written: Written, files: MemoryFiles, given_up: dict[Partition, set[int]] | None = None) -> str:
    """Starts a broker on what is left, checks it, and says how it ended. What was given up may be missing."""
    with Lines() as lines:
        return Check(written, files, lines, given_up).run()


def places(size: int) -> list[int]:
    """Where to flip a bit: in each field of the first header, in the middle, and at the end."""
    return sorted(
        {place for place in (0, 3, 7, 8, 11, 12, 15, 16, 17, 21, 26, size // 2, size - 1) if 0 <= place < size}
    )


def flip(files: MemoryFiles, path: str, position: int, bit: int) -> None:
    file = files.open(path)
    (byte,) = file.read(1, position)
    file.write([bytes([byte ^ 1 << bit])], position)
