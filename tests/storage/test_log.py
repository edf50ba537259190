"""Logs on in-memory files: reading, rolling, time, retention, and auxiliary files that are lost or damaged."""

import errno
from itertools import pairwise
from typing import Any

import pytest

from headwater.broker.durability import Durability
from headwater.broker.occurrences import Occurrences
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFile, MemoryFiles
from headwater.effects.work import at_once
from headwater.protocol.records import Record, batches, build_batch, read_header, records
from headwater.storage.checkpoints import LOG_STARTS
from headwater.storage.config import LogConfig
from headwater.storage.errors import DirectoryInUseError, FormatError, OffsetOutOfRangeError
from headwater.storage.journal_entries import empty_batch
from headwater.storage.log import Log
from headwater.storage.producers import Verdict
from headwater.storage.recovery import LogRecovery
from headwater.storage.soundness import RELATIVE_OFFSET_MAX
from headwater.storage.store import CLEANER_LOCK, LogStore
from headwater.storage.swaps import CLEANING_DIRECTORY
from tests.storage.times import max_timestamp, offset_for_timestamp

TOPIC_ID = b"t" * 16
SMALL = LogConfig(segment_bytes=2000, index_interval_bytes=200)


class Store:
    """A store with one log."""

    def __init__(self, config: LogConfig = SMALL, files: MemoryFiles | None = None) -> None:
        self.files = files or MemoryFiles()
        self.clock = ManualClock()
        self.config = config
        self.open()

    def open(self) -> None:
        self.store = LogStore(self.files, "data", self.clock, SeededEntropy(), journal_file_bytes=1 << 16)
        self.store.recover(lambda topic_id, partition: ("t", self.config))
        self.log = self.store.open_log("t", TOPIC_ID, 0, self.config)

    def flush(self) -> None:
        """Makes durable what waits for the journal."""
        durability = Durability(self.store, Occurrences(), logs_grew=lambda logs: None, checkpoint_taken=lambda: None)
        durability.flush()

    def reopen(self, *, clean: bool = True) -> None:
        if clean:
            self.store.close()
        else:
            self.store.abandon()
        self.open()

    def append(self, count: int = 1, size: int = 100, timestamp: int | None = None) -> None:
        now = self.clock.wall_ms() if timestamp is None else timestamp
        batch = build_batch([Record(None, b"%d" % n + bytes(size), (), now + n) for n in range(count)])
        self.store.append(self.log, batch, read_header(batch))
        self.flush()

    def offsets(self) -> list[int]:
        found, offset = [], self.log.start_offset
        while offset < self.log.high_watermark:
            data = self.log.read(offset, 1000, at_least_one=True)
            for header, batch in batches(data):
                found += [r.offset for r in records(header, batch) if r.offset >= offset]
                offset = header.next_offset
        return found


def filled(batch_count: int = 40, **more: Any) -> Store:
    store = Store(**more)
    for _ in range(batch_count):
        store.append(3)
        store.clock.advance(1000)
    return store


def test_every_offset_is_read() -> None:
    store = filled()
    assert len(store.log.segments) > 5
    assert store.offsets() == list(range(120))
    for offset in range(120):
        header, _ = next(batches(store.log.read(offset, 1, at_least_one=True)))
        assert header.base_offset <= offset <= header.last_offset


@pytest.mark.parametrize("offset", [-1, 121])
def test_offsets_out_of_range(offset: int) -> None:
    with pytest.raises(OffsetOutOfRangeError):
        filled().log.read(offset, 1000, at_least_one=True)


@pytest.mark.parametrize("clean", [True, False])
def test_a_restart_finds_everything(clean: bool) -> None:
    store = filled()
    sizes = [segment.size for segment in store.log.segments]
    store.reopen(clean=clean)
    assert store.offsets() == list(range(120))
    assert [segment.size for segment in store.log.segments] == sizes
    store.append()
    assert store.offsets()[-1] == 120


class WatchedFile(MemoryFile):
    """Notes the positions that are read."""

    positions: list[int]

    def read(self, size: int, position: int) -> bytes:
        self.positions.append(position)
        return super().read(size, position)


def watch(store: Store) -> list[int]:
    segment = store.log.segments[0]
    inner = segment.file.file
    assert isinstance(inner, MemoryFile)
    file = WatchedFile(store.files, inner.path, inner.inode)
    file.positions = []
    segment.file.file = file
    return file.positions


def test_a_look_up_reads_the_batch_of_an_index_entry_once() -> None:
    store = filled()
    segment = store.log.segments[0]
    store.log.ensure_index(segment)
    position = segment.index.positions[0]
    read = watch(store)
    data = store.log.read(segment.base_offset + segment.index.offsets[0], 1, at_least_one=True)
    assert next(batches(data))[0].last_offset == segment.index.offsets[0]
    assert read == [position, position]  # to find it, and to answer


def test_an_index_entry_of_another_batch_is_not_believed() -> None:
    store = filled()
    segment = store.log.segments[0]
    store.log.ensure_index(segment)
    offset = segment.index.offsets[0]
    segment.index.positions[0] = segment.index.positions[1]
    header, _ = next(batches(store.log.read(offset, 1, at_least_one=True)))
    assert header.base_offset <= offset <= header.last_offset
    assert len(set(segment.index.positions)) == len(segment.index.positions)  # it was built again


@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint"])
@pytest.mark.parametrize("damage", ["lost", "cut", "flipped", "zeros", "garbage"])
@pytest.mark.parametrize("clean", [True, False])
def test_auxiliary_files_are_rebuilt(suffix: str, damage: str, clean: bool) -> None:
    store = filled()
    store.store.close() if clean else store.store.abandon()
    for name in store.files.list_directory("data/t-0"):
        if not name.endswith(suffix):
            continue
        path = f"data/t-0/{name}"
        content = store.files.open(path).read(1 << 20, 0)
        file = store.files.open(path)
        match damage:
            case "lost":
                store.files.remove(path)
            case "cut":
                file.truncate(max(0, len(content) - 3))
            case "flipped":
                file.write([bytes(byte ^ 0x55 for byte in content)], 0)
            case "zeros":
                file.write([bytes(len(content))], 0)
            case "garbage":
                file.write([b"garbage!" * 20], 0)
    store.open()
    assert store.offsets() == list(range(120))
    found = offset_for_timestamp(store.log, 1_700_000_020_000)
    assert (found.timestamp, found.offset) == (1_700_000_020_000, 60)


def test_every_cut_of_the_last_segment_leaves_whole_batches() -> None:
    """Without the journal: what the file has up to the cut is what is left."""
    original = filled(8)
    original.store.checkpoint()
    last = original.log.segments[-1]
    content = last.file.read(last.size, 0)
    for size in range(0, len(content), 7):
        files = MemoryFiles()
        files.make_directory("d")
        file = files.open(f"d/{last.base_offset:020d}.log", create=True)
        file.write([content[:size]], 0)
        log = Log(files, "d", "t", TOPIC_ID, 0, SMALL)
        recovery = LogRecovery(log)
        recovery.load(last.base_offset, last.base_offset)
        recovery.finish()
        whole = sum(header.size_bytes for header, _ in batches(content[:size]))
        assert log.segments[0].size == whole
        assert file.size() == whole


def test_lookup_by_time() -> None:
    store = filled()
    start = 1_700_000_000_000
    assert offset_for_timestamp(store.log, 0).offset == 0
    assert offset_for_timestamp(store.log, start + 20_001).offset == 61
    assert offset_for_timestamp(store.log, start + 1_000_000).offset == -1
    assert max_timestamp(store.log) == (start + 39_002, 119)
    store.append(timestamp=start + 500_000)
    store.append(timestamp=start + 1)
    assert max_timestamp(store.log) == (start + 500_000, 120)
    assert offset_for_timestamp(store.log, start + 100_000).offset == 120


def test_retention_by_size_and_time() -> None:
    store = filled(config=LogConfig(segment_bytes=2000, index_interval_bytes=200, retention_bytes=5000))
    before = len(store.log.segments)
    store.store.checkpoint()
    at_once(store.store.apply_retention())
    assert 1 < len(store.log.segments) < before
    assert store.log.size_bytes >= 5000
    assert store.offsets()[-1] == 119
    store.config = LogConfig(segment_bytes=2000, retention_ms=10_000)
    store.log.config = store.config
    store.clock.advance(60_000)
    store.store.checkpoint()
    at_once(store.store.apply_retention())
    assert store.log.start_offset == store.log.end_offset == 120
    assert store.offsets() == []
    store.reopen(clean=False)
    assert (store.log.start_offset, store.log.end_offset) == (120, 120)
    store.append()
    assert store.offsets() == [120]


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("is_index_lost", [False, True])
def test_a_segment_that_cannot_be_read_once_is_not_taken_for_an_old_one(number: int, is_index_lost: bool) -> None:
    """Whichever call fails while its indexes are loaded, or built from the log: retention removes nothing for it."""
    for failing in range(1, 200):
        store = filled(config=LogConfig(segment_bytes=2000, index_interval_bytes=200, retention_ms=3_600_000))
        store.reopen()
        if is_index_lost:
            store.files.remove(f"{store.log.segments[0].path}.index")
        count = 0

        def fault(call: str, path: str, failing: int = failing) -> int | None:
            nonlocal count
            count += "t-0/" in path
            return number if count == failing and "t-0/" in path else None

        store.files.fault = fault
        at_once(store.store.apply_retention())
        store.files.fault = None
        assert at_once(store.store.apply_retention()) == 0
        assert store.offsets() == list(range(120)), f"call {failing}"
        if count < failing:
            assert failing > 3
            return
    raise AssertionError("retention makes more calls than that")


def test_segments_that_recovery_may_need_stay_until_a_checkpoint() -> None:
    store = filled()
    before = list(store.log.base_offsets)
    assert store.store.advance_start({store.log: 60}) == 0
    assert (store.log.base_offsets, store.log.start_offset) == (before, 60)
    store.reopen(clean=False)
    assert store.offsets() == list(range(60, 120))
    assert store.log.damages == []
    store.store.checkpoint()
    assert len(store.log.base_offsets) < len(before)
    assert store.log.base_offsets[0] <= 60
    store.reopen(clean=False)
    assert store.offsets() == list(range(60, 120))


def test_a_log_start_that_cannot_be_written_does_not_move() -> None:
    store = filled()
    store.files.fault = lambda call, path: errno.ENOSPC if path.startswith(f"data/{LOG_STARTS}") else None
    with pytest.raises(OSError, match="No space"):
        store.store.advance_start({store.log: 60})
    store.files.fault = None
    assert store.offsets() == list(range(120))
    store.store.checkpoint()
    assert store.store.advance_start({}) == 0  # what is written now must not have it either
    store.reopen(clean=False)
    assert store.offsets() == list(range(120))


def ages_when_sealed(config: LogConfig, segments: int) -> list[int]:
    """How much newer than the first record of each segment another may be without beginning a new one."""
    store = Store(config)
    while len(store.log.segments) <= segments:
        store.append()
        store.clock.advance(250)
    begun = [segment.first_timestamp for segment in store.log.segments]
    return [following - first - 250 for first, following in pairwise(begun)]


def test_jitter_seals_segments_at_different_ages_and_never_late() -> None:
    config = LogConfig(segment_ms=5000, segment_jitter_ms=4000)
    ages = ages_when_sealed(config, 12)
    assert len(set(ages)) > 5
    assert 1000 <= min(ages) < 2500
    assert 3500 < max(ages) <= 5000
    assert ages == ages_when_sealed(config, 12)
    assert set(ages_when_sealed(LogConfig(segment_ms=5000), 3)) == {5000}


def test_jitter_takes_no_more_than_the_whole_age() -> None:
    config = LogConfig(segment_ms=5000, segment_jitter_ms=9000, compact=True, max_compaction_lag_ms=2000)
    assert config.earliest_roll_ms == 0
    assert all(0 < config.roll_ms(f"{n}") <= 2000 for n in range(100))


def test_roll_by_time() -> None:
    store = Store(LogConfig(segment_ms=5000))
    store.append()
    store.clock.advance(4000)
    store.append()
    assert len(store.log.segments) == 1
    store.clock.advance(2000)
    store.append()
    assert len(store.log.segments) == 2


def test_no_segment_is_larger_than_its_limit_but_for_a_single_batch() -> None:
    store = filled(10)
    store.append(30)
    store.append(1)
    sizes = [segment.size for segment in store.log.segments]
    assert len(sizes) > 3
    assert [size > 2000 for size in sizes] == [False] * (len(sizes) - 2) + [True, False]


def test_a_segment_ends_where_its_index_has_no_room_for_the_offset() -> None:
    store = Store()
    batch = bytearray(empty_batch(0, RELATIVE_OFFSET_MAX - 1))
    store.store.append(store.log, batch, read_header(batch))
    for _ in range(3):
        store.append()
    assert store.log.base_offsets == [0, RELATIVE_OFFSET_MAX + 1]
    store.reopen(clean=False)
    found, _ = next(batches(store.log.read(RELATIVE_OFFSET_MAX + 1, 1000, at_least_one=True)))
    assert found.base_offset == RELATIVE_OFFSET_MAX + 1


def test_a_batch_that_could_not_be_written_is_not_a_duplicate_when_it_comes_again() -> None:
    store = Store()

    def produce(sequence: int) -> Verdict:
        batch = build_batch([Record(None, b"v", (), 1)], producer_id=5, producer_epoch=0, base_sequence=sequence)
        verdict, _ = store.log.producers.check(read_header(batch))
        store.store.append(store.log, batch, read_header(batch))
        store.flush()
        return verdict

    produce(0)
    store.files.fault = lambda call, path: errno.ENOSPC if call == "write" and path.endswith(".log") else None
    with pytest.raises(OSError, match="No space"):
        produce(1)
    assert store.log.end_offset == 1
    store.files.fault = None
    assert produce(1) is Verdict.APPEND
    assert store.offsets() == [0, 1]


def test_leader_epochs_end_where_the_next_begins() -> None:
    store = filled(2)
    store.log.leader_epoch = 4
    store.append()
    assert store.log.end_offset_for_epoch(0) == (0, 6)
    assert store.log.end_offset_for_epoch(3) == (0, 6)
    assert store.log.end_offset_for_epoch(4) == (4, 7)
    store.reopen(clean=False)
    assert store.log.epochs.entries == [(0, 0), (4, 6)]


def test_an_epoch_without_records_ends_where_the_first_known_one_begins() -> None:
    """As on Kafka: if no epoch at or below it were found, a consumer would take the log for truncated, and start elsewhere."""
    store = filled(0)
    store.log.leader_epoch = 4
    assert store.log.end_offset_for_epoch(3) == (3, 0)
    assert store.log.end_offset_for_epoch(4) == (4, 0)
    assert store.log.end_offset_for_epoch(5) == (-1, -1)
    assert store.log.end_offset_for_epoch(-1) == (-1, -1)
    store.append()
    assert store.log.end_offset_for_epoch(3) == (3, 0)
    store.log.leader_epoch = 6
    assert store.log.end_offset_for_epoch(5) == (4, 1)


def test_two_brokers_do_not_share_a_directory() -> None:
    store = filled(1)
    with pytest.raises(DirectoryInUseError, match="in use"):
        LogStore(store.files, "data", store.clock, SeededEntropy())
    store.store.close()
    LogStore(store.files, "data", store.clock, SeededEntropy()).abandon()


def test_a_broker_does_not_start_beside_the_compaction_of_one_before() -> None:
    store = filled(1)
    store.store.close()
    compaction = store.files.lock(f"data/{CLEANER_LOCK}")
    with pytest.raises(DirectoryInUseError, match="compaction"):
        LogStore(store.files, "data", store.clock, SeededEntropy())
    compaction.release()
    LogStore(store.files, "data", store.clock, SeededEntropy()).abandon()


def test_a_log_is_removed_with_what_a_compaction_has_left_in_it() -> None:
    store = filled(1)
    files = store.files
    for name in ("t-0", "0.1-t-delete"):  # of a topic that is there, and of one whose removal was interrupted
        files.make_directory(f"data/{name}")
        files.make_directory(f"data/{name}/{CLEANING_DIRECTORY}")
        files.open(f"data/{name}/{CLEANING_DIRECTORY}/{0:020d}.log", create=True)
    store.store.delete_log("t", TOPIC_ID, 0)
    assert not files.exists("data/t-0")
    store.reopen(clean=False)
    store.store.directories.sort(lambda topic, partition: True, set(), set())
    assert not files.exists("data/0.1-t-delete")


@pytest.mark.parametrize("content", [b"version=2\n", b"version=1\nheadwater.format=9\n", b"\xff\xfe", b""])
def test_a_directory_of_another_format_is_left_alone(content: bytes) -> None:
    files = MemoryFiles()
    files.make_directory("data")
    files.open("data/meta.properties", create=True).write([content], 0)
    with pytest.raises(FormatError):
        LogStore(files, "data", ManualClock(), SeededEntropy())
    assert files.open("data/meta.properties").read(100, 0) == content
    assert files.list_directory("data") == ["meta.properties"]


def test_a_forged_clean_marker_loses_nothing() -> None:
    store = filled()
    store.store.abandon()
    store.files.open("data/.kafka_cleanshutdown", create=True).write([b"{}"], 0)
    store.open()
    assert store.offsets() == list(range(120))


def test_records_without_a_timestamp_are_written_and_indexed() -> None:
    store = Store()
    for _ in range(20):
        store.append(5, timestamp=-10)  # -10 to -6: batches without a timestamp of their own
    assert store.offsets() == list(range(100))
    store.reopen()
    assert store.offsets() == list(range(100))
    store.append(1)
    store.reopen(clean=False)
    assert store.offsets() == list(range(101))
