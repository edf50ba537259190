"""The in-memory files: as the disk where nothing fails, and honest about what a crash may leave."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from headwater.effects.files import DiskFiles, Files, read_file, remove_tree, replace_file
from headwater.effects.memory_files import SECTOR_BYTES, MemoryFiles


@pytest.fixture(params=["disk", "memory", "crashable"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], tuple[Files, str]]:
    def build() -> tuple[Files, str]:
        if request.param == "disk":
            return DiskFiles(descriptors_max=2), str(tmp_path)
        files = MemoryFiles(crashable=request.param == "crashable")
        files.make_directory("root")
        return files, "root"

    return build


def test_files_do_the_same_everywhere(make: Callable[[], tuple[Files, str]]) -> None:
    files, root = make()
    files.make_directory(f"{root}/a/b")
    opened = [files.open(f"{root}/a/b/{n}", create=True) for n in range(5)]
    for n, file in enumerate(opened):
        file.write([b"x" * n, bytearray(b"yz")], 0)
        file.sync()
    assert [file.read(100, 0) for file in opened] == [b"x" * n + b"yz" for n in range(5)]
    opened[0].write([b"end"], 10)
    assert opened[0].read(100, 0) == b"yz" + bytes(8) + b"end"
    opened[0].truncate(1)
    assert opened[0].size() == 1
    files.rename(f"{root}/a/b/1", f"{root}/a/b/0")
    assert files.list_directory(f"{root}/a/b") == ["0", "2", "3", "4"]
    assert read_file(files, f"{root}/a/b/0") == b"xyz"
    files.sync_directory(f"{root}/a/b")
    files.sync_path(f"{root}/a/b/0")
    replace_file(files, f"{root}/a/b/0", b"new")
    assert read_file(files, f"{root}/a/b/0") == b"new"
    assert files.exists(f"{root}/a")
    remove_tree(files, f"{root}/a/b")
    assert not files.exists(f"{root}/a/b")
    for call in (files.open, files.list_directory, files.remove):
        with pytest.raises(FileNotFoundError):
            call(f"{root}/none")


def test_a_lock_is_held_once(make: Callable[[], tuple[Files, str]]) -> None:
    files, root = make()
    lock = files.lock(f"{root}/.lock")
    with pytest.raises(BlockingIOError):
        files.lock(f"{root}/.lock")
    lock.release()
    files.lock(f"{root}/.lock").release()


def test_the_capacity_is_a_full_disk() -> None:
    files = MemoryFiles(100)
    file = files.open("f", create=True)
    file.write([bytes(90)], 0)
    with pytest.raises(OSError, match="No space") as caught:
        file.write([bytes(20)], 90)
    assert caught.value.errno == errno.ENOSPC
    file.write([bytes(50)], 0)
    files.remove("f")
    files.open("g", create=True).write([bytes(100)], 0)


def test_any_call_can_be_made_to_fail() -> None:
    calls: list[str] = []
    files = MemoryFiles()

    def fault(call: str, path: str) -> int | None:
        calls.append(call)
        return errno.EIO if len(calls) == 3 else None

    files.fault = fault
    file = files.open("f", create=True)
    file.write([b"x"], 0)
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    assert calls == ["open", "write", "sync"]


def test_what_was_synced_survives_every_crash() -> None:
    for seed in range(200):
        files = MemoryFiles(crashable=True)
        file = files.open("f", create=True)
        file.write([b"a" * 2000], 0)
        file.sync()
        files.sync_directory("")
        file.write([b"b" * 2000], 2000)
        files.crash(Random(seed))
        content = read_file(files, "f")
        assert content[:2000] == b"a" * 2000
        rest = content[2000:]
        assert rest == b"b" * len(rest)
        assert len(rest) in (0, 2000) or len(rest) % SECTOR_BYTES == 0


def test_a_crash_drops_tears_and_reorders_what_was_not_synced() -> None:
    outcomes = set()
    for seed in range(300):
        files = MemoryFiles(crashable=True)
        files.sync_directory("")
        file = files.open("f", create=True)
        files.sync_directory("")
        file.write([b"a" * 1024], 0)
        file.write([b"b" * 1024], 1024)
        files.crash(Random(seed))
        content = read_file(files, "f")
        outcomes.add((len(content), content[:1] == b"a", content[1024:1025] == b"b"))
    assert (0, False, False) in outcomes
    assert (2048, True, True) in outcomes
    assert (2048, False, True) in outcomes
    assert any(size == 512 for size, _, _ in outcomes)


def test_a_name_that_was_not_synced_may_be_gone() -> None:
    found = set()
    for seed in range(50):
        files = MemoryFiles(crashable=True)
        files.open("f", create=True).sync()
        files.crash(Random(seed))
        found.add(files.exists("f"))
    assert found == {True, False}
