"""Options that several commands share, and the clients made of them."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headwater.cli.errors import UNREACHABLE, CommandError, Contact, fail
from headwater.client.names import check_settings

TIMEOUT_S = 10.0
SLICE_S = 0.1
ASK_S = 1.0
CLIENT_CONFIG_VARIABLE = "HEADWATER_CLIENT_CONFIG"
Result = TypeVar("Result")


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


def client_settings(bootstrap: str, client: Sequence[str] | None, **more: object) -> dict[str, Any]:
    """librdkafka's settings for a command. Raises CommandError."""
    texts: list[str] = []
    if path := os.environ.get(CLIENT_CONFIG_VARIABLE):
        texts += lines_of(path)
    for text in client or ():
        texts += lines_of(text[1:]) if text.startswith("@") else [text]
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, **more}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--client {text!r} is neither key=value nor @FILE")
        settings[key.strip()] = value.strip()
    settings["error_cb"] = Contact(settings["bootstrap.servers"])
    return settings


def lines_of(path: str) -> list[str]:
    """The settings in a file, one per line; `#` begins a comment. Raises CommandError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"{path}: cannot be read: {reason}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def made(make: Callable[[dict[str, Any]], Result], settings: dict[str, Any]) -> Result:
    """A client of librdkafka. Raises CommandError for a setting that it refuses."""
    try:
        check_settings(settings)
        return make(settings)
    except KafkaException as error:
        fail(error.args[0])
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


class Administrator(AdminClient):  # type: ignore[misc] # confluent_kafka has no types
    """librdkafka's admin client, which says why the broker does not answer as soon as that is known."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.contact: Contact = settings["error_cb"]
        super().__init__(settings)

    def wait(self, future: Any, about: str = "") -> Any:
        """The result of one of the client's futures; `about` names what was asked for. Raises CommandError."""
        try:
            for _ in range(int(TIMEOUT_S / SLICE_S)):
                with contextlib.suppress(FutureTimeoutError):
                    return future.result(SLICE_S)
                self.check_contact()
        except KafkaException as error:
            self.poll(0)
            fail(error.args[0], self.contact, about)
        raise self.contact.error()

    def check_contact(self) -> None:
        """Raises CommandError when no answer can be expected."""
        self.poll(0)
        if self.contact.is_lost:
            raise self.contact.error()

    def metadata(self, topic: str | None = None) -> Any:
        """The cluster's metadata, or that of one topic. Raises CommandError."""
        return patient(self.contact, self.poll, partial(self.list_topics, topic))


def patient(contact: Contact, poll: Callable[[float], object], ask: Callable[[float], Result]) -> Result:
    """Asks until there is an answer, or it is known that there will be none. Raises CommandError."""
    for _ in range(int(TIMEOUT_S / ASK_S)):
        try:
            return ask(ASK_S)
        except KafkaException as error:
            poll(0)
            if contact.is_lost or error.args[0].code() not in UNREACHABLE:
                fail(error.args[0], contact)
    raise contact.error()


def admin(bootstrap: str, client: Sequence[str] | None) -> Administrator:
    """A client that has to be kept until its futures are done. Raises CommandError."""
    return made(Administrator, client_settings(bootstrap, client))


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
