"""Small batches are gathered, and written together when a sync begins: what readers, checkpoints and a full disk see of it."""

import errno
import logging
from copy import deepcopy
from random import Random

import pytest

from headwater.broker.durability import Durability
from headwater.broker.occurrences import Occurrences
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, batches, build_batch, read_header
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.config import LogConfig
from headwater.storage.log import Log
from headwater.storage.store import GATHERED_BYTES_MAX, LogStore

CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=200)
JOURNAL_FILE_BYTES = 1 << 16


def topic_id(partition: int) -> bytes:
    return b"%d" % partition * 16


class Store:
    """A store with a few logs, each of which has a first batch."""

    def __init__(self, files: MemoryFiles | None = None, *, use_journal: bool = True) -> None:
        self.files = files or MemoryFiles()
        self.store = LogStore(
            self.files,
            "data",
            ManualClock(),
            SeededEntropy(),
            journal_file_bytes=JOURNAL_FILE_BYTES,
            use_journal=use_journal,
        )
        self.store.recover(lambda topic_id, partition: ("t", CONFIG))
        self.durability = Durability(
            self.store, Occurrences(), logs_grew=lambda logs: None, checkpoint_taken=lambda: None
        )

    def log(self, partition: int = 0) -> Log:
        return self.store.open_log("t", topic_id(partition), partition, CONFIG)

    def begin(self, partitions: int = 1) -> "Store":
        """Appends the first batches, so that the next ones can be gathered."""
        for partition in range(partitions):
            self.append(partition)
        self.durability.flush()
        return self

    def append(self, partition: int = 0, size: int = 100) -> SyncNumber:
        batch = build_batch([Record(None, bytes(size), (), 1)])
        return self.store.append(self.log(partition), batch, read_header(batch))[1]

    def gather(self, partition: int = 0, size: int = 100) -> SyncNumber:
        batch = build_batch([Record(None, bytes(size), (), 1)])
        return self.store.gather(self.log(partition), batch, read_header(batch))[1]

    def offsets(self, partition: int = 0) -> list[int]:
        """The base offsets that readers see."""
        log = self.log(partition)
        found: list[int] = []
        while (offset := found[-1] + 1 if found else 0) < log.high_watermark:
            found += [header.base_offset for header, _ in batches(log.read(offset, 10_000, at_least_one=True))]
        return found

    def file_bytes(self, partition: int = 0) -> int:
        """How much is in the file of the last segment."""
        return len(read_file(self.files, self.log(partition).segments[-1].path + ".log"))

    def is_written(self, partition: int = 0) -> bool:
        return self.file_bytes(partition) == self.log(partition).segments[-1].size


def test_a_small_batch_is_written_when_the_next_sync_begins() -> None:
    store = Store().begin()
    sync = store.gather()
    store.gather()
    assert sync != NO_SYNC
    assert not store.is_written()
    assert store.offsets() == [0]
    assert store.log().end_offset == 3
    store.durability.after_event()
    assert store.is_written()
    assert store.offsets() == [0, 1, 2]
    assert not store.store.gathering.files


def test_what_was_gathered_is_written_before_the_journal() -> None:
    """So whatever is read from the journal, by a backup for example, is in the logs' files too."""
    written: list[str] = []

    def note(call: str, path: str) -> int | None:
        if call == "write":
            written.append(path)
        return None

    store = Store(MemoryFiles(fault=note)).begin()
    store.gather()
    written.clear()
    store.durability.after_event()
    assert [path.rpartition(".")[2] for path in written] == ["log", "journal"]


def test_batches_of_several_logs_become_durable_together() -> None:
    store = Store().begin(3)
    syncs = {store.gather(partition) for partition in (0, 1, 2, 1)}
    assert len(syncs) == 1
    store.durability.after_event()
    assert [store.offsets(partition) for partition in range(3)] == [[0, 1], [0, 1, 2], [0, 1]]


@pytest.mark.parametrize("what", ["first batch", "large batch", "no journal", "full segment"])
def test_what_needs_more_is_written_at_once(what: str) -> None:
    store = Store(use_journal=what != "no journal")
    if what != "first batch":
        store.begin()
    if what == "full segment":
        while store.log().segments[-1].size + 170 <= CONFIG.segment_bytes:
            store.append()
    store.gather(size=GATHERED_BYTES_MAX if what == "large batch" else 100)
    assert store.is_written()
    assert not store.store.gathering.files
    store.durability.flush()
    assert store.offsets() == list(range(store.log().end_offset))


def test_a_batch_that_is_written_at_once_comes_after_those_that_were_gathered() -> None:
    store = Store().begin()
    store.gather()
    store.append()
    assert store.is_written()
    store.gather()
    store.durability.after_event()
    assert store.offsets() == [0, 1, 2, 3]
    store.store.abandon()
    assert Store(store.files).offsets() == [0, 1, 2, 3]


def test_a_producer_that_sends_a_gathered_batch_again_is_recognized() -> None:
    store = Store().begin()
    batch = build_batch([Record(None, b"1", (), 1)], producer_id=7, producer_epoch=0, base_sequence=0)
    store.store.gather(store.log(), batch, read_header(batch))
    found = store.log().producers.entries[7].batches[-1]
    assert (found.first_sequence, found.last_offset) == (0, 1)


def test_a_roll_writes_what_was_gathered() -> None:
    store = Store().begin()
    while len(store.log().segments) == 1:
        store.gather()
    first = store.log().segments[0]
    assert len(read_file(store.files, first.path + ".log")) == first.size
    store.durability.after_event()
    assert store.offsets() == list(range(store.log().end_offset))


def test_a_checkpoint_writes_what_was_gathered() -> None:
    store = Store().begin()
    store.gather()
    checkpoint = store.store.begin_checkpoint()
    assert store.is_written()
    checkpoint.run()
    store.store.finish_checkpoint(checkpoint)
    assert store.store.recovery_points[topic_id(0), 0] == 2


def test_what_follows_a_checkpoint_does_not_become_durable_with_the_sync_before_it() -> None:
    """The batches gathered before it wait for a sync of their own; the next append begins another journal file."""
    store = Store().begin()
    store.gather()
    store.store.checkpoint()
    store.append(size=JOURNAL_FILE_BYTES - 4200)
    sync = store.store.journal.take()
    assert sync is not None
    store.store.journal.write(sync)
    store.store.sync_done(sync)
    assert store.log().high_watermark == 2


def test_gathered_batches_of_a_deleted_topic_are_gone() -> None:
    store = Store().begin(2)
    store.gather()
    store.gather(1)
    store.store.delete_log("t", topic_id(0), 0)
    store.durability.after_event()
    assert store.offsets(1) == [0, 1]
    assert not store.files.exists("data/t-0")


# -- a full disk


def fill_disk(store: Store) -> None:
    store.files.free_bytes = 0


def test_on_a_full_disk_what_was_gathered_is_acknowledged_and_served(caplog: pytest.LogCaptureFixture) -> None:
    store = Store().begin()
    store.gather()
    fill_disk(store)
    for _ in range(2):
        store.gather()
    store.durability.after_event()
    assert store.offsets() == [0, 1, 2, 3]
    assert not store.is_written()
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "data/t-0: what waits in memory cannot be written now" in record.getMessage()


def test_on_a_full_disk_nothing_more_is_accepted_for_that_log() -> None:
    store = Store().begin()
    store.gather()
    fill_disk(store)
    store.durability.after_event()
    for append in (store.gather, store.append):
        with pytest.raises(OSError, match="No space left"):
            append()
    assert store.log().end_offset == 2
    store.files.free_bytes = 1 << 20
    store.gather()
    store.gather()
    store.durability.after_event()
    assert store.offsets() == [0, 1, 2, 3]
    assert store.is_written()


def test_after_a_crash_on_a_full_disk_the_journal_has_what_was_gathered() -> None:
    files = MemoryFiles(crashable=True)
    store = Store(files).begin()
    store.store.checkpoint()
    store.gather()
    fill_disk(store)
    store.durability.after_event()
    assert store.log().high_watermark == 2
    for seed in range(20):
        crashed = deepcopy(files)
        crashed.crash(Random(seed))
        crashed.free_bytes = 1 << 20
        assert Store(crashed).offsets() == [0, 1]


def test_on_a_full_disk_a_checkpoint_waits_until_there_is_room() -> None:
    store = Store().begin()
    store.gather()
    fill_disk(store)
    store.durability.after_event()
    store.durability.begin_checkpoint()
    shortages = [store.durability.shortage]
    assert not store.durability.is_failed
    assert store.store.recovery_points.get((topic_id(0), 0), 0) < 2
    store.files.free_bytes = 1 << 20
    store.durability.checkpoint_regularly()
    shortages.append(store.durability.shortage)
    assert [shortage is not None for shortage in shortages] == [True, False]
    assert store.store.recovery_points[topic_id(0), 0] == 2


def test_an_append_for_which_the_journal_has_no_blocks_is_refused_rather_than_what_was_gathered_is_lost() -> None:
    """Otherwise neither the journal nor the log could be written, and the broker would have to end."""
    store = Store().begin(2)
    store.gather()
    journal = store.store.journal
    size = journal.blocks_end - journal.bytes_in_file
    store.files.free_bytes = size + 200  # for this batch, but not for the other one and the next journal file as well
    with pytest.raises(OSError, match="No space left"):
        store.append(1, size=size)
    store.durability.after_event()
    assert not store.durability.is_failed
    assert store.offsets() == [0, 1]
    assert store.offsets(1) == [0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_where_even_blocks_on_disk_need_room_what_waits_is_written_when_there_is_some(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As on file systems that never overwrite."""
    faults: dict[str, int] = {}
    store = Store(MemoryFiles(fault=lambda call, path: faults.get(call))).begin()
    store.gather()
    faults["write"] = number
    for _ in range(3):
        store.durability.after_event()
    assert not store.durability.is_failed
    assert store.offsets() == [0]
    assert caplog.text.count("nothing is acknowledged until there is room") == 1
    with pytest.raises(OSError, match=r"No space left|quota"):
        store.gather()
    with pytest.raises(OSError, match=r"No space left|quota"):
        store.durability.flush()
    del faults["write"]
    store.gather()
    store.durability.after_event()
    assert store.offsets() == [0, 1, 2]
    assert store.store.journal.waiting_bytes == 0


def test_a_write_that_fails_otherwise_is_tried_again() -> None:
    faults: list[int] = []

    def fault(call: str, path: str) -> int | None:
        return faults.pop() if faults and call == "write" and path.endswith(".log") else None

    store = Store(MemoryFiles(fault=fault)).begin()
    store.gather()
    faults.append(errno.EIO)
    store.durability.after_event()
    assert not faults
    assert store.offsets() == [0, 1]
    store.append()
    store.durability.after_event()
    assert store.is_written()
    assert store.offsets() == [0, 1, 2]
