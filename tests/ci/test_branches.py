"""`make coverage` fails where the tests reach less than they did, and where the list could be shorter."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

BRANCHES = Path(__file__).parents[2] / ".ci" / "branches.py"
LISTED = {"storage/log.py": 20, "bus/bus.py": 5}
USUAL = {"storage/log.py": 18, "bus/bus.py": 3, "replay/deferred.py": 0}


def run(directory: Path, missed: dict[str, int], *options: str) -> subprocess.CompletedProcess[str]:
    """The comparison with a report in which every module has missed so many lines and branches."""
    files = {
        f"src/headwater/{name}": {
            "missing_lines": list(range(100, 100 + count - count // 2)),
            "missing_branches": [[n, -1] for n in range(count // 2)],
        }
        for name, count in missed.items()
    }
    (directory / "report.json").write_text(json.dumps({"files": files}))
    (directory / "list.toml").write_text("".join(f'"{name}" = {count}\n' for name, count in LISTED.items()))
    command = [sys.executable, str(BRANCHES), str(directory / "report.json"), str(directory / "list.toml"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_as_much_as_before_is_success(tmp_path: Path) -> None:
    result = run(tmp_path, USUAL)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "1 of 3 modules are reached whole; of the others 21 lines and branches are not\n"


def test_more_than_chance_fails_and_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, {**USUAL, "bus/bus.py": 7}).returncode == 0
    result = run(tmp_path, {**USUAL, "bus/bus.py": 8})
    assert result.returncode == 1
    where = "lines 100, 101, 102, 103; branches 0->end, 1->end, 2->end, 3->end"
    assert result.stderr == f"bus/bus.py: 8 lines and branches are not reached, 5 may be: {where}\n"


def test_a_module_that_is_not_listed_must_be_reached_whole(tmp_path: Path) -> None:
    result = run(tmp_path, {**USUAL, "replay/new.py": 3})
    assert result.returncode == 1
    assert (
        "replay/new.py: 3 lines and branches are not reached, 0 may be: lines 100, 101; branches 0->end"
        in result.stderr
    )


def test_the_list_follows_what_has_become_less(tmp_path: Path) -> None:
    result = run(tmp_path, {**USUAL, "storage/log.py": 10})
    assert result.returncode == 1
    assert result.stderr == "storage/log.py: 10 lines and branches are not reached: lower its 20\n"
    assert run(tmp_path, {**USUAL, "storage/log.py": 11}).returncode == 0  # it may be chance


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, {"storage/log.py": 18})
    assert result.returncode == 1
    assert result.stderr == "bus/bus.py: was not measured; if it is gone, remove it\n"
    assert "no module was measured" in run(tmp_path, {}).stderr


def test_lowering_makes_no_number_greater_and_adds_no_module(tmp_path: Path) -> None:
    result = run(tmp_path, {"storage/log.py": 25, "bus/bus.py": 0, "replay/new.py": 3}, "--lower")
    assert result.returncode == 1
    assert tomllib.loads((tmp_path / "list.toml").read_text()) == {"storage/log.py": 20}
    assert "storage/log.py: 25" in result.stderr
    assert "replay/new.py: 3" in result.stderr


def test_lowering_removes_what_is_reached_whole_or_gone(tmp_path: Path) -> None:
    result = run(tmp_path, {"storage/log.py": 6}, "--lower")
    assert (result.returncode, result.stderr) == (0, "")
    assert tomllib.loads((tmp_path / "list.toml").read_text()) == {"storage/log.py": 10}
