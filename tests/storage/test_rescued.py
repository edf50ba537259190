"""Batches of a damaged log that were saved from the journal: whole after a crash at any call, and each of them once."""

from random import Random

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch
from headwater.storage.errors import DamagedLogError
from headwater.storage.journal_entries import JournalEntry
from headwater.storage.rescued import RescuedBatches

TOPIC_ID = bytes(range(16))
KEY = TOPIC_ID, 0


class PowerCutError(Exception):
    """The power is gone in the middle of a call."""


def entry(offset: int) -> JournalEntry:
    return JournalEntry(TOPIC_ID, 0, offset, memoryview(build_batch([Record(None, b"%d" % offset, (), 1)])))


def offsets(files: MemoryFiles) -> list[int]:
    return [found.base_offset for found in RescuedBatches(files, "journal").entries(KEY)]


def disk() -> MemoryFiles:
    files = MemoryFiles(crashable=True)
    files.make_directory("journal")
    files.sync_directory("")
    return files


def keep(files: MemoryFiles, *kept: int) -> None:
    RescuedBatches(files, "journal").keep([entry(offset) for offset in kept])


@pytest.mark.parametrize("earlier", [(), (1, 2)])
@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_at_any_call_leaves_all_of_them_or_those_of_the_start_before(
    earlier: tuple[int, ...], seed: int
) -> None:
    calls = 0
    while True:
        files = disk()
        if earlier:
            keep(files, *earlier)
        left = calls

        def cut(call: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise PowerCutError
            left -= 1

        files.fault = cut
        try:
            keep(files, 3, 4, 5)
        except PowerCutError:
            files.fault = None
            files.crash(Random(seed))
            assert offsets(files) in ([*earlier], [*earlier, 3, 4, 5])
            calls += 1
        else:
            break
    assert calls > 3
    files.fault = None
    files.crash(Random(seed))
    assert offsets(files) == [*earlier, 3, 4, 5]


def test_what_an_earlier_start_kept_is_not_kept_twice() -> None:
    """The journal has it until the next checkpoint, and the log may be damaged at two starts before that."""
    files = disk()
    keep(files, 1, 2)
    keep(files, 1, 2, 3)
    assert offsets(files) == [1, 2, 3]


def test_damage_is_named() -> None:
    files = disk()
    keep(files, 1, 2)
    path = RescuedBatches(files, "journal").path(KEY)
    file = files.open(path)
    file.write([b"\xff"], file.size() - 1)
    with pytest.raises(DamagedLogError, match="acknowledged batches from offset 1 on"):
        offsets(files)
