"""The journal's files: what is read back, past damage, and what never is."""

from copy import deepcopy
from random import Random

import pytest
from crc32c import crc32c

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch
from headwater.storage.journal import Journal
from headwater.storage.journal_entries import (
    EARLIER_ENTRY,
    EARLIER_ENTRY_MAGIC,
    ENTRY,
    FILE_HEADER_BYTES,
    GENERATION_AT,
    MARK_BYTES,
    JournalDamage,
    JournalEntry,
)
from headwater.storage.journal_file import EARLIEST_MAGIC, FILE_HEADER, MARKED_MAGIC

TOPIC_ID = b"t" * 16
FILE_BYTES = 1 << 16


def batch(n: int, size: int = 0) -> bytearray:
    return build_batch([Record(None, b"%d" % n + bytes(size), (), 1)])


ENTRY_BYTES = ENTRY.size + len(batch(1))


def written(
    groups: list[int], files: MemoryFiles | None = None, *, nonce: int = 7, first: int = 0, size: int = 0
) -> MemoryFiles:
    """A journal of one life, with groups of so many entries, each on disk before the next."""
    files = files or MemoryFiles()
    journal = Journal(files, "journal", FILE_BYTES, nonce)
    list(journal.recover())
    journal.start()
    offset = first
    for count in groups:
        for _ in range(count):
            journal.append("log", offset, TOPIC_ID, 0, offset, batch(offset, size))
            offset += 1
        while (group := journal.take()) is not None:
            journal.sync(journal.write(group))
            journal.synced(group)
    journal.close()
    return files


def read(files: MemoryFiles) -> tuple[list[int], list[JournalDamage]]:
    """The base offsets of what is read back, and the damage."""
    items = list(Journal(files, "journal", FILE_BYTES, 9).recover())
    entries = [item for item in items if isinstance(item, JournalEntry)]
    return [entry.base_offset for entry in entries], [item for item in items if isinstance(item, JournalDamage)]


def flip(files: MemoryFiles, position: int, bit: int = 1, path: str = "journal/0.journal") -> None:
    file = files.open(path)
    file.write([bytes([file.read(1, position)[0] ^ bit])], position)


def test_what_was_written_is_read() -> None:
    assert read(written([1, 3, 2])) == ([0, 1, 2, 3, 4, 5], [])


def test_one_flipped_bit_costs_one_batch_and_is_reported() -> None:
    """In every byte of all groups but the last one, which nothing proves to have been on disk."""
    files = written([1, 3, 2])
    last_group = FILE_HEADER_BYTES + 2 * MARK_BYTES + 4 * ENTRY_BYTES
    for position in range(FILE_HEADER_BYTES, last_group):
        flip(files, position)
        offsets, damages = read(files)
        flip(files, position)
        at, group_at = position - FILE_HEADER_BYTES, MARK_BYTES + ENTRY_BYTES
        in_mark = at < MARK_BYTES or group_at <= at < group_at + MARK_BYTES
        at_entry = (at - MARK_BYTES * (1 if at < group_at else 2)) % ENTRY_BYTES - ENTRY.size
        in_batch = not in_mark and at_entry >= 0
        assert len(offsets) == (6 if in_mark else 5), position
        (damage,) = damages
        assert damage.position <= position < damage.position + damage.size_bytes
        if in_batch:  # its header says whose it was
            assert (damage.topic_id, damage.partition) == (TOPIC_ID, 0)
            assert set(offsets) | set(range(damage.base_offset, damage.end_offset)) == set(range(6))


def test_an_old_batch_after_a_new_header_is_not_taken() -> None:
    """A power cut in the middle of a write leaves it there, where an earlier use of the file had one of the same size."""
    files = written([1, 1])
    at = FILE_HEADER_BYTES + 2 * MARK_BYTES + ENTRY_BYTES + ENTRY.size
    assert len(batch(7)) == len(batch(1))
    files.open("journal/0.journal").write([batch(7)], at)
    assert read(files) == ([0], [])


def test_several_places() -> None:
    files = written([4, 1, 4, 1])
    at = FILE_HEADER_BYTES + MARK_BYTES
    flip(files, at + ENTRY_BYTES + 80)
    flip(files, at + 2 * ENTRY_BYTES + 3)
    flip(files, at + 4 * ENTRY_BYTES + MARK_BYTES + 10)
    offsets, damages = read(files)
    assert offsets == [0, 3, 5, 6, 7, 8, 9]
    assert len(damages) == 3


@pytest.mark.parametrize("kept", range(4))
def test_a_torn_tail_is_not_damage(kept: int) -> None:
    """Of the last group, which was not on disk, any entries may be there."""
    files = written([2, 3])
    for lost in range(3):
        if lost != kept:
            flip(files, FILE_HEADER_BYTES + 2 * MARK_BYTES + (2 + lost) * ENTRY_BYTES + 70)
    offsets, damages = read(files)
    assert offsets[:2] == [0, 1]
    assert damages == []


def test_a_cut_file() -> None:
    files = written([2, 3])
    end = FILE_HEADER_BYTES + 2 * MARK_BYTES + 5 * ENTRY_BYTES
    for size in range(FILE_HEADER_BYTES, end):
        files.open("journal/0.journal").truncate(size)
        offsets, damages = read(files)
        assert offsets == list(range(len(offsets)))
        assert damages == []
        files = written([2, 3])


@pytest.mark.parametrize("position", range(FILE_HEADER.size))
def test_a_damaged_header_is_reported_and_costs_nothing(position: int) -> None:
    files = written([1, 3, 2])
    flip(files, position)
    offsets, (damage,) = read(files)
    assert offsets == list(range(6))
    assert damage.position == 0


def test_a_file_that_the_same_broker_has_left_has_no_torn_tail() -> None:
    files = written([1] * 30, size=3000)  # continues in the other file
    assert read(files) == (list(range(30)), [])
    size = len(read_file(files, "journal/0.journal"))
    last = max(
        at
        for at in range(FILE_HEADER_BYTES, size)
        if read_file(files, "journal/0.journal")[at : at + 4] == b"\x48\x57\x4a\x46"
    )
    flip(files, last + 500)
    offsets, damages = read(files)
    assert len(offsets) == 29
    assert len(damages) == 1


def test_a_file_that_an_earlier_life_has_left_may_have_one() -> None:
    files = written([2, 2])
    flip(files, FILE_HEADER_BYTES + 2 * MARK_BYTES + 2 * ENTRY_BYTES + 70)
    written([1], files, nonce=8, first=10)
    offsets, damages = read(files)
    assert offsets == [0, 1, 10]
    assert damages == []


def test_a_file_that_is_needed_is_not_written_over() -> None:
    files = MemoryFiles()
    journal = Journal(files, "journal", FILE_BYTES, 7)
    journal.start()

    def write_what_waits() -> None:
        while (group := journal.take()) is not None:
            journal.sync(journal.write(group))
            journal.synced(group)

    for offset in range(8):  # three of them fill a file
        journal.append("log", offset, TOPIC_ID, 0, offset, batch(offset, 20_000))
        write_what_waits()
    assert journal.waiting_bytes
    assert read(files) == ([0, 1, 2, 3, 4, 5], [])
    for file in journal.full_files:
        file.erase()
    journal.release(journal.full_files)
    write_what_waits()
    assert not journal.waiting_bytes
    assert read(files) == ([3, 4, 5, 6, 7], [])


def test_entries_of_an_earlier_generation_are_never_read() -> None:
    """M11: a file is written over; beyond the new entries lie those of before, whole and sound."""
    files = written([1] * 6, first=200)  # as long as those that come over them: where these end another begins
    journal = Journal(files, "journal", FILE_BYTES, 7)
    journal.retire_all()
    journal.close()
    written([1] * 3, files, nonce=8, first=100)
    assert read(files) == ([100, 101, 102], [])
    flip(files, FILE_HEADER_BYTES + MARK_BYTES + 80)  # not after damage, either
    offsets, damages = read(files)
    assert offsets == [101, 102]
    assert len(damages) == 1


def test_a_file_of_a_version_without_marks() -> None:
    files = written([1])
    file = files.open("journal/0.journal")
    generation = int.from_bytes(file.read(8, 8), "big")
    head = EARLIEST_MAGIC + generation.to_bytes(8, "big")
    file.write([head + crc32c(head).to_bytes(4, "big")], 0)
    for n in range(5):
        tail = EARLIER_ENTRY.pack(0, 0, generation, len(batch(n)), 0, TOPIC_ID, n)[GENERATION_AT:]
        data = EARLIER_ENTRY_MAGIC.to_bytes(4, "big") + crc32c(tail).to_bytes(4, "big") + tail + bytes(batch(n))
        file.write([data], FILE_HEADER_BYTES + n * len(data))
    assert read(files) == (list(range(5)), [])
    flip(files, FILE_HEADER_BYTES + 2 * len(data) + 70)
    offsets, damages = read(files)
    assert offsets == [0, 1, 3, 4]
    assert len(damages) == 1


def test_random_damage_never_makes_up_an_entry() -> None:
    random = Random(5)
    for _ in range(200):
        files = written([2, 1, 3, 1])
        for _ in range(random.randint(1, 5)):
            position = random.randrange(FILE_HEADER_BYTES + 2 * MARK_BYTES + 9 * ENTRY_BYTES)
            flip(files, position, 1 << random.randrange(8))
        offsets, _ = read(files)
        assert offsets == sorted(set(offsets))
        assert set(offsets) <= set(range(7))


def killed_again_and_again(kills: int) -> tuple[MemoryFiles, list[int]]:
    """Each life writes a batch into the file that its start finds, and is killed; the sizes of the files in the end."""
    files = MemoryFiles()
    for life in range(kills):
        journal = Journal(files, "journal", FILE_BYTES, life)
        journal.start()
        journal.append("log", life, TOPIC_ID, 0, life, batch(life))
        group = journal.take()
        assert group is not None
        journal.sync(journal.write(group))
        journal.close()
    return files, [files.open(f"journal/{n}.journal").size() for n in range(4)]


def test_one_topics_entries_are_read_without_those_of_others() -> None:
    """Also where another's batch is damaged: that is found when all are read."""
    files = MemoryFiles()
    journal = Journal(files, "journal", FILE_BYTES, 7)
    journal.start()
    topics = [b"even topic's id.", b"odd topic's id.."]
    for offset in range(6):
        journal.append("log", offset, topics[offset % 2], 0, offset, batch(offset))
        group = journal.take()
        assert group is not None
        journal.write(group)
    flip(files, FILE_HEADER_BYTES + MARK_BYTES + 70)
    journal = Journal(files, "journal", FILE_BYTES, 8)

    def offsets(only: bytes | None) -> list[tuple[bool, int]]:
        return [(isinstance(item, JournalDamage), item.base_offset) for item in journal.recover(only)]

    assert offsets(topics[1]) == [(False, 1), (False, 3), (False, 5)]
    assert offsets(topics[0]) == [(True, 0), (False, 2), (False, 4)]
    assert offsets(None) == [(True, 0), *((False, n) for n in range(1, 6))]


def test_starts_continue_in_a_spare_file_until_there_is_none() -> None:
    for kills in (1, 2, 3, 4):
        files, sizes = killed_again_and_again(kills)
        assert [size > 0 for size in sizes] == [n < kills for n in range(4)]
        assert read(files) == (list(range(kills)), [])
    assert not Journal(files, "journal", FILE_BYTES, 9).has_free_file


def test_a_spare_file_gives_its_room_back_and_is_not_used_again() -> None:
    files, _ = killed_again_and_again(3)
    journal = Journal(files, "journal", FILE_BYTES, 9)
    journal.start()
    assert journal.current == 3
    assert len(journal.full_files) == 3
    assert journal.has_full_file
    for file in journal.full_files:
        file.erase()
    journal.release(journal.full_files)
    assert [files.open(f"journal/{n}.journal").size() > 0 for n in range(4)] == [True, True, False, True]
    for offset in range(20):
        journal.append("log", offset, TOPIC_ID, 0, offset, batch(offset, 20_000))
    group = journal.take()
    assert group is not None
    assert journal.write(group) == 3
    journal.synced(group)
    group = journal.take()
    assert group is not None
    assert journal.write(group) == 0


def write_one(journal: Journal, offset: int, *, is_synced: bool = True) -> None:
    journal.append("log", offset, TOPIC_ID, 0, offset, batch(offset, 20_000))
    group = journal.take()
    assert group is not None
    file = journal.write(group)
    if is_synced:
        journal.sync(file)
    journal.synced(group)


@pytest.mark.parametrize("is_at_start", [False, True])
def test_a_power_cut_in_a_file_that_is_used_again_is_not_damage(is_at_start: bool) -> None:
    """Whatever is left of the header and of the first group: the old header does not vouch for the new content."""
    for seed in range(60):
        files = MemoryFiles(crashable=True)
        journal = Journal(files, "journal", FILE_BYTES, 7)
        journal.start()
        for offset in range(6):  # three of them fill a file
            write_one(journal, offset)
        files.sync_directory("journal")
        files.sync_directory("/")
        if is_at_start:
            journal.retire_all()
            journal = Journal(files, "journal", FILE_BYTES, 8)
            journal.start()
        else:
            for file in journal.full_files:
                file.erase()
            journal.release(journal.full_files)
        write_one(journal, 6, is_synced=False)
        files.crash(Random(seed))
        offsets, damages = read(files)
        assert not damages, f"seed {seed}"
        assert offsets in ([], [6]) if is_at_start else offsets in ([3, 4, 5], [3, 4, 5, 6])


def test_a_file_that_takes_the_place_of_a_foreign_one_has_its_name_on_disk() -> None:
    files = MemoryFiles(crashable=True)
    files.make_directory("journal")
    file = files.open("journal/0.journal", create=True)
    file.write([b"somebody else's"], 0)
    file.sync()
    journal = Journal(files, "journal", FILE_BYTES, 7)
    files.sync_directory("journal")
    files.sync_directory("/")
    journal.set_foreign_aside()
    journal.start()
    write_one(journal, 0)
    for seed in range(20):
        crashed = deepcopy(files)
        crashed.crash(Random(seed))
        assert read(crashed) == ([0], []), f"seed {seed}"


def test_what_was_synced_is_read_after_a_power_cut_at_every_step_of_a_life_that_uses_files_again() -> None:
    """All of it, in order, without damage; and of what was not synced at most the next group."""
    files = MemoryFiles(crashable=True)
    journal = Journal(files, "journal", FILE_BYTES, 7)
    journal.start()
    files.sync_directory("journal")
    files.sync_directory("/")

    def check(needed: range, *, more: int) -> None:
        for seed in range(4):
            crashed = deepcopy(files)
            crashed.crash(Random(seed))
            offsets, damages = read(crashed)
            place = f"{needed}, seed {seed}"
            assert not damages, place
            assert [n for n in offsets if n >= needed.start] in (list(needed), [*needed, needed.stop])[: 1 + more], (
                place
            )

    first = 0  # of what no checkpoint has covered
    for offset in range(12):  # three of them fill a file
        journal.append("log", offset, TOPIC_ID, 0, offset, batch(offset, 20_000))
        check(range(first, offset), more=0)
        group = journal.take()
        if group is None:  # both files are full: a checkpoint covers the older one
            first += 3
            for file in journal.full_files:
                file.erase()
                check(range(first, offset), more=0)
            journal.release(journal.full_files)
            group = journal.take()
        assert group is not None
        file_number = journal.write(group)
        check(range(first, offset), more=1)
        journal.sync(file_number)
        journal.synced(group)
        check(range(first, offset + 1), more=0)
    assert first >= 3


def test_a_file_of_a_version_without_gathered_batches() -> None:
    files = written([1, 2])
    file = files.open("journal/0.journal")
    head = MARKED_MAGIC + file.read(8, 8)
    file.write([head + crc32c(head).to_bytes(4, "big")], 0)
    flip(files, FILE_HEADER_BYTES + MARK_BYTES + 70)  # its marks show that this is damage
    offsets, (damage,) = read(files)
    assert (offsets, damage.base_offset) == ([1, 2], 0)
