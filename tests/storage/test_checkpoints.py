"""The small text files: a damaged line costs itself only, the copy has it, and what nobody knows is not taken as zero."""

import logging

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.storage.checkpoints import (
    COPY_SUFFIX,
    LOG_STARTS,
    RECOVERY_POINTS,
    Offsets,
    lines_content,
    meta_content,
    read_meta_file,
    read_offsets,
    uuid_text,
    write_meta,
    write_offsets,
)
from headwater.storage.errors import FormatError
from headwater.storage.store import LogStore
from tests.storage.test_log import TOPIC_ID, Store, filled

PATH = "d/offsets"
OFFSETS = {(bytes([n]) * 16, n): 1000 * n for n in range(1, 6)}
KEYS = list(OFFSETS)


def written() -> MemoryFiles:
    files = MemoryFiles()
    files.make_directory("d")
    write_offsets(files, PATH, OFFSETS)
    return files


def content(files: MemoryFiles, path: str) -> bytes:
    return files.open(path).read(1 << 20, 0)


def put(files: MemoryFiles, path: str, data: bytes) -> None:
    file = files.open(path, create=True)
    file.truncate(0)
    file.write([data], 0)


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR)


def test_offsets_come_back() -> None:
    assert read_offsets(written(), PATH) == Offsets(OFFSETS, True)


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_no_flipped_bit_changes_what_is_read(bit: int, caplog: pytest.LogCaptureFixture) -> None:
    whole = content(written(), PATH)
    for position in range(len(whole)):
        files = written()
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        put(files, PATH, bytes(damaged))
        caplog.clear()
        assert read_offsets(files, PATH) == Offsets(OFFSETS, True), position
        assert PATH in errors(caplog), position
        files.remove(PATH + COPY_SUFFIX)
        alone = read_offsets(files, PATH)
        assert not alone.is_whole
        assert alone.offsets.items() <= OFFSETS.items(), position
        assert len(alone.offsets) >= len(OFFSETS) - 2 or position < 4


def test_no_cut_changes_what_is_read() -> None:
    whole = content(written(), PATH)
    for size in range(len(whole) - 1):
        files = written()
        put(files, PATH, whole[:size])
        assert read_offsets(files, PATH) == Offsets(OFFSETS, True), size
        put(files, PATH + COPY_SUFFIX, whole[:size])
        both = read_offsets(files, PATH)
        assert not both.is_whole, size
        assert both.offsets.items() <= OFFSETS.items(), size


def test_a_lost_file_is_taken_from_its_copy_and_said(caplog: pytest.LogCaptureFixture) -> None:
    files = written()
    files.remove(PATH)
    assert read_offsets(files, PATH) == Offsets(OFFSETS, True)
    assert f"{PATH} is damaged: it is missing" in errors(caplog)
    files.remove(PATH + COPY_SUFFIX)
    assert read_offsets(files, PATH) == Offsets({}, False)


def test_two_damaged_files_give_what_is_sound_in_either() -> None:
    files = written()
    lines = content(files, PATH).split(b"\n")
    put(files, PATH, b"\n".join([*lines[:2], b"?", *lines[3:]]))
    put(files, PATH + COPY_SUFFIX, b"\n".join([*lines[:3], b"?", *lines[4:]]))
    found = read_offsets(files, PATH)
    assert found == Offsets(OFFSETS, False)
    put(files, PATH + COPY_SUFFIX, b"\n".join([*lines[:2], b"?", *lines[3:]]))
    assert read_offsets(files, PATH) == Offsets({key: OFFSETS[key] for key in KEYS[1:]}, False)


def test_files_of_earlier_versions_are_read() -> None:
    files = written()
    lines = [f"{uuid_text(topic_id)} {partition} {offset}" for (topic_id, partition), offset in OFFSETS.items()]
    put(files, PATH, lines_content(lines))
    assert read_offsets(files, PATH) == Offsets(OFFSETS, True)


def with_deleted_records() -> Store:
    store = filled()
    store.store.advance_start({store.log: 50})
    store.store.close()
    return store


@pytest.mark.parametrize("damage", [b"", b"garbage\n", b"\xff\xfe"])
def test_deleted_records_do_not_come_back_with_a_damaged_log_start(
    damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = with_deleted_records()
    put(store.files, f"data/{LOG_STARTS}", damage)
    store.open()
    assert store.log.start_offset == 50
    assert LOG_STARTS in errors(caplog)


def test_a_log_start_that_nobody_knows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    store = with_deleted_records()
    for suffix in ("", COPY_SUFFIX):
        put(store.files, f"data/{LOG_STARTS}{suffix}", b"garbage")
    store.open()
    assert "data/t-0: its log start offset is lost" in errors(caplog)
    assert store.log.start_offset == store.log.base_offsets[0]
    store.store.advance_start({store.log: 60})
    store.reopen()
    assert store.log.start_offset == 60


def test_meta_properties_with_one_other_letter_are_damaged() -> None:
    files, whole = MemoryFiles(), meta_content({"cluster.id": "abc", "directory.id": "def"})
    for text, reason in ((whole, ""), (whole.replace(b"abc", b"abd"), "damaged (its checksum does not match)")):
        file = files.open("meta.properties", create=True)
        file.truncate(0)
        file.write([text], 0)
        assert read_meta_file(files, "meta.properties")[1] == reason


def test_a_lost_recovery_point_file_is_not_a_new_directorys() -> None:
    store = filled(1)
    store.store.close()
    for suffix in ("", COPY_SUFFIX):
        store.files.remove(f"data/{RECOVERY_POINTS}{suffix}")
    store.open()
    assert not store.store.points_are_known
    store.reopen()
    assert (store.store.points_are_known, store.store.recovery_points) == (True, {(TOPIC_ID, 0): 3})


def test_a_new_directory_knows_its_points() -> None:
    store = Store()
    assert store.store.points_are_known
    assert store.store.starts_are_known
    store.reopen(clean=False)  # killed before the first checkpoint
    assert store.store.points_are_known
    assert store.store.starts_are_known


def test_a_directory_of_an_earlier_version_without_log_starts_knows_them() -> None:
    store = filled(1)
    store.store.close()
    lines = [f"{uuid_text(TOPIC_ID)} 0 3"]
    put(store.files, f"data/{RECOVERY_POINTS}", lines_content(lines))
    for name in (LOG_STARTS, LOG_STARTS + COPY_SUFFIX, RECOVERY_POINTS + COPY_SUFFIX):
        store.files.remove(f"data/{name}")
    meta = {"version": "1", "cluster.id": "c", "node.id": "1", "directory.id": "d", "headwater.format": "1"}
    write_meta(store.files, "data", meta)
    store.open()
    assert store.store.starts_are_known


@pytest.mark.parametrize("lacking", ["cluster.id", "directory.id"])
@pytest.mark.parametrize("value", [None, ""])
def test_meta_properties_without_an_id_are_named(lacking: str, value: str | None) -> None:
    files = MemoryFiles()
    files.make_directory("data")
    pairs = {"version": "1", "cluster.id": "c", "directory.id": "d", "headwater.format": "1", lacking: value}
    put(files, "data/meta.properties", "".join(f"{k}={v}\n" for k, v in pairs.items() if v is not None).encode())
    with pytest.raises(FormatError, match=rf"data/meta.properties is damaged: it has no {lacking}"):
        LogStore(files, "data", ManualClock(), SeededEntropy())
