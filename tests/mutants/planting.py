"""Planted bugs as data, and how one gets into the source.

A bug is an entry of `bugs/AREA.toml`:

    [[bug]]
    name = "acknowledged-before-the-sync"        # unique
    breaks = "What goes wrong for a user."
    anchor = '''...'''                           # whole lines of the source, found exactly once under src/headwater
    replacement = '''...'''                      # what stands there instead; empty: the lines are gone
    tests = ["tests/.../test_x.py::test_y"]      # each passes without the bug, and one of them fails with it
    hangs = true                                 # the bug shows itself as a test that does not end

The anchor is text, not a place, and its indentation counts only relative to its first line. So it is still found when its
function moves to another module, another class or another depth. It is an error when it is found nowhere, or twice.
"""

import ast
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
BUGS = Path(__file__).parent / "bugs"
FIELDS = {"name": str, "breaks": str, "anchor": str, "replacement": str, "tests": list}
OPTIONAL_FIELDS = {"hangs": bool}


class BugError(Exception):
    """A bug that cannot be planted as it is described; the message names it."""


@dataclass(frozen=True, slots=True)
class Bug:
    """See the module's docstring. `area` is the name of its file."""

    name: str
    area: str
    breaks: str
    anchor: tuple[str, ...]
    replacement: tuple[str, ...]
    tests: tuple[str, ...]
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Planting:
    """A source file, relative to `src`, with a bug in it."""

    path: Path
    line: int
    content: str


def load_bugs(directory: Path = BUGS) -> list[Bug]:
    """All bugs, by area. Raises BugError."""
    bugs = [
        bug
        for path in sorted(directory.glob("*.toml"))
        for entry in tomllib.loads(path.read_text()).get("bug", [])
        for bug in [bug_of(path.stem, entry)]
    ]
    names = [bug.name for bug in bugs]
    for name in names:
        if names.count(name) > 1:
            raise BugError(f"{name}: two bugs have this name")
    return bugs


def bug_of(area: str, entry: dict[str, Any]) -> Bug:
    name = str(entry.get("name", f"a bug without a name in {area}.toml"))
    known = FIELDS | OPTIONAL_FIELDS
    wrong = [key for key in FIELDS if key not in entry] + [key for key in entry if key not in known]
    wrong += [key for key, kind in known.items() if key in entry and not isinstance(entry[key], kind)]
    if wrong:
        raise BugError(f"{name}: missing, unknown or of a wrong type: {', '.join(wrong)}")
    if not entry["tests"]:
        raise BugError(f"{name}: no test is named that has to fail")
    margin = margin_of(entry["anchor"])
    anchor, replacement = lines_of(entry["anchor"], margin), lines_of(entry["replacement"], margin)
    if not anchor or anchor == replacement:
        raise BugError(f"{name}: the anchor is empty, or the replacement is the same")
    tests = tuple(str(test) for test in entry["tests"])
    return Bug(name, area, entry["breaks"], anchor, replacement, tests, entry.get("hangs", False))


def margin_of(text: str) -> str:
    """The indentation that all lines of an anchor have; it is taken off the replacement too, so that both fit together."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    shorter = next((line for line in textwrap.dedent(text).split("\n") if line.strip()), "")
    return line.removesuffix(shorter)


def lines_of(text: str, margin: str = "") -> tuple[str, ...]:
    lines = text.strip("\n").split("\n") if text.strip() else []
    return tuple(line.removeprefix(margin).rstrip() for line in lines)


class Sources:
    """The lines of all modules, indexed by their text without indentation."""

    def __init__(self, source: Path = SOURCE) -> None:
        self.lines: dict[Path, list[str]] = {}
        self.places: dict[str, list[tuple[Path, int]]] = {}
        for path in sorted(source.rglob("*.py")):
            relative = path.relative_to(source)
            lines = self.lines[relative] = path.read_text().split("\n")
            for number, line in enumerate(lines):
                self.places.setdefault(line.strip(), []).append((relative, number))

    def matches(self, anchor: tuple[str, ...]) -> Iterator[tuple[Path, int, str]]:
        """Where the anchor's lines stand: the module, the index of the first line, and the indentation."""
        for path, start in self.places.get(anchor[0].strip(), ()):
            found = self.lines[path][start : start + len(anchor)]
            indentation = found[0].removesuffix(anchor[0])
            if not indentation.strip() and found == indented(anchor, indentation):
                yield path, start, indentation

    def plant(self, bug: Bug) -> Planting:
        """The file with the bug in it. Raises BugError."""
        found = list(self.matches(bug.anchor))
        if len(found) != 1:
            places = ", ".join(f"{path}:{start + 1}" for path, start, _ in found) or "nowhere"
            raise BugError(
                f"{bug.name}: its anchor must be found exactly once, but is at {places}; if the code has changed, change "
                f"the anchor in tests/mutants/bugs/{bug.area}.toml, so that the bug still breaks what it says"
            )
        path, start, indentation = found[0]
        lines = self.lines[path]
        changed = [*lines[:start], *indented(bug.replacement, indentation), *lines[start + len(bug.anchor) :]]
        planting = Planting(path, start + 1, "\n".join(changed))
        check_differs(bug, "\n".join(lines), planting.content)
        return planting


def indented(lines: tuple[str, ...], indentation: str) -> list[str]:
    return [indentation + line if line else "" for line in lines]


def check_differs(bug: Bug, before: str, after: str) -> None:
    """Raises BugError if the file with the bug is not Python, or does the same as before."""
    try:
        tree = ast.parse(after)
    except SyntaxError as error:
        raise BugError(f"{bug.name}: with the bug the file is not Python: {error}") from error
    if ast.dump(tree) == ast.dump(ast.parse(before)):
        raise BugError(f"{bug.name}: the replacement changes nothing but the layout")


def check_tests(bug: Bug) -> None:
    """Raises BugError for a test that is not there."""
    for test in bug.tests:
        path, *names = test.partition("[")[0].split("::")
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        missing = [name for name in names if f"def {name}(" not in text and f"class {name}" not in text]
        if not text or not names or missing:
            raise BugError(f"{bug.name}: there is no test {test}")
