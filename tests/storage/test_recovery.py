"""Loading a damaged directory: what is gone is named, nothing sound is removed, and no offset is used again."""

import contextlib
import errno
import logging
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import Inode, MemoryFiles
from headwater.effects.work import at_once
from headwater.protocol.records import BatchHeader, Record, batches, build_batch, read_header
from headwater.storage.checkpoints import RECOVERY_POINTS, write_offsets
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError
from headwater.storage.log import Log
from headwater.storage.recovery import LogRecovery
from headwater.storage.segment import Segment, segment_name
from headwater.storage.sums import read_sums
from headwater.storage.swaps import CLEANING_DIRECTORY, begin_swap
from tests.storage.test_log import SMALL, TOPIC_ID, Store, filled
from tests.storage.times import max_timestamp, offset_for_timestamp

COMPACTED = LogConfig(segment_bytes=2000, index_interval_bytes=200, compact=True, delete=False)
DAY_MS = 24 * 3600 * 1000


def segment_path(store: Store, number: int, suffix: str = ".log") -> str:
    return store.log.segments[number].path + suffix


def contents(files: MemoryFiles) -> dict[str, bytes]:
    """Every segment's bytes in the log's directory."""
    names = [name for name in files.list_directory("data/t-0") if ".log" in name]
    return {name: files.open(f"data/t-0/{name}").read(1 << 20, 0) for name in names}


def readable(log: Log) -> list[int]:
    """Every offset that a reader gets, which asks for the next one after each failure."""
    found, offset = [], log.start_offset
    while offset < log.high_watermark:
        try:
            data = log.read(offset, 1000, at_least_one=True)
        except DamagedLogError:
            offset += 1
            continue
        header, _ = next(batches(data))
        found += [n for n in range(header.base_offset, header.next_offset) if n >= offset]
        offset = header.next_offset
    return found


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR)


def stopped(config: LogConfig = SMALL) -> Store:
    """120 records in many segments, of which a checkpoint has synced all; the broker has stopped."""
    store = filled(config=config)
    store.store.close()
    return store


def start_of_batch(store: Store, path: str, number: int) -> int:
    headers: list[BatchHeader] = [h for h, _ in batches(store.files.open(path).read(1 << 20, 0))]
    return sum(header.size_bytes for header in headers[:number])


# -- below the recovery point


def test_a_last_segment_that_was_cut_costs_its_own_records_and_no_offset_is_used_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = stopped()
    path = segment_path(store, -1)
    base = store.log.segments[-1].base_offset
    store.files.open(path).truncate(start_of_batch(store, path, 2) + 30)
    store.open()
    assert f"offsets {base + 6} to 119 are gone" in errors(caplog)
    assert store.log.end_offset == 120
    assert readable(store.log) == list(range(base + 6))
    with pytest.raises(DamagedLogError, match=f"offsets {base + 6} to 119 are gone"):
        store.log.read(base + 7, 1000, at_least_one=True)
    store.append()
    assert store.log.end_offset == 121
    assert readable(store.log) == [*range(base + 6), 120]
    store.reopen()
    assert readable(store.log) == [*range(base + 6), 120]
    store.reopen(clean=False)
    assert readable(store.log) == [*range(base + 6), 120]
    assert store.files.open(path).size() == start_of_batch(store, path, 2) + 30


@pytest.mark.parametrize("config", [SMALL, COMPACTED])
def test_a_segment_that_is_gone_from_the_middle_is_named(config: LogConfig, caplog: pytest.LogCaptureFixture) -> None:
    store = stopped(config)
    start, end = store.log.base_offsets[2:4]
    store.files.remove(segment_path(store, 2))
    store.open()
    assert f"offsets {start} to {end - 1} are gone" in errors(caplog)
    assert readable(store.log) == [n for n in range(120) if not start <= n < end]
    with pytest.raises(DamagedLogError):
        store.log.read(start, 1000, at_least_one=True)


def test_a_first_segment_that_is_gone_does_not_move_the_start(caplog: pytest.LogCaptureFixture) -> None:
    store = stopped()
    first = store.log.base_offsets[1]
    store.files.remove(segment_path(store, 0))
    store.open()
    assert f"offsets 0 to {first - 1} are gone" in errors(caplog)
    assert store.log.start_offset == 0
    assert readable(store.log) == list(range(first, 120))
    with pytest.raises(DamagedLogError):
        store.log.read(0, 1000, at_least_one=True)


@pytest.mark.parametrize("whole_directory", [False, True])
def test_a_log_that_is_gone_continues_where_it_ended(whole_directory: bool, caplog: pytest.LogCaptureFixture) -> None:
    store = stopped()
    for name in store.files.list_directory("data/t-0"):
        if whole_directory or name.endswith(".log"):
            store.files.remove(f"data/t-0/{name}")
    if whole_directory:
        store.files.remove("data/t-0")
    store.open()
    assert "offsets 0 to 119 are gone" in errors(caplog)
    assert (store.log.start_offset, store.log.high_watermark) == (0, 120)
    store.append()
    assert readable(store.log) == [120]
    store.reopen(clean=False)
    assert readable(store.log) == [120]


def test_a_sealed_segment_that_was_cut_is_named_and_the_next_ones_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = stopped()
    path, (base, end) = segment_path(store, 1), store.log.base_offsets[1:3]
    store.files.open(path).truncate(start_of_batch(store, path, 1))
    store.open()
    assert f"offsets {base + 3} to {end - 1} are gone" in errors(caplog)
    assert readable(store.log) == [n for n in range(120) if not base + 3 <= n < end]


@pytest.mark.parametrize("position", [8, 16])  # the length, the format
def test_a_flipped_batch_costs_what_follows_it_in_its_segment(position: int) -> None:
    store = stopped()
    path, (base, end) = segment_path(store, 1), store.log.base_offsets[1:3]
    store.files.open(path).write([b"\x7f"], start_of_batch(store, path, 2) + position)
    store.open()
    found = set(readable(store.log))
    assert found >= {*range(base + 6), *range(end, 120)}
    assert not found & set(range(base + 6, base + 9))
    with pytest.raises(DamagedLogError):
        max_timestamp(store.log)


def test_retention_stops_at_a_damaged_segment() -> None:
    store = stopped(LogConfig(segment_bytes=2000, index_interval_bytes=200, retention_ms=1000))
    path, base = segment_path(store, 1), store.log.base_offsets[1]
    store.files.open(path).truncate(100)
    store.open()
    store.clock.advance(DAY_MS)
    at_once(store.store.apply_retention())
    assert store.log.start_offset == base
    assert store.files.exists(path)


# -- the recovery point is lost


def without_point(store: Store) -> None:
    for name in store.files.list_directory("data"):
        if name.startswith(RECOVERY_POINTS):
            store.files.remove(f"data/{name}")


def without_sums(store: Store) -> None:
    for name in store.files.list_directory("data/t-0"):
        if name.endswith(".sums"):
            store.files.remove(f"data/t-0/{name}")


def compact_by_hand(store: Store) -> None:
    """Leaves of the second segment its first batch only, as compaction would; its sums still say where it ends."""
    path = segment_path(store, 1)
    store.files.open(path).truncate(start_of_batch(store, path, 1))
    sums = read_sums(store.files, segment_path(store, 1, ""))
    assert sums is not None
    shorter = sums._replace(size=start_of_batch(store, path, 1), index_entries=0, index_crc=0)
    store.files.open(segment_path(store, 1, ".sums")).write([shorter.content()], 0)


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("point", [True, False])
def test_gaps_that_compaction_has_left_are_no_damage(point: bool, sums: bool, caplog: pytest.LogCaptureFixture) -> None:
    store = stopped(COMPACTED)
    base, end = store.log.base_offsets[1:3]
    compact_by_hand(store)
    before = contents(store.files)
    if not point:
        without_point(store)
    if not sums:
        without_sums(store)
    store.open()
    assert readable(store.log) == [n for n in range(120) if not base + 3 <= n < end]
    assert contents(store.files) == before
    assert "gone" not in errors(caplog)
    store.reopen()
    store.reopen(clean=False)
    assert store.log.read(base + 4, 1000, at_least_one=True)  # the gap is not a hole
    assert "gone" not in errors(caplog)


def test_gaps_above_an_old_recovery_point_are_no_damage() -> None:
    """The checkpoint was restored from an old copy of the directory."""
    store = stopped(COMPACTED)
    base, end = store.log.base_offsets[1:3]
    compact_by_hand(store)
    write_offsets(store.files, f"data/{RECOVERY_POINTS}", {(TOPIC_ID, 0): 6})
    before = contents(store.files)
    store.open()
    assert contents(store.files) == before
    assert readable(store.log) == [n for n in range(120) if not base + 3 <= n < end]


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("clean", [True, False])
def test_a_flipped_byte_and_a_lost_recovery_point_leave_the_sound_segments(clean: bool, sums: bool) -> None:
    store = filled()
    store.store.checkpoint()
    store.store.close() if clean else store.store.abandon()
    path, end = segment_path(store, 0), store.log.base_offsets[1]
    store.files.open(path).write([b"\x55"], start_of_batch(store, path, 1) + 70)  # in a record
    before = contents(store.files)
    without_point(store)
    if not sums:
        without_sums(store)
    store.open()
    assert set(range(end, 120)) <= set(readable(store.log))
    assert {name: data for name, data in contents(store.files).items() if name in before} == before
    store.append()
    assert store.log.end_offset == 121
    store.reopen()
    assert set(range(end, 121)) <= set(readable(store.log))


def test_a_lost_recovery_point_is_known_from_the_sums(caplog: pytest.LogCaptureFixture) -> None:
    store = stopped()
    base = store.log.segments[-1].base_offset
    store.files.open(segment_path(store, -1)).truncate(10)
    without_point(store)
    store.open()
    assert f"offsets {base} to 119 are gone" in errors(caplog)
    assert store.log.end_offset == 120


def test_nothing_is_cut_where_neither_the_point_nor_the_sums_are_known() -> None:
    store = stopped()
    path = segment_path(store, -1)
    store.files.open(path).write([b"\x55"], start_of_batch(store, path, 0) + 70)
    before = contents(store.files)
    without_point(store)
    without_sums(store)
    store.open()
    after = contents(store.files)
    assert sorted(before.values()) == sorted(data for data in after.values() if data)
    store.append()
    assert readable(store.log)[-1] == store.log.end_offset - 1


# -- files that are not what they seem


def put(store: Store, name: str, content: bytes) -> None:
    store.files.open(f"data/t-0/{name}", create=True).write([content], 0)


@pytest.mark.parametrize(
    "name",
    [
        "5.log",
        "x.log",
        "x.log.swap",
        "notes.swap",
        "²²²²²²²²²²²²²²²²²²²².log",
        "99999999999999999999.log",
        "7.snapshot",
        "99999999999999999999.snapshot",
    ],
)
def test_files_with_other_names_are_left_alone(name: str) -> None:
    store = stopped()
    put(store, name, b"something")
    store.open()
    assert store.offsets() == list(range(120))
    assert store.files.exists(f"data/t-0/{name}")


@pytest.mark.parametrize("content", [b"", b"something else " * 20])
@pytest.mark.parametrize("base", [121, 500, (1 << 63) - 1])
@pytest.mark.parametrize("clean", [True, False])
def test_a_foreign_segment_after_the_end_moves_nothing(clean: bool, base: int, content: bytes) -> None:
    store = filled()
    store.store.close() if clean else store.store.abandon()
    put(store, f"{base:020d}.log", content)
    store.open()
    assert store.log.end_offset == 120
    assert store.offsets() == list(range(120))
    store.append()
    assert store.offsets() == list(range(121))
    left = [name for name in store.files.list_directory("data/t-0") if name.startswith(f"{base:020d}.log")]
    assert bool(left) == bool(content)  # nothing is lost with an empty one


@pytest.mark.parametrize("clean", [True, False])
def test_a_segment_that_overlaps_others_is_set_aside(clean: bool) -> None:
    store = stopped()
    first = store.files.open(segment_path(store, 0)).read(1 << 20, 0)
    name = f"{store.log.base_offsets[1] + 1:020d}.log"
    put(store, name, first)
    store.open()
    assert store.offsets() == list(range(120))
    store.reopen(clean=clean)
    assert store.offsets() == list(range(120))
    assert contents(store.files)[f"{name}.aside"] == first
    store.store.abandon()
    put(store, name, first + b"other")
    store.open()
    assert contents(store.files)[f"{name}.aside"] == first
    assert contents(store.files)[f"{name}.aside1"] == first + b"other"


def test_an_empty_segment_file_in_the_middle_is_damage(caplog: pytest.LogCaptureFixture) -> None:
    store = stopped()
    start, end = store.log.base_offsets[2:4]
    store.files.open(segment_path(store, 2)).truncate(0)
    store.open()
    assert f"offsets {start} to {end - 1} are gone" in errors(caplog)
    assert readable(store.log) == [n for n in range(120) if not start <= n < end]


# -- indexes


def random_bytes(content: bytes) -> bytes:
    return bytes((n * 7919 + 13) % 256 for n in range(len(content)))


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[: len(content) // 2 // 24 * 24],  # a sound prefix
    lambda content: content[:24],
    lambda content: bytes(len(content)),
    random_bytes,
    lambda content: content[:-1] + bytes([content[-1] ^ 1]) if content else b"\1",
    lambda content: content + content,
]


@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".sums"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("clean", [True, False])
def test_look_ups_by_time_do_not_believe_a_part_of_an_index(
    suffix: str, damage: Callable[[bytes], bytes], clean: bool
) -> None:
    store = filled()
    store.store.checkpoint()
    store.store.close() if clean else store.store.abandon()
    for name in store.files.list_directory("data/t-0"):
        if name.endswith(suffix):
            content = store.files.open(f"data/t-0/{name}").read(1 << 20, 0)
            store.files.open(f"data/t-0/{name}").truncate(0)
            put(store, name, damage(content))
    store.open()
    start = 1_700_000_000_000
    for n in range(40):
        assert offset_for_timestamp(store.log, start + 1000 * n) == (start + 1000 * n, 3 * n)
    assert max_timestamp(store.log) == (start + 39_002, 119)
    assert store.offsets() == list(range(120))


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_an_index_of_another_segment_is_not_believed(suffix: str) -> None:
    store = stopped()
    paths = [segment.path + suffix for segment in store.log.segments]
    if store.files.exists(paths[1]):
        content = store.files.open(paths[1]).read(1 << 20, 0)
        store.files.open(paths[2]).truncate(0)
        store.files.open(paths[2]).write([content], 0)
    store.open()
    start = 1_700_000_000_000
    assert [offset_for_timestamp(store.log, start + 1000 * n).offset for n in range(40)] == list(range(0, 120, 3))


def test_retention_does_not_think_a_segment_older_than_it_is() -> None:
    """Its latest record is a day old; what is left of the time index ends seven days before."""
    store = Store(LogConfig(100_000, segment_ms=99 * DAY_MS, index_interval_bytes=100, retention_ms=7 * DAY_MS))
    for _ in range(20):
        store.append(1)
        store.clock.advance(DAY_MS)
    store.log.roll()
    store.append(1)
    store.store.close()
    file = store.files.open("data/t-0/00000000000000000000.timeindex")
    assert file.size() > 60
    file.truncate(24)
    store.open()
    store.clock.advance(DAY_MS)
    at_once(store.store.apply_retention())
    assert store.log.start_offset == 0


def test_built_indexes_are_kept() -> None:
    store = stopped()
    for number in range(4):
        store.files.remove(segment_path(store, number, ".timeindex"))
    store.open()
    for number in range(4):
        store.log.ensure_index(store.log.segments[number])
    store.reopen(clean=False)
    reads: list[str] = []
    store.files.fault = lambda call, path: reads.append(path) if call == "read" and path.endswith(".log") else None
    for number in range(4):
        store.log.ensure_index(store.log.segments[number])
    assert len(reads) <= 2 * 4  # the first header, and the batch of the last entry


def test_a_segment_that_is_sealed_while_a_checkpoint_runs_is_vouched_for() -> None:
    store = filled(12)
    checkpoint = store.store.begin_checkpoint()
    store.append(3)
    store.log.roll()
    sealed = store.log.segments[-2]
    store.append(3)
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    store.store.checkpoint()
    store.reopen(clean=False)
    for segment in store.log.segments[:-1]:
        assert segment.load_indexes(), segment.path
    assert sealed.path in [segment.path for segment in store.log.segments]


def test_segments_that_a_start_finds_above_the_recovery_point_are_vouched_for_by_the_next_checkpoint() -> None:
    store = filled()
    store.store.abandon()
    store.open()
    assert len(store.log.unsynced_segments) > 5
    store.store.checkpoint()
    store.reopen(clean=False)
    for segment in store.log.segments[:-1]:
        assert segment.load_indexes(), segment.path


def test_a_checkpoint_syncs_the_indexes_of_sealed_segments() -> None:
    files = MemoryFiles(crashable=True)
    store = filled(files=files)
    store.store.checkpoint()
    for segment in store.log.segments[:-1]:
        for suffix in (".index", ".timeindex"):
            inode = files.entry(segment.path + suffix)
            assert inode is not None
            assert inode.unsynced == [], segment.path


# -- above the recovery point


def is_synced(files: MemoryFiles, path: str) -> bool:
    inode = files.entry(path)
    assert isinstance(inode, Inode)
    return inode.durable == bytes(inode.content)


def empty_journal(store: Store) -> None:
    for name in ("0.journal", "1.journal"):
        store.files.open(f"data/journal/{name}").write([bytes(20)], 0)


def test_what_is_cut_off_is_synced_at_once() -> None:
    """Else a power cut could undo the cut, and bring it back under what is appended next."""
    store = filled(2, files=MemoryFiles(crashable=True))
    store.store.checkpoint()
    store.store.abandon()
    path = segment_path(store, 0)
    whole = store.files.open(path).size()
    store.files.open(path).write([b"torn" * 20], whole)
    store.files.open(path).sync()
    LogRecovery(Log(store.files, "data/t-0", "t", TOPIC_ID, 0, SMALL)).load(6, 0)
    assert store.files.open(path).size() == whole
    assert is_synced(store.files, path)


def test_what_a_start_finds_and_serves_is_synced_before() -> None:
    """It was not acknowledged before the stop; from now on readers see it, so the next power cut must not remove it."""
    store = filled(2, files=MemoryFiles(crashable=True))
    store.store.abandon()
    empty_journal(store)
    path = segment_path(store, 0)
    assert not is_synced(store.files, path)
    store.open()
    assert store.log.high_watermark == 6
    assert is_synced(store.files, path)


def test_an_entry_of_an_index_that_is_about_another_batch_is_not_believed() -> None:
    store = stopped()
    store.open()
    segment = store.log.segments[0]
    store.log.ensure_index(segment)
    segment.index.positions[0] = segment.index.positions[1]  # beyond the batch that it is about
    for offset in range(15):
        header, _ = next(batches(store.log.read(offset, 1, at_least_one=True)))
        assert header.base_offset <= offset <= header.last_offset


def test_sums_above_the_recovery_point_prove_nothing() -> None:
    """They were copied from elsewhere, or an older recovery point was: what lies above it is checked by its CRC."""
    store = filled()
    store.store.checkpoint()
    store.store.abandon()
    last = store.log.segments[-1]
    path = segment_path(store, -1)
    empty_journal(store)
    write_offsets(store.files, f"data/{RECOVERY_POINTS}", {(TOPIC_ID, 0): last.base_offset + 3})
    store.files.open(path).write([b"\x55"], start_of_batch(store, path, 3) + 70)
    store.open()
    assert store.log.end_offset == last.base_offset + 9


def test_a_producer_snapshot_above_the_recovery_point_goes() -> None:
    store = stopped()
    put(store, f"{125:020d}.snapshot", read_file(store.files, f"data/t-0/{120:020d}.snapshot"))
    store.open()
    assert not store.files.exists(f"data/t-0/{125:020d}.snapshot")


def test_a_swap_that_was_interrupted_removes_all_that_the_copy_replaces(caplog: pytest.LogCaptureFixture) -> None:
    """Of the second segment the copy has nothing; its sums say that it is covered."""
    store = stopped(COMPACTED)
    first, second, end = store.log.base_offsets[:3]
    folder = f"data/t-0/{CLEANING_DIRECTORY}"
    store.files.make_directory(folder)
    copy = Segment(store.files, folder, first, create=True)
    data = store.files.open(segment_path(store, 0)).read(1 << 20, 0)
    header, batch = next(batches(data))
    copy.append(batch, header.base_offset, header.last_offset, header.max_timestamp, 200)
    copy.end_offset = end
    copy.write_indexes()
    copy.write_sums()
    begin_swap(store.files, folder, "data/t-0", segment_name(first))
    store.open()
    assert store.log.base_offsets[:2] == [first, end]
    assert second not in store.log.base_offsets
    assert "set aside" not in caplog.text
    assert store.log.damages == []
    assert readable(store.log) == [*range(3), *range(end, 120)]


def test_a_segment_that_the_journal_brings_back_replaces_the_torn_one() -> None:
    store = filled()
    store.store.abandon()
    path = segment_path(store, 1)
    store.files.open(path).truncate(start_of_batch(store, path, 2) + 10)
    store.open()
    assert store.offsets() == list(range(120))
    assert not [name for name in store.files.list_directory("data/t-0") if name.endswith(".aside")]
    assert store.log.topic_id == TOPIC_ID


def test_records_below_a_lost_start_are_not_given_twice(caplog: pytest.LogCaptureFixture) -> None:
    """The log start is durable and above all that is left."""
    store = filled(4)
    store.store.checkpoint()
    store.store.advance_start({store.log: 12})
    store.store.close()
    for name in store.files.list_directory("data/t-0"):
        if name.endswith((".log", ".sums")):
            store.files.remove(f"data/t-0/{name}")
    store.open()
    assert (store.log.start_offset, store.log.end_offset) == (12, 12)
    store.append()
    assert readable(store.log) == [12]


def test_damage_that_was_given_up_holds_nothing_back() -> None:
    """DeleteRecords moves the start past it."""
    store = stopped(LogConfig(segment_bytes=2000, index_interval_bytes=200, retention_ms=10 * DAY_MS))
    following = store.log.base_offsets[2]
    store.files.open(segment_path(store, 1)).truncate(100)
    store.open()
    assert store.log.damages
    store.store.advance_start({store.log: following})
    assert readable(store.log) == list(range(following, 120))
    assert max_timestamp(store.log).offset == 119
    store.reopen()
    assert store.log.damages == []
    assert readable(store.log) == list(range(following, 120))
    store.clock.advance(11 * DAY_MS)
    at_once(store.store.apply_retention())
    assert store.log.start_offset == 120


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_look_ups_by_time_do_not_pass_over_damage(how: str) -> None:
    store = stopped()
    path, (base, end) = segment_path(store, 2), store.log.base_offsets[2:4]
    match how:
        case "gone":
            store.files.remove(path)
        case "cut":
            store.files.open(path).truncate(start_of_batch(store, path, 0) + 10)
        case "flipped":
            store.files.open(path).write([b"\x7f"], 8)
            for suffix in (".index", ".timeindex"):
                store.files.remove(segment_path(store, 2, suffix))
    store.open()
    start = 1_700_000_000_000
    for n in range(40):
        if how == "flipped" and base + 3 < 3 * n <= end:  # known only where the index says that it is later
            with contextlib.suppress(DamagedLogError):
                assert offset_for_timestamp(store.log, start + 1000 * n).offset == 3 * n
        elif base <= 3 * n <= end:  # it may be there, or just after
            with pytest.raises(DamagedLogError):
                offset_for_timestamp(store.log, start + 1000 * n)
        else:
            assert offset_for_timestamp(store.log, start + 1000 * n) == (start + 1000 * n, 3 * n)
    assert offset_for_timestamp(store.log, start + 60_000).offset == -1


@pytest.mark.parametrize("byte", [1, 4, 7])
def test_a_flipped_base_offset_above_the_recovery_point_is_replaced_from_the_journal(byte: int) -> None:
    store = filled(8)
    store.store.abandon()
    path = segment_path(store, -1)
    last = start_of_batch(store, path, 2)
    flipped = store.files.open(path).read(1, last + byte)[0] ^ 0x20
    store.files.open(path).write([bytes([flipped])], last + byte)
    store.open()
    assert store.log.end_offset == 24
    assert store.offsets() == list(range(24))


@pytest.mark.parametrize("byte", [1, 4, 7])
def test_a_flipped_base_offset_below_the_recovery_point_moves_nothing(byte: int) -> None:
    store = stopped()
    path = segment_path(store, -1)
    flipped = store.files.open(path).read(1, start_of_batch(store, path, 4) + byte)[0] ^ 0x40
    store.files.open(path).write([bytes([flipped])], start_of_batch(store, path, 4) + byte)
    without_sums(store)
    store.open()
    assert store.log.end_offset == 120
    store.append()
    assert store.log.end_offset == 121
    assert readable(store.log) == [*range(117), 120]


def test_a_start_syncs_no_log_while_there_is_a_spare_file_of_the_journal() -> None:
    """With a thousand logs that takes seconds, in which nobody is served."""
    store = filled(30)
    journal = store.store.journal
    while not journal.has_full_file:
        batch = build_batch([Record(None, bytes(20_000), (), 1)])
        store.store.append(store.log, batch, read_header(batch))
        while (group := journal.take()) is not None:
            journal.sync(journal.write(group))
            store.store.sync_done(group)
    end = store.log.end_offset
    for life in range(3):
        synced: list[str] = []
        store.store.abandon()

        def note(call: str, path: str, synced: list[str] = synced) -> None:
            if call == "sync":
                synced.append(path)

        store.files.fault = note
        store.open()
        store.files.fault = None
        logs = [path for path in synced if path.endswith(".log")]
        assert bool(logs) is (life == 2)  # no spare file is left
        assert store.store.journal.has_full_file is (life < 2)
        assert store.log.end_offset == end
    assert store.offsets() == list(range(end))


# -- acknowledged on a full disk: in the log, and not in the journal


@pytest.mark.parametrize("segment_bytes", [400, 2000])
def test_what_only_the_log_has_outlives_a_damaged_place_before_it(
    segment_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(config=replace(SMALL, segment_bytes=segment_bytes))
    store.append(3)
    store.store.checkpoint()
    store.append(3)
    store.append(3)
    store.files.fault = lambda call, path: errno.ENOSPC if call == "write" and "journal" in path else None
    store.append(3)
    store.append(3)
    store.files.fault = None
    assert store.log.high_watermark == 15
    number = bisect_right(store.log.base_offsets, 6) - 1
    path = segment_path(store, number)
    position = start_of_batch(store, path, (6 - store.log.base_offsets[number]) // 3)
    store.files.open(path).write([b"\xff"], position + 100)
    store.reopen(clean=False)
    assert readable(store.log) == list(range(15))
    assert "offsets 9 to 14 were not in the journal" in caplog.text
    store.append()
    store.reopen(clean=False)
    assert readable(store.log) == list(range(16))
