"""Compares what the fast tests reach with a list that may only get shorter; `make coverage` runs it.

    python .ci/branches.py REPORT LIST [--lower]

REPORT is coverage's, as JSON. LIST is TOML: for each module, how many of its lines and branches no test reaches. A module that
is not in it must be reached whole. Ends with 1, and a line for each module, where more is not reached than the list allows, or
where so much less is that its number has to follow. `--lower` writes the numbers that have become less into the list; it makes
none greater and adds no module.

Some lines are only reached by chance: by what a test draws, or by which of two threads comes first. So the numbers are
rounded up to five, a run may miss `CHANCE` more than that, and a number has to follow when it is more than five too great.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

PREFIX = "src/headwater/"
FIVES, CHANCE = 5, 2
HEAD = """\
# Of each module, how many lines and branches no fast test reaches. `make coverage` measures it; .ci/branches.py says how this
# list gets shorter.
"""


class Missed(NamedTuple):
    """What no test reaches of a module: lines, and branches as from which line to which; a line below 0 is a function's end."""

    lines: list[int]
    branches: list[list[int]]

    @property
    def total(self) -> int:
        return len(self.lines) + len(self.branches)

    def __str__(self) -> str:
        branches = (f"{start}->{'end' if end < 0 else end}" for start, end in self.branches)
        return f"lines {', '.join(map(str, self.lines)) or 'none'}; branches {', '.join(branches) or 'none'}"


def missed(report: dict[str, Any]) -> dict[str, Missed]:
    """By module, those that are reached whole too."""
    return {
        name.replace("\\", "/").removeprefix(PREFIX): Missed(file["missing_lines"], file["missing_branches"])
        for name, file in report["files"].items()
    }


def rounded(count: int) -> int:
    return -(-count // FIVES) * FIVES


def complaints(found: dict[str, Missed], listed: dict[str, int]) -> list[str]:
    """What is reached less than the list allows, and where the list has to get shorter."""
    wrong = []
    for name, module in sorted(found.items()):
        allowed = listed.get(name, 0)
        if module.total > allowed + CHANCE:
            wrong.append(f"{name}: {module.total} lines and branches are not reached, {allowed} may be: {module}")
        elif rounded(module.total) < allowed - FIVES:
            wrong.append(f"{name}: {module.total} lines and branches are not reached: lower its {allowed}")
    return wrong + [
        f"{name}: was not measured; if it is gone, remove it" for name in sorted(listed.keys() - found.keys())
    ]


def lowered(found: dict[str, Missed], listed: dict[str, int]) -> dict[str, int]:
    counts = {name: min(allowed, rounded(found[name].total)) for name, allowed in listed.items() if name in found}
    return {name: count for name, count in counts.items() if count}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compares what the fast tests reach with a list that may only get shorter."
    )
    parser.add_argument("report", type=Path)
    parser.add_argument("list", type=Path)
    parser.add_argument("--lower", action="store_true", help="write what has become less into the list")
    arguments = parser.parse_args()
    found = missed(json.loads(arguments.report.read_text()))
    listed: dict[str, int] = tomllib.loads(arguments.list.read_text())
    if not found:
        print(f"{arguments.report}: no module was measured", file=sys.stderr)
        return 1
    if arguments.lower:
        listed = lowered(found, listed)
        lines = (f'"{name}" = {count}\n' for name, count in sorted(listed.items()))
        arguments.list.write_text(HEAD + "".join(lines))
    wrong = complaints(found, listed)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        whole = sum(not module.total for module in found.values())
        missing = sum(module.total for module in found.values())
        print(f"{whole} of {len(found)} modules are reached whole; of the others {missing} lines and branches are not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
