"""A start: what it makes visible is on disk."""

import errno
from copy import deepcopy
from random import Random

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch, read_header
from tests.broker.harness import Harness, HeldDisk
from tests.storage.test_log import Store


@pytest.mark.parametrize("seed", range(10))
def test_batches_that_a_start_finds_outside_the_journal_are_synced_before_they_are_seen(seed: int) -> None:
    """M12: they were never acknowledged, but from now on readers see them: a power cut must not take them back."""
    store = Store(files=MemoryFiles(crashable=True))
    store.append(2)
    for n in range(3):  # written, and the broker ends before their group is
        batch = build_batch([Record(None, b"%d" % n, (), 1)])
        store.store.append(store.log, batch, read_header(batch))
    store.reopen(clean=False)
    assert store.offsets() == [0, 1, 2, 3, 4]
    store.files.crash(Random(seed))
    store.open()
    assert store.offsets() == [0, 1, 2, 3, 4]


def test_batches_that_a_start_finds_outside_the_journal_outlive_damage_to_their_log() -> None:
    """From now on readers see them, as they see what was acknowledged: so they are on disk twice until a checkpoint."""
    store = Store()
    store.append(2)
    for n in range(3):
        batch = build_batch([Record(None, b"%d" % n, (), 1)])
        store.store.append(store.log, batch, read_header(batch))
    store.reopen(clean=False)
    file = store.files.open(store.log.segments[0].path + ".log")
    position = file.size() - 5
    file.write([bytes([file.read(1, position)[0] ^ 1])], position)
    store.reopen(clean=False)
    assert store.offsets() == [0, 1, 2, 3, 4]


def test_where_the_journal_has_no_room_for_them_their_log_is_synced() -> None:
    store = Store(files=MemoryFiles(crashable=True))
    store.append(2)
    for n in range(3):
        batch = build_batch([Record(None, b"%d" % n, (), 1)])
        store.store.append(store.log, batch, read_header(batch))
    store.store.abandon()
    writes = 0

    def full(call: str, path: str) -> int | None:
        nonlocal writes
        writes += call == "write" and path.endswith(".journal")
        return errno.ENOSPC if call == "write" and path.endswith(".journal") and writes > 2 else None

    store.files.fault = full
    store.open()
    store.files.fault = None
    assert writes > 2
    for seed in range(20):
        files = deepcopy(store.files)
        files.crash(Random(seed))
        assert Store(files=files).offsets() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(20))
def test_what_a_killed_broker_left_in_the_page_cache_survives_a_power_cut_after_the_next_start(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its sync; the next start shows the batch and appends after it; then the power goes."""
    monkeypatch.setattr(HeldDisk, "run_checkpoint", lambda self, checkpoint: None)  # its thread is slow
    broker = Harness(MemoryFiles(crashable=True))
    broker.create_topic("t")
    broker.hold_syncs = True
    broker.produce_batch("t", build_batch([Record(b"k", b"first", (), 0)]))
    broker.begin_sync()
    broker.kill()
    assert [record.value for record in broker.read_all("t")] == [b"first"]
    broker.hold_syncs = False
    assert broker.produce("t", b"second").error_code == 0
    broker.core.store.abandon()
    broker.files.crash(Random(seed))
    broker.core = broker.open()
    assert [record.value for record in broker.read_all("t")] == [b"first", b"second"]
