"""What an earlier life has left is checked before it is served, and damage costs no more than itself."""

import logging
from random import Random

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import HEADER_BYTES, Record, batches, build_batch, patch_leader_epoch, read_header
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError
from headwater.storage.log import Log
from headwater.storage.segment import Segment, segment_name
from headwater.storage.swaps import CLEANING_DIRECTORY, begin_swap, finish_swaps
from tests.storage.test_log import Store, filled

LARGE = LogConfig(segment_bytes=1 << 20, index_interval_bytes=2000)
LOG = f"data/t-0/{segment_name(0)}.log"


def stopped(count: int = 40, config: LogConfig = LARGE) -> Store:
    store = filled(count, config=config)
    store.store.close()
    return store


def positions(files: MemoryFiles, path: str = LOG) -> list[int]:
    """Where each batch begins."""
    found = [0]
    for header, _ in batches(read_file(files, path)):
        found.append(found[-1] + header.size_bytes)
    return found


def readable(log: Log, size_max: int = 1 << 20) -> set[int]:
    """The offsets that a reader gets who asks for the next one after each failure."""
    found: set[int] = set()
    offset = log.start_offset
    while offset < log.high_watermark:
        try:
            data = log.read(offset, size_max, at_least_one=True)
        except DamagedLogError:
            offset += 1
            continue
        for header, _ in batches(data):
            found.update(range(max(offset, header.base_offset), header.next_offset))
            offset = header.next_offset
    return found


def flip(store: Store, position: int, bit: int = 0, path: str = LOG) -> None:
    file = store.files.open(path)
    (byte,) = file.read(1, position)
    file.write([bytes([byte ^ 1 << bit])], position)


FIELDS = {"base offset": 7, "length": 11, "epoch": 15, "magic": 16, "crc": 18, "last delta": 26, "records": 90}


@pytest.mark.parametrize("number", [0, 7, 39])
@pytest.mark.parametrize("field", FIELDS)
def test_a_flipped_bit_costs_its_own_batch_only(field: str, number: int, caplog: pytest.LogCaptureFixture) -> None:
    store = stopped()
    flip(store, positions(store.files)[number] + FIELDS[field])
    store.open()
    lost = {3 * number, 3 * number + 1, 3 * number + 2}
    assert readable(store.log) == set(range(120)) - lost
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert f"{LOG} is damaged at byte {positions_of_whole()[number]}" in line
    assert f"offsets {3 * number} to {3 * number + 2} cannot be read" in line
    with pytest.raises(DamagedLogError) as caught:
        store.log.read(3 * number + 1, 1000, at_least_one=True)
    assert (caught.value.start_offset, caught.value.end_offset) == (3 * number, 3 * number + 3)


def positions_of_whole() -> list[int]:
    return positions(stopped().files)


@pytest.mark.parametrize("size_max", [1, 700, 1 << 20])
def test_what_was_sound_is_not_checked_again_and_what_is_appended_not_at_all(size_max: int) -> None:
    store = stopped()
    store.open()
    assert readable(store.log, size_max) == set(range(120))
    segment = store.log.segments[0]
    assert segment.trust.begins_at == 0
    store.append()
    assert segment.trust.covers(0, segment.size)


def test_damage_of_several_batches_in_a_row_and_apart() -> None:
    store = stopped()
    at = positions(store.files)
    store.files.open(LOG).write([b"\xff" * (at[12] - at[10])], at[10])
    flip(store, at[30] + 8, 6)
    store.open()
    assert readable(store.log) == set(range(120)) - set(range(30, 36)) - set(range(90, 93))


def test_a_batch_in_a_record_is_not_taken_for_one_of_the_log() -> None:
    """Somebody stores a batch as a value; the batch around it is damaged."""
    store = filled(5, config=LARGE)
    inner = build_batch([Record(None, b"inner")], base_offset=16)
    batch = build_batch([Record(None, bytes(inner), (), store.clock.wall_ms()) for _ in range(3)])
    store.append()
    position = store.log.segments[0].size
    store.store.append(store.log, batch, read_header(batch))
    store.flush()
    store.append()
    store.store.close()
    flip(store, position + 8, 6)
    store.open()
    assert readable(store.log) == set(range(20)) - {16, 17, 18}


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_not_served(seed: int) -> None:
    random, store = Random(seed), stopped()
    whole = {header.base_offset: bytes(batch) for header, batch in batches(read_file(store.files, LOG))}
    size = sum(map(len, whole.values()))
    for _ in range(3):
        store.files.open(LOG).write([random.randbytes(random.randint(1, 80))], random.randrange(size - 80))
    store.open()
    offset = 0
    while offset < 120:
        try:
            data = store.log.read(offset, random.randint(1, 3000), at_least_one=True)
        except DamagedLogError:
            offset += 1
            continue
        for header, batch in batches(data):
            assert bytes(batch) == whole[header.base_offset]
            offset = header.next_offset


# -- leader epochs


def test_an_epoch_of_another_batch_is_damage_and_one_in_the_file_is_not(caplog: pytest.LogCaptureFixture) -> None:
    store = filled(3, config=LARGE)
    store.log.leader_epoch = 4
    store.append()
    store.store.close()
    path = "data/t-0/leader-epoch-checkpoint"
    whole = read_file(store.files, path)
    for damaged in (whole.replace(b"4 9", b"5 9"), whole[:-3], b"", None):
        store.files.remove(path)
        if damaged is not None:
            store.files.open(path, create=True).write([damaged], 0)
        store.open()
        assert store.log.epochs.entries == [(0, 0), (4, 9)]
        assert readable(store.log) == set(range(10))
        assert read_file(store.files, path) == whole
        store.store.close()
    assert "rewriting it" in caplog.text
    content = bytearray(read_file(store.files, LOG))
    patch_leader_epoch(content, positions(store.files)[1] + 12, 4)
    store.files.open(LOG).write([content], 0)
    store.open()
    assert readable(store.log) == set(range(10)) - {3, 4, 5}


def test_epochs_of_an_earlier_version_vouch_for_nothing() -> None:
    store = filled(2, config=LARGE)
    store.store.close()
    store.files.remove("data/t-0/leader-epoch-checkpoint.copy")
    store.files.open("data/t-0/leader-epoch-checkpoint").write([b"0\n1\n3 0\n"], 0)
    store.open()
    assert readable(store.log) == set(range(6))
    store.log.leader_epoch = 5
    store.append()
    store.reopen()
    assert store.log.epochs.entries == [(3, 0), (5, 6)]
    assert store.log.epochs.at(2) == (-1, 6)
    assert store.log.epochs.at(6)[0] == 5
    assert readable(store.log) == set(range(7))


# -- what the broker does not know is kept


def test_bytes_that_no_torn_write_has_left_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    store = filled(3, config=LARGE)
    store.store.abandon()
    size = store.files.open(LOG).size()
    store.files.open(LOG).write([b"somebody's notes" * 20], size)
    store.open()
    assert readable(store.log) == set(range(9))
    assert read_file(store.files, f"{LOG}.aside") == b"somebody's notes" * 20
    assert f"{LOG}.aside" in caplog.text


@pytest.mark.parametrize("torn", [bytes(300), b"whole", b"zeros before"])
def test_torn_writes_are_cut_off_and_not_kept(torn: bytes) -> None:
    store = filled(3, config=LARGE)
    store.store.abandon()
    size = store.files.open(LOG).size()
    batch = bytes(build_batch([Record(None, bytes(600))], base_offset=9))
    tail = {b"whole": batch[:400], b"zeros before": bytes(5) + batch[5:300]}.get(torn, torn)
    store.files.open(LOG).write([tail], size)
    store.open()
    assert readable(store.log) == set(range(9))
    assert not [name for name in store.files.list_directory("data/t-0") if "aside" in name]


@pytest.mark.parametrize("content", [b"mine", b"not a journal at all, but quite long" * 10])
def test_a_file_in_the_journals_place_is_kept(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = stopped(3)
    path = "data/journal/0.journal"
    store.files.remove(path)
    store.files.open(path, create=True).write([content], 0)
    store.open()
    assert read_file(store.files, f"{path}.aside") == content
    assert f"{path}.aside" in caplog.text
    store.append()
    store.reopen(clean=False)
    assert readable(store.log) == set(range(10))


def test_what_no_compaction_made_is_kept_in_its_folder() -> None:
    store = stopped(3)
    folder = f"data/t-0/{CLEANING_DIRECTORY}"
    store.files.make_directory(folder)
    for name in ("notes.txt", f"{segment_name(0)}.log"):
        store.files.open(f"{folder}/{name}", create=True)
    store.open()
    assert store.files.list_directory(folder) == ["notes.txt"]


def test_a_damaged_copy_does_not_take_the_place_of_what_is_sound() -> None:
    store = stopped(3)
    folder = f"data/t-0/{CLEANING_DIRECTORY}"
    store.files.make_directory(folder)
    copied = bytearray(read_file(store.files, LOG))
    copied[HEADER_BYTES + 9] ^= 1
    store.files.open(f"{folder}/{segment_name(0)}.log", create=True).write([copied], 0)
    begin_swap(store.files, folder, "data/t-0", segment_name(0))
    store.open()
    assert readable(store.log) == set(range(9))
    assert read_file(store.files, f"{LOG}.aside") == bytes(copied)


def test_a_damaged_copy_that_is_all_there_is_removes_nothing_beside_it() -> None:
    store = stopped(3)
    store.files.open(LOG).write([b"\xff"], HEADER_BYTES + 9)
    store.files.rename(LOG, f"{LOG}.swap")
    other = f"data/t-0/{segment_name(3)}.log"
    store.files.open(other, create=True).write([b"other"], 0)
    assert segment_name(3) + ".log" in finish_swaps(store.files, "data/t-0")
    assert store.files.exists(LOG)


# -- compaction's gaps


def test_an_offset_that_moved_within_a_gap_is_found_by_the_index() -> None:
    store = filled(3, config=LARGE)
    store.store.close()
    content = read_file(store.files, LOG)
    at = positions(store.files)
    store.files.make_directory("copy")
    copy = Segment(store.files, "copy", 0, create=True)
    for number in (0, 2):
        header = read_header(content, at[number])
        copy.append(content[at[number] : at[number + 1]], header.base_offset, header.last_offset, 1, -1)
    copy.may_have_gaps = True
    copy.write_indexes()
    copy.write_sums()
    for suffix in (".log", ".index", ".timeindex", ".sums"):
        store.files.rename(f"copy/{segment_name(0)}{suffix}", f"data/t-0/{segment_name(0)}{suffix}")
    store.open()
    assert readable(store.log) == {0, 1, 2, 6, 7, 8}
    store.store.close()
    flip(store, at[1] + 7, 0)  # 7 to 9 would be possible, too
    store.open()
    assert readable(store.log) <= {0, 1, 2}
