"""The wire client as commands use it: for requests for which librdkafka has no call."""

from collections.abc import Iterator
from contextlib import contextmanager

from headwater.cli.connection import TIMEOUT_MS, Connection
from headwater.client.errors import answered_error
from headwater.client.wire import Wire
from headwater.client.wire_settings import wire_settings


@contextmanager
def wire_of(connection: Connection) -> Iterator[Wire]:
    """A client of the cluster. Raises CommandError and ClientError."""
    settings = connection.settings()
    with Wire(wire_settings(settings["bootstrap.servers"], settings), timeout_ms=TIMEOUT_MS) as wire:
        yield wire


def check(code: int, what: str, message: str | None = None) -> None:
    """Raises ClientError for an error's code; `what` says what was being done."""
    if code:
        raise answered_error(code, what, message)
