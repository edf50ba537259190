"""Options that several commands share, and the clients made of them."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli.errors import CommandError
from headwater.client.admin import Admin

TIMEOUT_MS = 10_000.0
CLIENT_CONFIG_VARIABLE = "HEADWATER_CLIENT_CONFIG"


class Output(StrEnum):
    """How lists are shown."""

    TABLE = "table"
    JSON = "json"


def not_empty(parameter: typer.CallbackParam, value: Any) -> Any:
    """Raises CommandError for an empty name: librdkafka and its binding take some for none, and end for others."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        name = parameter.metavar or parameter.opts[0]
        raise CommandError(f"{name} is empty; a variable of the shell that is not set is a usual cause")
    return value


Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-server",
        "-b",
        callback=not_empty,
        help="The Kafka cluster, host:port[,host:port].",
        envvar="HEADWATER_BOOTSTRAP_SERVER",
    ),
]
Client = Annotated[
    list[str] | None,
    typer.Option(
        "--client",
        "-X",
        help="A setting of librdkafka (TLS, SASL, …), key=value, or @FILE with one per line: passwords belong there, "
        f"or in the file that {CLIENT_CONFIG_VARIABLE} names.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


def client_settings(bootstrap: str, client: Sequence[str] | None) -> dict[str, Any]:
    """librdkafka's settings for a command. Raises CommandError."""
    texts: list[str] = []
    if path := os.environ.get(CLIENT_CONFIG_VARIABLE):
        texts += lines_of(path)
    for text in client or ():
        texts += lines_of(text[1:]) if text.startswith("@") else [text]
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--client {text!r} is neither key=value nor @FILE")
        settings[key.strip()] = value.strip()
    return settings


def moment_of(text: str, option: str, others: str) -> datetime:
    """A time, in the zone of this machine unless it names one. Raises CommandError, which lists the `others` that it may be."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise CommandError(f"{option} {text!r} is not {others}, or a time like 2026-11-01T10:00") from None


def pair_of(text: str, option: str, form: str) -> tuple[str, str]:
    """The name and the value of NAME=VALUE. Raises CommandError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"{option} {text!r} is not of the form {form}".lstrip())
    return name, value


def lines_of(path: str) -> list[str]:
    """The settings in a file, one per line; `#` begins a comment. Raises CommandError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"{path}: cannot be read: {reason}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def admin(bootstrap: str, client: Sequence[str] | None) -> Admin:
    """An Admin that does not wait for a broker to come up. Raises CommandError and ClientError."""
    settings = client_settings(bootstrap, client)
    return Admin(settings["bootstrap.servers"], timeout_ms=TIMEOUT_MS, fail_fast=True, settings=settings)


def show(rows: Sequence[dict[str, Any]], output: Output) -> None:
    """Prints rows of the same keys as a table, or as JSON."""
    if output is Output.JSON:
        print(json.dumps(list(rows), indent=2))
        return
    if not rows:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    width = None if sys.stdout.isatty() else max(200, int(os.environ.get("COLUMNS", "0") or 0))
    Console(width=width).print(table)
