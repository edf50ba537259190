"""Functions as commands: how words become their parameters, and how a shell completes them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.cli.app import app
from headwater.cli.command import Command, Commands, Parameter
from headwater.cli.completion import candidates
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option


class Form(StrEnum):
    A = "a"
    B = "b"


def names(connection: Connection, incomplete: str) -> list[str]:
    return [f"{incomplete}-of-{connection.bootstrap}-{connection.profile}"]


def unknown(connection: Connection, incomplete: str) -> list[str]:
    raise CommandError("no broker")


def example(
    words: Annotated[list[str], Argument("WORD", complete=names)],
    form: Annotated[Form, Option("--form", "-f", help="100 % of it.")] = Form.A,
    number: Annotated[int | None, Option("--number", min=1)] = None,
    each: Annotated[list[str] | None, Option("--each", "-e", complete=unknown)] = None,
    flag: Annotated[bool, Option()] = False,
    path: Annotated[Path | None, Option()] = None,
    connection: Connection = NO_OPTIONS,
) -> int:
    seen.append((words, form, number, each, flag, path, connection))
    return 3


seen: list[tuple[Any, ...]] = []
command = Command("headwater example", example, "An example.")


def run(*words: str) -> tuple[Any, ...]:
    assert command.run(list(words)) == 3
    return seen.pop()


def test_words_become_parameters() -> None:
    assert run("x") == (["x"], Form.A, None, None, False, None, NO_OPTIONS)
    assert run("x", "--form", "b", "y", "--number=2", "-e", "1", "-e", "2", "--flag", "--path", "p", "z") == (
        ["x", "y", "z"],
        Form.B,
        2,
        ["1", "2"],
        True,
        Path("p"),
        NO_OPTIONS,
    )
    assert run("x", "-b", "here:1", "-X", "a=b", "--profile", "p")[-1] == Connection("here:1", ["a=b"], None, "p")


@pytest.mark.parametrize("value", ["-", "-1", "--flag", "-%s", "-f b"])
def test_a_value_may_begin_with_a_dash(value: str) -> None:
    assert run("x", "--each", value)[3] == [value]
    assert run("x", "-e", value)[3] == [value]


def test_a_word_after_two_dashes_is_an_argument() -> None:
    assert run("--flag", "--", "--form")[0] == ["--form"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x", "--form", "c"], "'c' is not one of a, b"),
        (["x", "--number", "0"], "0 is less than 1"),
        (["x", "--number", "one"], "'one' is not a whole number"),
        (["x", "--nope"], "unrecognized arguments: --nope"),
        (["x", "--fl"], "unrecognized arguments: --fl"),
        ([], "required: WORD"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.run(words)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(CommandError, match="WORD is empty"):
        command.run([""])
    with pytest.raises(CommandError, match="--bootstrap-server is empty"):
        command.run(["x", "-b", ""])


def test_help_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.run(["--help"])
    shown = capsys.readouterr().out
    for text in ("--form a|b", "100 % of it.", "--number N", "--profile NAME", "An example."):
        assert text in shown


def test_a_parameter_that_cannot_be_typed_is_a_defect() -> None:
    with pytest.raises(TypeError, match="of several types"):
        Parameter("both", Annotated[int | str, Option()], None)
    with pytest.raises(TypeError, match="of type"):
        Parameter("pair", Annotated[dict, Option()], None)


@pytest.fixture
def tree() -> Commands:
    root = Commands("headwater", "A tree.")
    root.command("example", help="An example.")(example)
    root.command("other", help="Another.")(example)
    return root


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ["example", "other"]),
        (["ex"], ["example"]),
        (["nope", ""], []),
        (["example", "--fo"], ["--form"]),
        (["example", "--form", ""], ["a", "b"]),
        (["example", "--form=b"], ["--form=b"]),
        (["example", "-b", "h", "x"], ["x-of-h-None"]),
        (["example", "-b=h", "--profile=p", "x"], ["x-of-h-p"]),
        (["example", "one", "--form", "a", "two"], ["two-of-None-None"]),
        (["example", "--each", ""], []),
        (["example", "--path", ""], []),
    ],
)
def test_a_shell_completes(tree: Commands, words: list[str], found: list[str]) -> None:
    assert candidates(tree, words) == found


def test_the_real_tree_completes_options_of_up_and_of_nouns() -> None:
    assert "--listen" in candidates(app, ["up", "--"])
    assert candidates(app, ["topic", "de"]) == ["describe", "delete"]
    assert candidates(app, ["completion", "z"]) == ["zsh"]
