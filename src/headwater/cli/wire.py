"""The wire client as commands use it: for requests for which librdkafka has no call."""

from collections.abc import Iterator
from contextlib import contextmanager

from headwater.cli.connection import TIMEOUT_MS, Connection
from headwater.cli.errors import CommandError
from headwater.client.errors import ClientError, answered_error
from headwater.client.wire import Wire
from headwater.client.wire_settings import wire_settings


@contextmanager
def wire_of(connection: Connection) -> Iterator[Wire]:
    """A client of the cluster. Raises CommandError for all that goes wrong within."""
    settings = connection.settings()
    try:
        with Wire(wire_settings(settings["bootstrap.servers"], settings), timeout_ms=TIMEOUT_MS) as wire:
            yield wire
    except ClientError as error:
        raise CommandError(str(error)) from error


def check(code: int, what: str, message: str | None = None) -> None:
    """Raises CommandError for an error's code; `what` says what was being done."""
    if code:
        raise CommandError(str(answered_error(code, what, message)))
