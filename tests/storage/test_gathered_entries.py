"""Batches that were gathered are one entry of the journal: what is read back of it, past damage, and what never is."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import patch_place
from headwater.storage.journal import PART_BYTES_MAX, Journal
from headwater.storage.journal_entries import (
    FILE_HEADER_BYTES,
    GATHERED_ENTRY,
    GATHERED_MAGIC,
    MARK_BYTES,
    JournalEntry,
)
from tests.storage.test_journal import FILE_BYTES, TOPIC_ID, batch, flip, read


class GatheringLog:
    """A log, as the journal sees it."""

    def __init__(self, topic_id: bytes = TOPIC_ID, first: int = 0) -> None:
        self.topic_id, self.partition, self.end_offset, self.leader_epoch = topic_id, 0, first, 3

    def mark(self) -> object:
        return self.end_offset

    def gather(self, journal: Journal, count: int = 1, size: int = 0) -> None:
        for _ in range(count):
            placed = batch(self.end_offset, size)
            patch_place(placed, 0, self.end_offset, len(placed) - 12, self.leader_epoch)
            self.end_offset += 1
            journal.gather(self, self.end_offset - 1, placed)


def new_journal(files: MemoryFiles) -> Journal:
    journal = Journal(files, "journal", FILE_BYTES, 7)
    journal.start()
    return journal


def write_waiting(journal: Journal) -> dict[object, object]:
    """Writes the next sync; returns its marks."""
    group = journal.take()
    assert group is not None
    journal.sync(journal.write(group))
    journal.synced(group)
    return group.marks


def gathered(groups: list[int]) -> MemoryFiles:
    files = MemoryFiles()
    journal, log = new_journal(files), GatheringLog()
    for count in groups:
        log.gather(journal, count)
        write_waiting(journal)
    return files


GATHERED_BYTES = len(batch(1))


def test_gathered_batches_are_read_one_by_one() -> None:
    assert read(gathered([1, 3, 2])) == ([0, 1, 2, 3, 4, 5], [])
    items = list(Journal(gathered([3]), "journal", FILE_BYTES, 9).recover())
    assert [bytes(item.batch[61:]) for item in items if isinstance(item, JournalEntry)] == [
        bytes(batch(n)[61:]) for n in range(3)
    ]


def test_gathered_batches_of_several_logs_are_an_entry_each_and_give_their_marks() -> None:
    files = MemoryFiles()
    journal, even, odd = new_journal(files), GatheringLog(b"even topic's id."), GatheringLog(b"odd topic's id..", 10)
    for _ in range(3):
        even.gather(journal)
        odd.gather(journal)
    assert write_waiting(journal) == {even: 3, odd: 13}
    assert journal.waiting_bytes == 0
    assert journal.bytes_in_file == journal.files[0].position
    items = [item for item in Journal(files, "journal", FILE_BYTES, 9).recover() if isinstance(item, JournalEntry)]
    assert [(item.topic_id[:3], item.base_offset) for item in items] == [
        *((b"eve", n) for n in range(3)),
        *((b"odd", n) for n in range(10, 13)),
    ]


def test_what_is_appended_comes_after_what_was_gathered_before_it() -> None:
    files = MemoryFiles()
    journal, log = new_journal(files), GatheringLog()
    log.gather(journal, 2)
    assert journal.newest_sync == 1
    journal.append("other", 0, b"o" * 16, 0, 100, batch(100))
    log.gather(journal, 2)
    write_waiting(journal)
    assert read(files) == ([0, 1, 100, 2, 3], [])


def test_a_very_long_entry_is_divided() -> None:
    files = MemoryFiles()
    journal, log = Journal(files, "journal", 8 << 20, 7), GatheringLog()
    journal.start()
    log.gather(journal, 3, size=PART_BYTES_MAX // 2 + 1)
    log.gather(journal, 1)
    write_waiting(journal)
    assert read(files) == ([0, 1, 2, 3], [])
    assert read_file(files, "journal/0.journal").count(GATHERED_MAGIC.to_bytes(4, "big")) == 2


def test_there_are_blocks_only_in_the_file_that_the_next_sync_goes_to() -> None:
    files = MemoryFiles()
    journal = new_journal(files)
    room = FILE_BYTES - FILE_HEADER_BYTES - MARK_BYTES - GATHERED_ENTRY.size
    assert journal.has_blocks_for(room)
    assert not journal.has_blocks_for(room + 1)
    journal.append("log", 0, TOPIC_ID, 0, 0, batch(0, 40_000))
    journal.append("log", 1, TOPIC_ID, 0, 1, batch(1, 40_000))  # in the other file
    assert not journal.has_blocks_for(1)
    write_waiting(journal)
    assert not journal.has_blocks_for(1)
    write_waiting(journal)
    assert journal.has_blocks_for(1)


def test_blocks_that_are_not_on_disk_yet_do_not_count() -> None:
    journal = Journal(MemoryFiles(), "journal", 8 << 20, 7)
    journal.start()
    assert journal.has_blocks_for((1 << 20) - 10_000)
    assert not journal.has_blocks_for(1 << 20)


def test_one_flipped_bit_costs_one_gathered_batch_and_is_reported() -> None:
    """Except in an entry's header and in the fields that say where the next batch is: then all of the entry is damage."""
    files = gathered([3, 2, 1])
    entry_at = FILE_HEADER_BYTES + MARK_BYTES
    for position in range(entry_at, entry_at + GATHERED_ENTRY.size + 3 * GATHERED_BYTES):
        flip(files, position)
        offsets, damages = read(files)
        flip(files, position)
        (damage,) = damages
        assert damage.position <= position < damage.position + damage.size_bytes
        assert offsets[-3:] == [3, 4, 5], position
        at = position - entry_at - GATHERED_ENTRY.size
        if at < 0:
            assert offsets == [3, 4, 5]
            continue
        assert set(offsets) | set(range(damage.base_offset, damage.end_offset)) == set(range(6)), position
        if at % GATHERED_BYTES >= 61 or 17 <= at % GATHERED_BYTES < 21:  # in the records, or in the CRC
            assert len(offsets) == 5, position


def test_an_old_batch_after_the_header_of_gathered_ones_is_not_taken() -> None:
    """As a power cut in the middle of a write leaves it: the last sync was not on disk, so nothing is reported."""
    files = gathered([1, 3])
    at = FILE_HEADER_BYTES + 2 * MARK_BYTES + 2 * GATHERED_ENTRY.size + 2 * GATHERED_BYTES
    old = batch(7)
    patch_place(old, 0, 2, len(old) - 12, 3)
    files.open("journal/0.journal").write([old], at)
    offsets, damages = read(files)
    assert offsets == [0]
    assert damages == []


def test_gathered_batches_that_are_cut_off_were_not_acknowledged() -> None:
    files = gathered([2, 3])
    end = FILE_HEADER_BYTES + 2 * MARK_BYTES + 2 * GATHERED_ENTRY.size + 5 * GATHERED_BYTES
    for size in reversed(range(FILE_HEADER_BYTES, end)):
        files.open("journal/0.journal").truncate(size)
        offsets, damages = read(files)
        assert offsets in ([], [0, 1])
        assert damages == []


@given(groups=st.lists(st.integers(1, 4), min_size=2, max_size=5), random=st.randoms(use_true_random=False))
def test_damage_among_gathered_batches_is_named_and_makes_nothing_up(groups: list[int], random: Random) -> None:
    files, total = gathered([*groups, 1]), sum(groups)
    size = sum(MARK_BYTES + GATHERED_ENTRY.size + count * GATHERED_BYTES for count in groups)
    for _ in range(random.randint(1, 3)):
        flip(files, FILE_HEADER_BYTES + random.randrange(size), 1 << random.randrange(8))
    offsets, damages = read(files)
    assert offsets == sorted(set(offsets))
    assert set(offsets) <= set(range(total + 1))
    known = {offset for each in damages if each.topic_id for offset in range(each.base_offset, each.end_offset)}
    nameless = any(each.topic_id is None for each in damages)
    assert nameless or set(offsets) | known >= set(range(total))
