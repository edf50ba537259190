"""What several commands share: output formats, times and NAME=VALUE pairs."""

import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from headwater.cli.errors import CommandError
from headwater.cli.markers import Option


class Output(StrEnum):
    """How lists are shown."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, Option("--output", "-o", help="The format: a table or JSON.")]


def moment_of(text: str, option: str, others: str) -> datetime:
    """A time, in the zone of this machine unless it names one. Raises CommandError, which lists `others`, the alternatives."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise CommandError(f"{option} {text!r} is not {others}, or a time like 2026-11-01T10:00") from None


def pair_of(text: str, option: str, form: str) -> tuple[str, str]:
    """Splits NAME=VALUE. Raises CommandError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"{option} {text!r} is not of the form {form}".lstrip())
    return name, value


def show(rows: Sequence[dict[str, Any]], output: Output) -> None:
    """Prints rows that have the same keys as a table or as JSON."""
    if output is Output.JSON:
        import json

        print(json.dumps(list(rows), indent=2))
    elif rows:
        from headwater.cli.tables import has_colour, table, terminal_width

        for line in table(rows, terminal_width(sys.stdout), colour=has_colour(sys.stdout)):
            print(line)
