"""Files on disk when the process has no descriptors left, and when a sync fails."""

import errno
import os
import threading
from pathlib import Path

import pytest

from headwater.effects.files import DiskFiles, SyncError, is_shortage

LIMIT = 4


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> DiskFiles:
    """A process that may have `LIMIT` files open in the pool, as far as `os.open` says."""
    files = DiskFiles(100)
    real = os.open

    def opens(path: str, flags: int, mode: int = 0o777) -> int:
        if len(files.pool.open) >= LIMIT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", opens)
    return files


def test_the_pool_gives_way_to_what_has_to_be_opened(files: DiskFiles, tmp_path: Path) -> None:
    opened = [files.open(f"{tmp_path}/{n}", create=True) for n in range(10)]
    for n, file in enumerate(opened):
        file.write([b"%d" % n], 0)
    assert [file.read(10, 0) for file in opened] == [b"%d" % n for n in range(10)]
    assert files.open(f"{tmp_path}/pinned", create=True, pinned=True).size() == 0
    for _ in range(10):
        opened[0].size()
        files.sync_path(f"{tmp_path}/1")
        files.sync_directory(str(tmp_path))
    files.close()


def test_another_thread_closes_nothing_under_the_owners_calls(files: DiskFiles, tmp_path: Path) -> None:
    for n in range(LIMIT):
        files.open(f"{tmp_path}/{n}", create=True)
    errors: list[OSError] = []

    def run() -> None:
        try:
            files.sync_path(f"{tmp_path}/1")
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [error.errno for error in errors] == [errno.EMFILE]
    assert is_shortage(errors[0])
    assert len(files.pool.open) == LIMIT
    files.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_has_a_name(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    files = DiskFiles()
    file = files.open(f"{tmp_path}/a", create=True)
    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", fail)
    for sync in (file.sync, lambda: files.sync_path(f"{tmp_path}/a"), lambda: files.sync_directory(str(tmp_path))):
        with pytest.raises(SyncError) as caught:
            sync()
        assert not is_shortage(caught.value)
        assert str(tmp_path) in str(caught.value)
    files.close()


CALLS = {
    "pread": lambda file: file.read(1, 0),
    "pwrite": lambda file: file.write([b"a"], 0),
    "pwritev": lambda file: file.write([b"a", b"b"], 0),
    "ftruncate": lambda file: file.truncate(0),
    "fstat": lambda file: file.size(),
}


@pytest.mark.parametrize("call", CALLS)
def test_whatever_fails_on_a_file_names_it(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = DiskFiles()
    file = files.open(f"{tmp_path}/a", create=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left on device") as caught:
            CALLS[call](file)
    assert caught.value.filename == f"{tmp_path}/a"
    assert is_shortage(caught.value)
    files.close()


@pytest.mark.parametrize("buffers", [[b"0123456789"], [b"01234", b"56789"]])
@pytest.mark.parametrize("size_max", [1, 3, 9])
def test_a_short_write_is_continued(
    buffers: list[bytes], size_max: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, write_many = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: write(number, data[:size_max], at))
    monkeypatch.setattr(os, "pwritev", lambda number, parts, at: write_many(number, [b"".join(parts)[:size_max]], at))
    files = DiskFiles()
    file = files.open(f"{tmp_path}/a", create=True)
    file.write(buffers, 2)
    assert file.read(100, 0) == b"\0\x000123456789"
    files.close()


@pytest.mark.parametrize("buffers", [[b"0123456789"], [b"01234", b"56789"]])
def test_a_short_write_that_cannot_be_continued_is_an_error(
    buffers: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda number, parts, at: 4)
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: 4 if len(data) == 10 else 0)
    files = DiskFiles()
    file = files.open(f"{tmp_path}/a", create=True)
    with pytest.raises(OSError, match="wrote nothing"):
        file.write(buffers, 0)
    files.close()
