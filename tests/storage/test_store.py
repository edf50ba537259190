"""The data directory on a real disk: who may read it, who may use it, and what it may be."""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.files import DiskFiles
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.records import Record, build_batch, read_header
from headwater.storage.checkpoints import CLEAN_SHUTDOWN, COPY_SUFFIX
from headwater.storage.config import LogConfig
from headwater.storage.errors import DirectoryInUseError, FormatError
from headwater.storage.store import LogStore

TOPIC_ID = b"t" * 16


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def opened(path: Path) -> LogStore:
    store = LogStore(DiskFiles(), str(path), ManualClock(), SeededEntropy(), journal_file_bytes=1 << 16)
    store.recover(lambda topic_id, partition: ("t", LogConfig()))
    return store


def use(path: Path) -> None:
    store = opened(path)
    log = store.open_log("t", TOPIC_ID, 0, LogConfig())
    batch = build_batch([Record(None, b"secret", (), 1)])
    store.append(log, batch, read_header(batch))
    store.close()


def modes(path: Path) -> dict[str, int]:
    return {str(p.relative_to(path)): stat.S_IMODE(p.stat().st_mode) for p in [path, *path.rglob("*")]}


def test_what_the_broker_makes_is_for_its_user_only(tmp_path: Path) -> None:
    use(tmp_path / "data")
    found = modes(tmp_path / "data")
    assert found["t-0/00000000000000000000.log"] == 0o600
    assert [name for name, mode in found.items() if mode & 0o077] == []


def test_an_empty_directory_is_closed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    use(tmp_path / "data")
    assert modes(tmp_path / "data")["."] == 0o700


def test_in_a_directory_with_other_things_only_ours_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "photos-1").mkdir(mode=0o755)
    (tmp_path / "photos-1" / "a.jpg").write_bytes(b"")
    use(tmp_path)
    for ours in ("t-0", "journal"):
        (tmp_path / ours).chmod(0o755)  # as earlier versions made them
    use(tmp_path)
    found = modes(tmp_path)
    assert (found["t-0"], found["journal"], found["photos-1"], found["."]) == (0o700, 0o700, 0o755, 0o755)
    assert "chmod 700" in caplog.text


def test_a_group_may_be_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    use(tmp_path / "data")
    (tmp_path / "data").chmod(0o750)
    use(tmp_path / "data")
    assert modes(tmp_path / "data")["."] == 0o750
    assert caplog.text == ""


def test_a_symbolic_link_is_the_directory_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "data").symlink_to(tmp_path / "real")
    use(tmp_path / "data")
    assert modes(tmp_path / "real")["."] == 0o700
    assert (tmp_path / "real" / "t-0").is_dir()
    store = opened(tmp_path / "real")
    with pytest.raises(DirectoryInUseError):
        opened(tmp_path / "data")
    store.close()
    store = opened(tmp_path / "data")
    assert store.open_log("t", TOPIC_ID, 0, LogConfig()).end_offset == 1
    store.close()


def forget_checksum(meta: Path) -> None:
    """Leaves the file as an earlier version wrote it."""
    meta.with_name(meta.name + COPY_SUFFIX).unlink()
    meta.write_text("".join(line for line in meta.read_text().splitlines(True) if "crc32c" not in line))


@pytest.mark.parametrize("key", ["cluster.id", "directory.id"])
def test_meta_properties_without_an_id(tmp_path: Path, key: str) -> None:
    use(tmp_path / "data")
    meta = tmp_path / "data" / "meta.properties"
    forget_checksum(meta)
    meta.write_text("\n".join(line for line in meta.read_text().splitlines() if not line.startswith(key)))
    with pytest.raises(FormatError, match=key):
        opened(tmp_path / "data")


@pytest.mark.parametrize("clean", [True, False])
def test_a_directory_of_an_earlier_version_is_taken_over_without_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clean: bool
) -> None:
    use(tmp_path / "data")
    meta = tmp_path / "data" / "meta.properties"
    forget_checksum(meta)
    meta.write_text("".join(line for line in meta.read_text().splitlines(True) if "checkpoints" not in line))
    wrote_checkpoints_and_sums = [*(tmp_path / "data").glob("*-checkpoint*"), *(tmp_path / "data").rglob("*.sums")]
    for path in wrote_checkpoints_and_sums:  # the first version wrote none before its first regular checkpoint
        path.unlink()
    if not clean:
        (tmp_path / "data" / CLEAN_SHUTDOWN).unlink()
    for _ in range(2):
        store = opened(tmp_path / "data")
        assert store.open_log("t", TOPIC_ID, 0, LogConfig()).end_offset == 1
        store.abandon()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_checkpoint_that_is_lost_later_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    use(tmp_path / "data")
    for path in (tmp_path / "data").glob("log-start-*"):
        path.unlink()
    opened(tmp_path / "data").open_log("t", TOPIC_ID, 0, LogConfig())
    assert "log start offset is lost" in caplog.text


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_directory_that_was_replaced_under_a_broker_is_not_written_to(tmp_path: Path, is_replaced: bool) -> None:
    """`rm -r data`, and a new broker on the same path, while the first one still runs."""
    first = opened(tmp_path / "data")
    log = first.open_log("t", TOPIC_ID, 0, LogConfig())
    batch = build_batch([Record(None, b"1", (), 1)])
    for _ in range(3):
        first.append(log, batch, read_header(batch))
    (tmp_path / "data").rename(tmp_path / "moved")
    if is_replaced:
        use(tmp_path / "data")
    before = {str(path): path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    with pytest.raises(OSError, match="replaced under the running broker"):
        first.close()
    after = {str(path): path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert after == before
    assert (tmp_path / "data").exists() is is_replaced


class OthersDirectory(MemoryFiles):
    """Directories that belong to another user, and that everybody may read."""

    def rights_of_others(self, path: str) -> int:
        return 0o055

    def restrict(self, path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)


def test_a_directory_that_cannot_be_closed_to_others_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    LogStore(OthersDirectory(), "data", ManualClock(), SeededEntropy()).abandon()
    (record,) = caplog.records
    assert "other users of this machine may be able to read the data" in record.getMessage()
    assert "data" in record.getMessage()
