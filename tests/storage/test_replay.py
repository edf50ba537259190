"""A start: what it makes visible is on disk."""

from random import Random

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch, read_header
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
