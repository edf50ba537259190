"""Options that several commands share, and the clients made of them."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headwater.cli.errors import CommandError, fail

TIMEOUT_S = 10.0
Result = TypeVar("Result")


class Output(StrEnum):
    """How lists are shown."""

    TABLE = "table"
    JSON = "json"


Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-server",
        "-b",
        help="The Kafka cluster, host:port[,host:port].",
        envvar="HEADWATER_BOOTSTRAP_SERVER",
    ),
]
Client = Annotated[
    list[str] | None, typer.Option("--client", "-X", help="A setting of librdkafka, key=value (TLS, SASL, …).")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


def client_settings(bootstrap: str, client: Sequence[str] | None, **more: object) -> dict[str, Any]:
    """librdkafka's settings for a command. Raises CommandError."""
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, **more}
    for text in client or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--client {text!r} is not of the form key=value")
        settings[key] = value
    return settings


def made(make: Callable[[dict[str, Any]], Result], settings: dict[str, Any]) -> Result:
    """A client of librdkafka. Raises CommandError for a setting that it does not take."""
    try:
        return make(settings)
    except KafkaException as error:
        fail(error.args[0])
    except TypeError as error:
        raise CommandError(str(error)) from error


def admin(bootstrap: str, client: Sequence[str] | None) -> AdminClient:
    """A client that has to be kept until its futures are done. Raises CommandError."""
    return made(AdminClient, client_settings(bootstrap, client))


def wait(future: Any) -> Any:
    """The result of one of the admin client's futures. Raises CommandError."""
    try:
        return future.result(TIMEOUT_S)
    except KafkaException as error:
        fail(error.args[0])
    except TimeoutError:
        raise CommandError("no answer from the broker; is it running, and is --bootstrap-server right?") from None


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
