"""After a failed sync the page cache shows what is not on disk, and the next sync succeeds: as on Linux."""

import errno
from random import Random
from typing import TYPE_CHECKING, TypeVar

import pytest

from headwater.effects.files import SyncError
from headwater.effects.memory_files import Inode, MemoryFiles
from headwater.storage.failed_syncs import FILE_NAME, FailedSyncs
from tests.broker.harness import Harness
from tests.storage.test_checkpoint import Fault
from tests.storage.test_log import Store

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

Choice = TypeVar("Choice")


class AllLost(Random):
    """A power cut of which nothing is spared that was not synced."""

    def choice(self, seq: "SupportsLenAndGetItem[Choice]") -> Choice:
        return seq[0]  # of the shares that are kept: none

    def randint(self, a: int, b: int) -> int:
        return 0


def crashable_store() -> Store:
    store = Store(files=MemoryFiles(crashable=True))
    for _ in range(12):
        store.append(3)
    store.store.checkpoint()
    for _ in range(12):
        store.append(3)
    return store


def test_the_model_gives_up_what_could_not_be_synced() -> None:
    files = MemoryFiles(crashable=True)
    file = files.open("a", create=True)
    files.sync_directory("/")
    file.write([b"old"], 0)
    file.sync()
    file.write([b"new"], 0)
    files.fault = Fault("sync", "a", errno.EIO)
    with pytest.raises(SyncError):
        file.sync()
    files.fault = None
    file.write([b"!"], 3)
    file.sync()
    assert file.read(9, 0) == b"new!"
    files.crash(AllLost())
    assert files.open("a").read(9, 0) == b"old!"
    again = files.open("a")
    again.write([b"new"], 0)
    again.sync()
    files.crash(AllLost())
    assert files.open("a").read(9, 0) == b"new!"


@pytest.mark.parametrize("power_cut_at_once", [False, True])
def test_a_log_whose_sync_failed_is_written_again(power_cut_at_once: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The example of the module's docstring."""
    store = crashable_store()
    store.files.fault = Fault("sync", ".log", errno.EIO)
    with pytest.raises(SyncError):
        store.store.checkpoint()
    store.files.fault = None
    if power_cut_at_once:
        store.files.crash(AllLost())
    store.reopen(clean=False)
    assert ("a sync had failed" in caplog.text) is not power_cut_at_once
    store.append(3)
    store.store.checkpoint()
    store.reopen()
    store.files.crash(AllLost())
    store.open()
    assert store.offsets() == list(range(75))
    assert not store.store.failed_syncs.happened


def test_the_leader_epochs_whose_sync_failed_are_written_again() -> None:
    """Without them sound records are taken for damaged: their epoch is not the one that the log has for the offset."""
    store = crashable_store()
    store.log.leader_epoch = 1
    store.files.fault = Fault("sync", "leader-epoch-checkpoint.copy", errno.EIO)
    store.append(3)
    with pytest.raises(SyncError):
        store.store.checkpoint()
    store.files.fault = None
    store.reopen(clean=False)
    copy = store.files.entry("data/t-0/leader-epoch-checkpoint.copy")
    assert isinstance(copy, Inode)
    assert b"1 72" in copy.durable


def test_a_start_whose_own_sync_fails_is_no_better_than_one_before() -> None:
    store = crashable_store()
    store.files.fault = Fault("sync", ".log", errno.EIO)
    with pytest.raises(SyncError):
        store.store.checkpoint()
    store.store.abandon()
    for _ in range(2):
        with pytest.raises(SyncError):
            store.open()
        store.files.locks.clear()
    store.files.fault = None
    store.open()
    store.store.checkpoint()
    store.files.crash(AllLost())
    store.open()
    assert store.offsets() == list(range(72))


def test_what_a_journal_has_that_could_not_be_synced_is_synced_before_it_is_seen() -> None:
    broker = Harness(MemoryFiles(crashable=True))
    broker.create_topic("t")
    broker.core.store.checkpoint()
    broker.files.fault = Fault("sync", ".journal", errno.EIO)
    with pytest.raises(SyncError):
        broker.produce("t", b"not acknowledged")
    broker.files.fault = None
    broker.kill()
    assert [record.value for record in broker.read_all("t")] == [b"not acknowledged"]
    broker.files.crash(AllLost())
    broker.core = broker.open()
    assert [record.value for record in broker.read_all("t")] == [b"not acknowledged"]


def test_a_log_that_is_opened_later_and_cannot_be_synced_ends_the_broker() -> None:
    broker = Harness(pairs={"headwater.durability": "page-cache"})
    broker.create_topic("t")
    broker.core.store.checkpoint()
    broker.produce("t", b"1")
    broker.kill()
    broker.files.fault = Fault("sync", "t-0/00000000000000000000.log", errno.EIO)
    with pytest.raises(SyncError):
        broker.fetch("t")
    assert broker.core.is_failed
    assert broker.core.store.failed_syncs.happened


def test_a_note_that_a_power_cut_has_emptied_says_no() -> None:
    files = MemoryFiles()
    for content in (b"", b"1", b"\0\0", b"?\n"):
        entry = files.open(FILE_NAME, create=True)
        entry.truncate(0)
        entry.write([content], 0)
        assert not FailedSyncs(files, "").happened
        assert isinstance(inode := files.entry(FILE_NAME), Inode)
        assert inode.content[:2] == b"0\n"


def test_a_failure_that_cannot_be_noted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    files = MemoryFiles()
    failed = FailedSyncs(files, "")
    files.fault = Fault("write", FILE_NAME, errno.EROFS)
    failed.note()
    assert failed.happened
    assert "Reboot the machine" in caplog.text
