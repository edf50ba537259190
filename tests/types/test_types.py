"""The API is fully typed: a strict type checker accepts the examples, and refuses what `wrong_uses.py` does."""

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[2]
RIGHT = ROOT / "tests" / "types" / "right_uses.py"
WRONG = ROOT / "tests" / "types" / "wrong_uses.py"
REFUSED = re.compile(r"# refused: ([a-z-]+)$")


def errors_of(*paths: str) -> list[tuple[int, str]]:
    """Line and code of each error that mypy finds."""
    output, problems, _ = api.run(["--strict", "--no-error-summary", "--hide-error-context", *paths])
    assert not problems, problems
    found = re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    assert len(found) == output.count(": error:"), output
    return [(int(line), code) for line, code in found]


def test_the_examples_are_accepted() -> None:
    assert errors_of(*map(str, sorted((ROOT / "examples").glob("*.py")))) == []


def test_a_type_checker_knows_the_values_of_each_client() -> None:
    assert errors_of(str(RIGHT)) == []


def test_wrong_uses_are_refused_each_for_its_reason() -> None:
    lines = WRONG.read_text().splitlines()
    wanted = [(number, found[1]) for number, line in enumerate(lines, 1) if (found := REFUSED.search(line))]
    assert len(wanted) >= 10
    assert errors_of(str(WRONG)) == wanted
