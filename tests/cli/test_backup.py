"""`headwater backup` and `restore` on disk, without a broker that runs: what they say, and with which status."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.cli.errors import CommandError
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.files import DiskFiles
from headwater.protocol.records import Record, build_batch, read_header
from tests.cli.runner import Result, invoke


def fill(directory: Path, records: int) -> None:
    """A data directory after a clean stop, with that many records in `t`."""
    core = BrokerCore(
        Settings.from_pairs({"headwater.journal.file.bytes": "65536"}),
        DiskFiles(),
        ManualClock(),
        SeededEntropy(3),
        directory=str(directory),
    )
    if "t" not in core.metadata.topics:
        core.topics.create("t", 1, {})
    log = core.partitions.log(core.metadata.topics["t"], 0)
    for number in range(records):
        batch = build_batch([Record(None, b"%d" % number + bytes(5000))])
        core.store.append(log, batch, read_header(batch))
    core.close()


def ends(directory: Path) -> int:
    files = DiskFiles()
    core = BrokerCore(Settings.from_pairs({}), files, ManualClock(), SeededEntropy(4), directory=str(directory))
    end = core.partitions.log(core.metadata.topics["t"], 0).high_watermark
    core.close()
    return end


def run(*arguments: object) -> Result:
    return invoke(*arguments)


def test_there_and_back(tmp_path: Path) -> None:
    data, to, back = tmp_path / "data", tmp_path / "to", tmp_path / "back"
    fill(data, 80)
    first = run("backup", data, to)
    assert first.return_value == 0
    assert first.stdout.startswith(f"Backed up {data} as 20")
    fill(data, 5)
    second = json.loads(run("backup", data, to, "--json").stdout)
    assert 25_000 < second["new_bytes"] < second["size_bytes"] - 300_000 < 200_000
    listed = json.loads(run("backup", "--list", to, "--json").stdout)
    assert [row["new_bytes"] for row in listed["backups"]][1] == second["new_bytes"]
    assert run("backup", "--verify", to).stdout == "Read 2 backups: no damage found\n"
    restored = run("restore", to, back)
    assert restored.stdout.startswith(f"Restored {second['id']} into {back}: ")
    assert ends(back) == 85
    older = tmp_path / "older"
    run("restore", to, older, "--id", listed["backups"][0]["id"])
    assert ends(older) == 80


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    fill(tmp_path / "data", 3)
    umask = os.umask(0)
    try:
        run("backup", tmp_path / "data", tmp_path / "to")
        (tmp_path / "back").mkdir(mode=0o755)
        run("restore", tmp_path / "to", tmp_path / "back")
    finally:
        os.umask(umask)
    for root in (tmp_path / "to", tmp_path / "back"):
        for path in [root, *root.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_data_directory_is_only_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, 3)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [data, *data.rglob("*")]}
    run("backup", data, tmp_path / "to")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [data, *data.rglob("*")]} == before


def test_damage_in_the_source(tmp_path: Path) -> None:
    fill(tmp_path / "data", 20)
    log = tmp_path / "data" / "t-0" / f"{0:020d}.log"
    content = bytearray(log.read_bytes())
    content[20_000] ^= 1
    log.write_bytes(content)
    result = run("backup", tmp_path / "data", tmp_path / "to")
    assert result.return_value == 1
    assert f"headwater: {log} is damaged at byte 1" in result.stderr
    assert run("restore", tmp_path / "to", tmp_path / "back").exit_code == 0


def test_a_damaged_piece(tmp_path: Path) -> None:
    fill(tmp_path / "data", 20)
    run("backup", tmp_path / "data", tmp_path / "to")
    (piece,) = (path for path in (tmp_path / "to" / "objects").rglob("*") if path.is_file())
    piece.write_bytes(b"x" + piece.read_bytes()[1:])
    result = run("backup", "--verify", tmp_path / "to")
    assert result.return_value == 1
    assert f"{piece} is damaged: t-0/{0:020d}.log of " in result.stderr
    assert run("backup", "--verify", tmp_path / "to", "--json").return_value == 1  # it is missing now


def test_keep(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    for _ in range(3):
        result = run("backup", tmp_path / "data", tmp_path / "to", "--keep", "2")
    assert result.stdout.endswith("; removed 1 older backup\n")
    assert len(list((tmp_path / "to" / "backups").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backup", "{}/data"), "usage: headwater backup DATA_DIR TO"),
        (("backup", "{}/none", "{}/to"), "/none is not a directory"),
        (("backup", "{}/data", "{}/data/to"), "is in the data directory"),
        (("backup", "{}", "{}-to"), "is not a data directory: it has no meta.properties"),
        (("backup", "--list", "{}/none"), "/none is not a backup repository"),
        (("backup", "--list", "--verify", "{}/none"), "exclude each other"),
        (("backup", "{}/data", "{}/file"), "/file"),
        (("restore", "{}/none", "{}/back"), "/none is not a backup repository"),
    ],
)
def test_errors(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    fill(tmp_path / "data", 1)
    (tmp_path / "file").write_bytes(b"")
    result = run(*(argument.format(tmp_path) for argument in arguments))
    assert isinstance(result.exception, CommandError)
    assert message in str(result.exception)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "data", 1)
    log = tmp_path / "data" / "t-0" / f"{0:020d}.log"
    log.unlink()
    log.mkdir()
    result = run("backup", tmp_path / "data", tmp_path / "to")
    assert isinstance(result.exception, CommandError)
    assert str(log) in str(result.exception)


def test_backups_that_cannot_be_written_can_be_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "data", 3)
    run("backup", tmp_path / "data", tmp_path / "to")
    for path in [tmp_path / "to", *(tmp_path / "to").rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    system_open = os.open

    def open_for_root_too(path: Any, flags: int, *more: Any, **named: Any) -> int:
        """The rights of files do not bind root, as which CI runs."""
        if str(path).startswith(str(tmp_path / "to")) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return system_open(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", open_for_root_too)
    with pytest.raises(PermissionError):
        DiskFiles().open(str(tmp_path / "to" / "new"), create=True)
    assert run("backup", "--list", tmp_path / "to").return_value == 0
    run("restore", tmp_path / "to", tmp_path / "back")
    assert ends(tmp_path / "back") == 3
