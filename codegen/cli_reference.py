"""Writes docs/reference/cli.md from the commands themselves: their arguments, options, defaults and help.

`--check` changes nothing and fails where the document differs from the commands. What stands above the document's mark is
written by hand.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.main import get_command

from headwater.cli.app import app
from headwater.cli.up import parser

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
MARK = "<!-- from here on written by codegen/cli_reference.py -->\n"
TYPE_WORDS = {"STR": "TEXT", "STRING": "TEXT", "INT": "N", "INTEGER": "N", "FLOAT": "N"}
CONNECTION = ("bootstrap", "client")  # the parameters of every command that talks to a broker


class Option(NamedTuple):
    """A row of a table."""

    names: str
    text: str


class Command(NamedTuple):
    """A command as the document has it."""

    words: str
    text: str
    arguments: tuple[str, ...]
    options: tuple[Option, ...]
    connects: bool


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def shown_default(value: object) -> str:
    if value in (None, False, "", [], ()) or callable(value):
        return ""
    return f" Default: `{value!r}`." if isinstance(value, str) and "\n" in value else f" Default: `{value}`."


def value_name(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return " " + "\\|".join(str(getattr(choice, "value", choice)) for choice in choices)
    kind = (parameter.metavar or parameter.type.name).split()[0].upper()
    return f" {TYPE_WORDS.get(kind, kind)}"


def option_of(parameter: Any) -> Option:
    """A row for an option of one of typer's commands."""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    text = cell(parameter.help or "")
    if parameter.multiple:
        text += " Repeatable."
    if parameter.required:
        text += " Required."
    if parameter.envvar:
        text += f" Variable: `{parameter.envvar}`."
    default = parameter.default
    return Option(names + value_name(parameter), (text + shown_default(getattr(default, "value", default))).strip())


def commands(group: Any, words: str) -> Iterator[Command]:
    """Every command below a group, in the order of the help; `up` reads its options itself."""
    for name, command in group.commands.items():
        full = f"{words} {name}"
        if hasattr(command, "commands"):
            yield from commands(command, full)
        elif full == "headwater up":
            yield up()
        else:
            options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
            yield Command(
                full,
                (command.help or "").strip(),
                tuple(argument_of(p) for p in command.params if p.param_type_name == "argument"),
                tuple(option_of(p) for p in options if p.name not in CONNECTION),
                any(p.name in CONNECTION for p in options),
            )


def argument_of(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name or "").strip("[]{}").removesuffix("...").upper()
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def up() -> Command:
    """`headwater up`, which is argparse's."""
    options = []
    for action in parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or ("\\|".join(action.choices) if action.choices else "")
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        text = cell((action.help or "").replace("%%", "%"))
        if not text.split(" ")[0].endswith(":"):  # what begins with one of its values keeps it as it is typed
            text = text[:1].upper() + text[1:]
        text += "." if text and not text.endswith(".") else ""
        if action.choices:
            text += shown_default(action.default)
        options.append(Option(f"{names} {value}".rstrip(), text.strip()))
    return Command("headwater up", "Run the broker until Ctrl-C.", (), tuple(options), connects=False)


def section(command: Command) -> Iterator[str]:
    yield f"### {command.words}"
    yield ""
    usage = [command.words, *command.arguments, *(["[OPTIONS]"] if command.options or command.connects else [])]
    yield command.text
    yield ""
    yield "```text"
    yield " ".join(usage)
    yield "```"
    yield ""
    if command.options:
        yield "| option | |"
        yield "|---|---|"
        yield from (f"| {option.names} | {option.text} |" for option in command.options)
        yield ""
    if command.connects:
        yield "It connects to a broker: [`--bootstrap-server`, `--client`](#connection)."
        yield ""


def connection() -> Iterator[str]:
    """The options that all clients share, once."""
    topic: Any = get_command(app)
    shared = {p.name: p for p in topic.commands["consume"].params if p.name in CONNECTION}
    yield from ("## Connection", "", "Every command that talks to a broker has these.", "", "| option | |", "|---|---|")
    for name in CONNECTION:
        option = option_of(shared[name])
        yield f"| {option.names} | {option.text} |"
    yield ""


def reference() -> str:
    lines = ["", *connection(), "## Commands", ""]
    for command in commands(get_command(app), "headwater"):
        lines += section(command)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    text = DOCUMENT.read_text()
    wanted = text[: text.index(MARK) + len(MARK)] + reference()
    if "--check" not in sys.argv:
        DOCUMENT.write_text(wanted)
    elif wanted != text:
        print(f"{DOCUMENT.name} differs from the commands; run codegen/cli_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
