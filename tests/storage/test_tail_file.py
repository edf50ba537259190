"""A file whose last bytes are in memory: readers see one file, and nothing is lost when a write fails."""

import errno
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.storage.tail_file import TailFile

PATH = "a.log"


def new_file(content: bytes = b"") -> tuple[MemoryFiles, TailFile]:
    files = MemoryFiles()
    inner = files.open(PATH, create=True)
    if content:
        inner.write([content], 0)
    return files, TailFile(inner)


def gather(file: TailFile, batch: bytes) -> None:
    file.gather(batch, len(batch))


def test_what_was_gathered_is_read_but_not_written() -> None:
    files, file = new_file(b"abc")
    gather(file, b"de")
    gather(file, b"f")
    assert file.size() == 6
    assert file.descriptor == -1  # as that of the file itself
    assert file.read(6, 0) == b"abcdef"
    assert read_file(files, PATH) == b"abc"


def test_a_flush_writes_it_once() -> None:
    files, file = new_file(b"abc")
    gather(file, b"de")
    file.flush()
    changes = files.open(PATH).inode.changes
    file.flush()
    assert files.open(PATH).inode.changes == changes
    assert read_file(files, PATH) == b"abcde"
    assert file.size() == 5


def test_a_write_comes_after_what_was_gathered() -> None:
    files, file = new_file()
    gather(file, b"ab")
    file.write((b"c", b"d"), 2)
    assert read_file(files, PATH) == b"abcd"
    assert file.size() == 4


def test_a_write_inside_the_file_does_not_move_its_end() -> None:
    files, file = new_file(b"abcd")
    file.write((b"X",), 1)
    gather(file, b"e")
    file.flush()
    assert read_file(files, PATH) == b"aXcde"


def test_a_flush_that_fails_keeps_everything() -> None:
    files, file = new_file(b"abc")
    gather(file, b"de")
    files.free_bytes = 0
    with pytest.raises(OSError, match="No space left") as caught:
        file.flush()
    assert caught.value.errno == errno.ENOSPC
    overdue = [file.is_overdue]
    assert file.read(10, 1) == b"bcde"
    files.free_bytes = 100
    file.flush()
    assert [*overdue, file.is_overdue] == [True, False]
    assert read_file(files, PATH) == b"abcde"


def test_nothing_is_written_at_once_before_what_is_overdue() -> None:
    files, file = new_file()
    gather(file, b"ab")
    files.free_bytes = 0
    with pytest.raises(OSError, match="No space left"):
        file.write((b"c",), 2)
    assert file.size() == 2
    assert file.read(9, 0) == b"ab"


def test_a_sync_and_a_cut_include_what_was_gathered() -> None:
    files, file = new_file()
    gather(file, b"abcd")
    file.sync()
    assert read_file(files, PATH) == b"abcd"
    gather(file, b"ef")
    file.truncate(5)
    assert read_file(files, PATH) == b"abcde"
    assert file.size() == 5


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=12), st.randoms(use_true_random=False))
def test_wherever_the_border_is_readers_see_one_file(batches: list[bytes], random: Random) -> None:
    _, file = new_file()
    content = b""
    for batch in batches:
        match random.randrange(3):
            case 0:
                file.write((batch,), len(content))
            case 1:
                gather(file, batch)
            case _:
                gather(file, batch)
                file.flush()
        content += batch
        position, size = random.randrange(len(content) + 2), random.randrange(len(content) + 2)
        assert file.read(size, position) == content[position : position + size]
        assert file.size() == len(content)
