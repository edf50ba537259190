"""The commands in the documents: those of a tutorial are run and print what it shows, all others at least exist."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater as hw
from headwater.cli.app import app
from headwater.cli.command import Command, Commands
from headwater.cli.up import parser
from tests.cli.runner import invoke
from tests.docs.consoles import Shown, commands_in

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*(ROOT / name for name in ("README.md", "SECURITY.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ["README.md", "docs/tutorial/first-broker.md"]
CLIENTS = {"topic", "produce", "consume", "group", "config", "transaction", "cluster"}


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with hw.Broker() as broker:
        monkeypatch.setenv("HEADWATER_BOOTSTRAP_SERVER", broker.address)
        yield broker.address


def run_shown(shown: Shown, arguments: list[str]) -> str:
    """What it prints. Asserts that it succeeds."""
    fed = (
        subprocess.run(["bash", "-c", shown.feeding], capture_output=True, check=True).stdout if shown.feeding else b""
    )
    result = invoke(*arguments, stdin=fed.decode())
    assert result.exit_code == 0, (shown.line, result.output, result.exception)
    return result.output


@pytest.mark.parametrize("document", RUN)
@pytest.mark.usefixtures("address")
def test_what_a_document_shows_is_printed(document: str) -> None:
    """A command whose output a document leaves out is run all the same: later ones build on it."""
    count = 0
    for shown in commands_in((ROOT / document).read_text()):
        arguments = shown.headwater
        if arguments is None or arguments[0] not in CLIENTS:
            continue
        printed = run_shown(shown, arguments)
        if shown.output.strip():
            assert sorted(printed.split("\n")) == sorted(shown.output.split("\n")), shown.line
        count += 1
    assert count >= 3


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
