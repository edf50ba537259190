"""Every planted bug can be planted in the source as it is now, and what cannot be is named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.planting import Bug, BugError, Sources, bug_of, check_tests, lines_of, load_bugs

BUGS_MIN = 60
MODULE = """
def first(text: str) -> int:
    if not text:
        return 0
    return len(text)


class Second:
    def first(self, text: str) -> int:
        return len(text) + 1
"""
ENTRY: dict[str, Any] = {
    "name": "off-by-one",
    "breaks": "The length is wrong.",
    "anchor": "return len(text) + 1",
    "replacement": "return len(text)",
    "tests": ["tests/mutants/test_planting.py::test_an_anchor_is_found_at_any_depth"],
}


@pytest.fixture(scope="module")
def real() -> Sources:
    return Sources()


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "module.py").write_text(MODULE)
    return Sources(tmp_path)


def bug(**changes: Any) -> Bug:
    return bug_of("area", {**ENTRY, **changes})


@pytest.mark.parametrize("planted", load_bugs(), ids=lambda planted: planted.name)
def test_the_bug_can_be_planted_and_its_tests_exist(planted: Bug, real: Sources) -> None:
    real.plant(planted)
    check_tests(planted)


def test_no_bug_uses_a_name_that_is_not_there(real: Sources, tmp_path: Path) -> None:
    """Such a bug dies of a NameError wherever it is run, which proves nothing."""
    for planted in load_bugs():
        (tmp_path / f"{planted.name}.py").write_text(real.plant(planted).content)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select=F821,F822,F823",
        str(tmp_path),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_there_are_enough_in_every_area() -> None:
    areas = [planted.area for planted in load_bugs()]
    assert len(areas) >= BUGS_MIN
    for area in ("broker", "client", "coordinators", "protocol", "security", "storage"):
        assert areas.count(area) >= 5, area


def test_an_anchor_is_found_at_any_depth(sources: Sources) -> None:
    planting = sources.plant(bug(anchor="    return len(text) + 1\n", replacement="found = len(text)\nreturn found\n"))
    assert (planting.path, planting.line) == (Path("module.py"), 10)
    assert planting.content == MODULE.replace("return len(text) + 1", "found = len(text)\n        return found")


def test_an_anchor_keeps_its_shape(sources: Sources) -> None:
    shaped = lines_of("if not text:\n    return 0\nreturn len(text)")
    assert [start for _, start, _ in sources.matches(shaped)] == [2]
    assert not list(sources.matches(lines_of("if not text:\nreturn 0")))


def test_a_replacement_is_indented_as_its_anchor(sources: Sources) -> None:
    anchor = "        return 0\n    return len(text)"
    planting = sources.plant(bug(anchor=anchor, replacement="        return 1"))
    assert planting.content == MODULE.replace("        return 0\n    return len(text)\n", "        return 1\n")


def test_an_empty_replacement_removes_the_lines(sources: Sources) -> None:
    planting = sources.plant(bug(anchor="if not text:\n    return 0", replacement=""))
    assert planting.content == MODULE.replace("    if not text:\n        return 0\n", "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"anchor": "return len(text) + 2"}, "is at nowhere"),
        ({"anchor": "class Second:\n    pass"}, "is at nowhere"),
        ({"anchor": "return len(text", "replacement": ""}, "is at nowhere"),
        ({"replacement": "return len(text"}, "not Python"),
        ({"replacement": "return (len(text) + 1)"}, "changes nothing"),
    ],
)
def test_what_cannot_be_planted_is_named(sources: Sources, changes: dict[str, str], says: str) -> None:
    with pytest.raises(BugError, match=f"off-by-one.*{says}"):
        sources.plant(bug(**changes))


def test_an_anchor_that_is_found_twice_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "other.py").write_text(MODULE)
    with pytest.raises(BugError, match=r"off-by-one.*module\.py:10, other\.py:10"):
        Sources(tmp_path).plant(bug())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tests": []}, "no test is named"),
        ({"anchor": "\n"}, "the anchor is empty"),
        ({"replacement": ENTRY["anchor"]}, "the replacement is the same"),
        ({"hang": True}, "unknown or of a wrong type: hang"),
        ({"hangs": 1}, "unknown or of a wrong type: hangs"),
    ],
)
def test_what_is_not_a_bug_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BugError, match=f"off-by-one: .*{says}"):
        bug(**changes)


@pytest.mark.parametrize(
    "test",
    [
        "tests/mutants/test_planting.py",
        "tests/mutants/test_planting.py::test_that_is_not_there",
        "tests/mutants/test_missing.py::test_planting",
    ],
)
def test_a_test_that_is_not_there_is_named(test: str) -> None:
    with pytest.raises(BugError, match="off-by-one: there is no test"):
        check_tests(bug(tests=[test]))


def test_two_bugs_of_one_name_are_refused(tmp_path: Path) -> None:
    entry = "\n".join(f"{key} = {value!r}" for key, value in ENTRY.items())
    (tmp_path / "area.toml").write_text(f"[[bug]]\n{entry}\n[[bug]]\n{entry}\n")
    with pytest.raises(BugError, match="off-by-one: two bugs"):
        load_bugs(tmp_path)
