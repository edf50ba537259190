"""Checkpoints while the broker writes, and with faults."""

import errno
from random import Random
from typing import cast

import pytest

from headwater.effects.files import Files, SyncError, is_shortage
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch, read_header
from headwater.storage.config import LogConfig
from headwater.storage.log import Log
from tests.storage.test_log import TOPIC_ID, Store, filled
from tests.storage.times import offset_for_timestamp


class Fault:
    """Fails the named call on paths that end so."""

    def __init__(self, call: str, path_end: str, number: int) -> None:
        self.call, self.path_end, self.number = call, path_end, number
        self.hits = 0

    def __call__(self, call: str, path: str) -> int | None:
        if call != self.call or not path.endswith(self.path_end):
            return None
        self.hits += 1
        return self.number


def idempotent(store: Store, sequence: int) -> None:
    batch = build_batch([Record(None, b"v", (), 1)], producer_id=5, producer_epoch=0, base_sequence=sequence)
    store.store.append(store.log, batch, read_header(batch))
    store.flush()


def test_a_topic_that_is_deleted_while_a_checkpoint_runs() -> None:
    store = filled(8)
    idempotent(store, 0)
    checkpoint = store.store.begin_checkpoint()
    store.store.delete_log("t", TOPIC_ID, 0)
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    assert not store.files.exists("data/t-0")


def test_whose_a_log_is_reaches_the_disk_before_its_records() -> None:
    """Else a power cut leaves records of which nobody knows the topic: a deleted topic's would be taken for a stray."""
    store = filled(8)
    checkpoint = store.store.begin_checkpoint()
    paths = [path for path in checkpoint.paths if path.startswith("data/t-0/")]
    assert paths[0] == "data/t-0/partition.metadata"
    assert any(path.endswith(".log") for path in paths)


def test_no_aid_of_a_deleted_topic_lands_in_a_new_one_of_its_name() -> None:
    store = filled(8)
    idempotent(store, 0)
    end = store.log.end_offset
    checkpoint = store.store.begin_checkpoint()
    store.store.delete_log("t", TOPIC_ID, 0)
    store.log = store.store.open_log("t", b"u" * 16, 0, LogConfig())
    store.append()
    before = store.files.list_directory("data/t-0")
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    assert store.files.list_directory("data/t-0") == before
    assert f"{end:020d}.snapshot" not in before
    assert store.offsets() == [0]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("path_end", [".index", ".snapshot.checkpoint.tmp"])
def test_an_aid_that_cannot_be_written_is_left_out(
    number: int, path_end: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(8)
    idempotent(store, 0)
    fault = store.files.fault = Fault("open", path_end, number)
    store.store.checkpoint()
    assert fault.hits
    assert "could not be written" in caplog.text
    store.files.fault = None
    store.reopen(clean=False)
    assert store.offsets() == list(range(25))


@pytest.mark.parametrize("path_end", [".log", "-checkpoint.tmp"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_checkpoint_without_descriptors_is_undone_and_made_again(number: int, path_end: str) -> None:
    store = filled(8)
    store.files.fault = Fault("open", path_end, number)
    checkpoint = store.store.begin_checkpoint()
    with pytest.raises(OSError, match="open files") as caught:
        checkpoint.run()
    assert is_shortage(caught.value)
    store.store.undo_checkpoint(checkpoint)
    store.files.fault = None
    again = store.store.begin_checkpoint()
    assert set(checkpoint.paths) <= set(again.paths)  # nothing that was not synced is forgotten
    assert set(checkpoint.directories) <= set(again.directories)
    again.run()
    store.store.finish_checkpoint(again)
    assert store.log.recovery_point == store.log.end_offset


def test_an_undone_checkpoint_does_not_make_a_power_cut_lose_anything() -> None:
    """The journal is retired after the second checkpoint: only what that one synced is left."""
    for seed in range(10):
        store = filled(8, files=MemoryFiles(crashable=True))
        store.store.undo_checkpoint(store.store.begin_checkpoint())
        store.store.checkpoint()
        store.store.journal.retire_all()
        store.files.crash(Random(seed))
        store.open()
        assert store.offsets() == list(range(24)), seed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_sync_is_final_whatever_its_errno(number: int) -> None:
    store = filled(8)
    store.files.fault = Fault("sync", ".log", number)
    with pytest.raises(SyncError) as caught:
        store.store.checkpoint()
    assert not is_shortage(caught.value)


@pytest.mark.parametrize(
    ("call", "path_end"), [("sync", ".log"), ("sync_directory", "t-0"), ("rename", "-checkpoint.tmp")]
)
def test_nothing_vouches_for_a_segment_that_could_not_be_synced(call: str, path_end: str) -> None:
    store = filled(8)
    assert len(store.log.segments) > 1
    store.files.fault = fault = Fault(call, path_end, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        store.store.checkpoint()
    assert fault.hits
    assert [name for name in store.files.list_directory("data/t-0") if name.endswith(".sums")] == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("path_end", [".log", ".index", ".timeindex", ".snapshot.tmp"])
def test_a_roll_that_fails_refuses_the_batch_and_changes_nothing(number: int, path_end: str) -> None:
    store = filled(4)
    while not (last := store.log.segments[-1]).should_roll(400, store.log.end_offset, 0, store.config):
        store.append(1)
    end, count = store.log.end_offset, len(store.log.segments)
    store.files.fault = fault = Fault("open", path_end, number)
    for _ in range(3):
        with pytest.raises(OSError, match=r"open files|No space|Input/output"):
            store.append(3)
    assert fault.hits == 3
    assert (store.log.end_offset, len(store.log.segments)) == (end, count)
    assert store.offsets() == list(range(end))
    store.files.fault = None
    assert last.should_roll(400, end, 0, store.config)
    store.append(3)
    assert len(store.log.segments) == count + 1
    timestamps = [offset_for_timestamp(store.log, 1_700_000_000_000 + n * 1000).offset for n in range(4)]
    assert timestamps == [0, 3, 6, 9]
    for clean in (True, False):
        store.reopen(clean=clean)
        assert store.offsets() == list(range(end + 3))
        again = [offset_for_timestamp(store.log, 1_700_000_000_000 + n * 1000).offset for n in range(4)]
        assert again == timestamps


def test_a_full_disk_syncs_no_log_that_was_deleted_meanwhile() -> None:
    store = filled(2)
    batch = build_batch([Record(None, b"v", (), 1)])
    store.store.append(store.log, batch, read_header(batch))
    store.store.delete_log("t", TOPIC_ID, 0)
    store.files.fault = Fault("write", ".journal", errno.ENOSPC)
    store.flush()
    assert not store.store.journal.waiting_bytes


def test_a_roll_between_a_checkpoint_and_its_writes_leaves_whole_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(8)
    checkpoint = store.store.begin_checkpoint()  # it was handed the entries, and has written none of them yet
    sealed = store.log.segments[-1]
    store.log.roll()
    monkeypatch.setattr(store.log, "keep_indexes", refuse_to_build)
    store.log.ensure_index(sealed)
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    sealed.unload_indexes()
    store.log.ensure_index(sealed)


def refuse_to_build(segment: object) -> None:
    raise AssertionError("indexes were built again")


def test_a_roll_and_a_checkpoint_write_the_same_snapshot(caplog: pytest.LogCaptureFixture) -> None:
    store = filled(8)
    idempotent(store, 0)
    checkpoint = store.store.begin_checkpoint()
    checkpoint.files = cast(Files, Interrupted(store.files, store.log))
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    assert f"{store.log.end_offset:020d}.snapshot" in store.files.list_directory("data/t-0")
    assert caplog.text == ""


class Interrupted:
    """Files as a checkpoint's thread sees them: the log rolls before the thread renames its snapshot."""

    def __init__(self, files: MemoryFiles, log: Log) -> None:
        self.files, self.log = files, log
        self.is_due = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.files, name)

    def rename(self, source: str, target: str) -> None:
        if self.is_due and target.endswith(".snapshot"):
            self.is_due = False
            self.log.roll()
        self.files.rename(source, target)


@pytest.mark.parametrize(
    ("call", "path_end"), [("open", ".snapshot.tmp"), ("rename", ".snapshot.tmp"), ("open", ".log")]
)
def test_a_roll_that_fails_changes_nothing(call: str, path_end: str) -> None:
    store = filled(8)
    active = store.log.segments[-1]
    store.files.fault = Fault(call, path_end, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        store.log.roll()
    store.files.fault = None
    assert store.log.segments[-1] is active
    assert active.index_loaded
    store.append()
    store.log.roll()
    assert store.offsets() == list(range(store.log.end_offset))
