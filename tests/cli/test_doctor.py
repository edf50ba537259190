"""`headwater doctor` on a real disk: what it says, with which status, what it writes, and what it leaves alone."""

import json
import shutil
from pathlib import Path

import pytest

from headwater.cli.doctor import wrap
from headwater.effects.files import DiskFiles
from tests.cli.runner import Result, invoke
from tests.cli.test_backup import ends, fill

LOG = "t-0/00000000000000000000.log"


def run(*arguments: object, answer: str = "") -> Result:
    return invoke("doctor", *arguments, stdin=answer)


def contents(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def damage(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    fill(tmp_path / "data", 10)
    return tmp_path / "data"


def copies(data: Path) -> list[Path]:
    return sorted(data.parent.glob("data.doctor-*"))


def test_a_whole_directory(data: Path) -> None:
    before = contents(data)
    result = run(data)
    assert result.return_value == 0
    assert result.stdout.startswith(f"{data}: no damage found; 2 logs, ")
    assert contents(data) == before
    assert json.loads(run(data, "--json").stdout)["whole"] is True
    assert run(data, "--repair", "--yes").return_value == 0
    assert contents(data) == before
    assert copies(data) == []


def test_damage_is_one_line_and_nothing_is_changed(data: Path) -> None:
    damage(data / LOG, 100, b"\xff" * 9)
    before = contents(data)
    result = run(data)
    assert result.return_value == 1
    found, last = result.stdout.splitlines()
    assert found.startswith(f"damage: {LOG} (t-0, offsets 0 to 0): bytes 0 to ")
    assert "the broker answers KAFKA_STORAGE_ERROR for these offsets" in found
    assert "--repair " in found
    assert last.startswith(f"{data}: 1 damage; 2 logs, ")
    assert contents(data) == before
    (finding,) = json.loads(run(data, "--json").stdout)["findings"]
    assert (finding["topic"], finding["partition"]) == ("t", 0)
    assert (finding["first_offset"], finding["last_offset"]) == (0, 0)
    assert contents(data) == before


def test_a_repair_copies_what_it_changes_first(data: Path) -> None:
    damage(data / LOG, 100, b"\xff" * 9)
    before = contents(data)
    result = run(data, "--repair", "--yes")
    assert result.return_value == 0, result.stderr
    (copy,) = copies(data)
    assert str(copy) in result.stdout
    assert "offsets 0 to 0" in (copy / "README.txt").read_text()
    after = contents(data)
    changed = {name for name in before if after.get(name) != before[name]}
    assert LOG in changed
    assert {name: before[name] for name in changed} == {n: c for n, c in contents(copy).items() if n != "README.txt"}
    assert run(data).return_value == 0
    assert ends(data) == 10


def test_one_flipped_bit_is_flipped_back_into_a_copy_of_ones_own(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    damage(data / LOG, 3000, bytes([before[LOG][3000] ^ 0x20]))
    result = run(data, "--repair", "--yes", "--json", "--copy-to", tmp_path / "kept")
    assert result.return_value == 0
    answer = json.loads(result.stdout)
    assert answer["copy"] == str(tmp_path / "kept")
    assert [(place["path"], place["lossless"]) for place in answer["repaired"]] == [(str(data / LOG), True)]
    assert contents(data) == before


@pytest.mark.parametrize("answer", ["", "n\n", "y\n"])
def test_without_a_terminal_nobody_can_agree(data: Path, answer: str) -> None:
    damage(data / LOG, 100, b"\xff" * 9)
    before = contents(data)
    result = run(data, "--repair", answer=answer)
    assert result.return_value == 1
    assert "--yes" in result.stderr
    assert contents(data) == before
    assert copies(data) == []


def test_a_running_broker(data: Path) -> None:
    lock = DiskFiles().lock(str(data / ".lock"))
    try:
        result = run(data)
    finally:
        lock.release()
    assert result.return_value == 2
    assert f"{data} is in use by a running broker" in result.stderr


def test_what_is_not_a_data_directory(data: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        result = run(path)
        assert result.return_value == 2
        assert str(path) in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert run(data, "--copy-to", tmp_path / "x").return_value == 2
    damage(data / LOG, 100, b"\xff" * 9)
    for folder in (data / "inside", data.parent):
        result = run(data, "--repair", "--yes", "--copy-to", folder)
        assert result.return_value == 2
        assert str(folder) in result.stderr


def test_what_the_next_start_repairs_is_not_damage(data: Path) -> None:
    (data / "t-0" / "leader-epoch-checkpoint").unlink()
    shutil.copy(data / "meta.properties", data / "notes.txt")
    result = run(data)
    assert result.return_value == 0
    assert "rebuilt: t-0/leader-epoch-checkpoint (t-0): the next start says:" in result.stdout
    assert "nothing is lost" in result.stdout
    assert run(data, "--repair", "--yes").return_value == 0
    assert copies(data) == []


def test_lines_are_as_wide_as_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "damage: " + "a-long-path/" * 9 + " " + "word " * 60
    assert wrap(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, wrap(text).splitlines()[2:])) < 60
