"""Every command in a document is one that there is, with options that there are. `test_walks` runs them."""

from pathlib import Path

import pytest

from headwater.cli.app import app
from headwater.cli.command import Command, Commands
from headwater.cli.up import parser
from tests.docs.consoles import Shown, commands_in

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*(ROOT / name for name in ("README.md", "SECURITY.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def all_commands() -> list[tuple[str, Shown]]:
    return [
        (str(path.relative_to(ROOT)), shown)
        for path in DOCUMENTS
        for shown in commands_in(path.read_text())
        if shown.headwater is not None
    ]


def check_usage(arguments: list[str]) -> None:
    """Raises what the command line raises for a command, option or value that it does not have."""
    if arguments[0] == "up":
        parser().parse_args(arguments[1:])
        return
    found: Command | Commands | None = app
    words = list(arguments)
    while isinstance(found, Commands):
        assert words, arguments
        found = found.find(words.pop(0))
    assert found is not None, f"headwater has no {arguments}"
    found.parse(words)


@pytest.mark.parametrize(
    ("document", "shown"), all_commands(), ids=lambda value: value.line if isinstance(value, Shown) else ""
)
def test_each_command_is_one_that_there_is(document: str, shown: Shown) -> None:
    assert shown.headwater is not None
    check_usage(shown.headwater)


@pytest.mark.parametrize(
    "line", ["headwater topics list", "headwater topic create a --partition 3", "headwater up --datum x"]
)
def test_a_wrong_command_is_found(line: str) -> None:
    arguments = Shown(line, "").headwater
    assert arguments is not None
    with pytest.raises((AssertionError, SystemExit)):
        check_usage(arguments)
