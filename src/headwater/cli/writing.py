"""Writes lines as records, for `headwater produce`."""

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError, line_of, quantity
from headwater.cli.options import pair_of
from headwater.client.deliveries import Delivery
from headwater.client.errors import ClientError
from headwater.client.producer import Producer

FLUSH_TIMEOUT_MS = 60_000.0
PROGRESS_EVERY = 100_000
LINE_BYTES_MAX = 64 << 20


class Written:
    """Counts the records that were written. Deliveries are checked in order, and then forgotten."""

    def __init__(self) -> None:
        self.delivered = self.sent = 0
        self.pending: deque[Delivery] = deque()

    def add(self, delivery: Delivery) -> None:
        self.pending.append(delivery)
        self.sent += 1

    def look(self) -> None:
        """Raises the ClientError of a record that was not written."""
        while self.pending and self.pending[0].is_done:
            self.pending[0].result(0)
            self.pending.popleft()
            self.delivered += 1

    def count(self) -> int:
        """How many records were written, including those after one that failed."""
        return self.delivered + sum(1 for delivery in self.pending if delivery.is_done and delivery.error is None)


def lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(LINE_BYTES_MAX):
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def open_input(file: Path | None) -> Any:
    if file is None:
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error


def write_records(
    connection: Connection,
    topic: str,
    file: Path | None,
    *,
    key: str | None,
    key_separator: str | None,
    header: list[str],
    partition: int,
    compression: str,
    null_empty: bool,
) -> None:
    """Reads lines and writes them as records. Raises CommandError and ClientError."""
    headers = [pair_of(text, "--header", "name=value") for text in header]
    separator = key_separator.encode() if key_separator else None
    fixed_key = key.encode() if key is not None else None
    settings = {"compression.type": compression, **connection.settings()}
    connection.admin().cluster()  # if no broker answers, nothing is read
    written = Written()
    try:
        with (
            open_input(file) as stream,
            Producer(settings["bootstrap.servers"], value=bytes, cloudevents="none", settings=settings) as producer,
        ):
            for line in lines(stream):
                record_key, value = fixed_key, line
                if separator is not None:
                    before, found, after = line.partition(separator)
                    if not found:
                        raise CommandError(f"line {written.sent + 1} has no {key_separator!r} between key and value")
                    record_key, value = before, after
                content = None if null_empty and not value else value
                written.add(producer.send(topic, content, key=record_key, headers=headers, partition=partition))
                written.look()
                if written.sent % PROGRESS_EVERY == 0 and sys.stderr.isatty():
                    print(f"\r{written.delivered} of {written.sent}", end="", file=sys.stderr)
            producer.flush(FLUSH_TIMEOUT_MS)
    except ClientError as error:
        raise CommandError(f"{records(written)} written, then: {line_of(error)}") from error
    print(f"{records(written)} written to {topic}", file=sys.stderr)


def records(written: Written) -> str:
    return quantity(written.count(), "record", "records")
