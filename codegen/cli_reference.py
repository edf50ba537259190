"""Writes docs/reference/cli.md from the commands themselves: their arguments, options, defaults and help.

`--check` changes nothing, and fails if the document differs from the commands. The text above the mark in the document is
written by hand.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from headwater.cli.app import app
from headwater.cli.command import Commands, Parameter
from headwater.cli.connection import CONNECTION_OPTIONS
from headwater.cli.up import parser

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
MARK = "<!-- from here on written by codegen/cli_reference.py -->\n"


class Option(NamedTuple):
    """A row of a table."""

    names: str
    text: str


class Command(NamedTuple):
    """A command as the document describes it."""

    words: str
    text: str
    arguments: tuple[str, ...]
    options: tuple[Option, ...]
    connects: bool


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def option_of(parameter: Parameter) -> Option:
    """A row for an option."""
    names = ", ".join(f"`{name}`" for name in parameter.options)
    value = "" if parameter.kind is bool else " " + ("\\|".join(parameter.choices) or parameter.metavar)
    text = cell(parameter.marker.help)
    text += " Repeatable." if parameter.is_list else ""
    text += " Required." if parameter.is_required else ""
    default = parameter.default
    if not parameter.is_required and default not in (None, False, "") and "Default:" not in text:
        text += f" Default: `{default}`."
    return Option(names + value, text.strip())


def commands(group: Commands) -> Iterator[Command]:
    """Every command of a group, in the order of the help; `up` is not one of them, because it parses its own options."""
    for name in group.entries:
        found = group.find(name)
        if isinstance(found, Commands):
            yield from commands(found)
        elif found is not None and found.words == "headwater up":
            yield up()
        elif found is not None:
            yield Command(
                found.words,
                found.text,
                tuple(argument_of(p) for p in found.parameters if not p.options),
                tuple(option_of(p) for p in found.parameters if p.options),
                connects=bool(found.connection),
            )


def argument_of(parameter: Parameter) -> str:
    name = parameter.metavar.strip("[]").removesuffix("...").removesuffix("…")
    name += "..." if parameter.is_list else ""
    return name if parameter.is_required else f"[{name}]"


def up() -> Command:
    """`headwater up`, whose options are parsed by argparse."""
    options = []
    for action in parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or ("\\|".join(action.choices) if action.choices else "")
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        text = cell((action.help or "").replace("%%", "%"))
        if not text.split(" ")[0].endswith(":"):  # a text that begins with a value of the option keeps its case
            text = text[:1].upper() + text[1:]
        text += "." if text and not text.endswith(".") else ""
        if action.choices:
            text += f" Default: `{action.default}`." if action.default else ""
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
        yield "It connects to a broker: [the options of a connection](#connection)."
        yield ""


def connection() -> Iterator[str]:
    """The options that all clients share, once."""
    yield from ("## Connection", "", "Every command that talks to a broker has these.", "", "| option | |", "|---|---|")
    for option in CONNECTION_OPTIONS:
        row = option_of(Parameter(*option))
        yield f"| {row.names} | {row.text} |"
    yield ""


def reference() -> str:
    lines = ["", *connection(), "## Commands", ""]
    for command in commands(app):
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
