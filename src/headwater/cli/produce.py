"""`headwater produce`: lines become records."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from confluent_kafka import KafkaError, Producer

from headwater.cli.completion import complete_topics
from headwater.cli.errors import CommandError, Contact, counted, kafka_message
from headwater.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Client, client_settings, made, not_empty

FLUSH_TIMEOUT_S = 60.0
SLICE_S = 0.2
PARTITIONER = "murmur2_random"  # as Java's producer: a key is in the same partition, whoever writes it
PROGRESS_EVERY = 100_000
LINE_BYTES_MAX = 64 << 20


class Deliveries:
    """What became of the records."""

    def __init__(self) -> None:
        self.delivered = 0
        self.error: KafkaError | None = None

    def report(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.delivered += 1
        elif self.error is None:
            self.error = error


def header_pairs(texts: list[str] | None) -> list[tuple[str, bytes]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--header {text!r} is not of the form name=value")
        pairs.append((name, value.encode()))
    return pairs


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


def produce(
    topic: Annotated[str, typer.Argument(callback=not_empty, metavar="TOPIC", autocompletion=complete_topics)],
    key: Annotated[str | None, typer.Option("--key", "-k", help="The key of every record.")] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-K", help="What stands between key and value in a line.")
    ] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="name=value, for every record.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read this instead of standard input.")] = None,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Default: by key.")] = None,
    compression: Annotated[str, typer.Option("--compression", "-z", help="none, gzip, snappy, lz4 or zstd.")] = "none",
    null_empty: Annotated[bool, typer.Option("--null-empty", help="An empty value is a null (a tombstone).")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    settings = client_settings(
        bootstrap,
        client,
        **{"compression.type": compression, "enable.idempotence": True, "partitioner": PARTITIONER},
    )
    contact: Contact = settings["error_cb"]
    headers = header_pairs(header)
    separator = key_separator.encode() if key_separator else None
    fixed_key = key.encode() if key is not None else None
    deliveries = Deliveries()
    sent = 0
    with open_input(file) as stream:
        producer = made(Producer, settings)
        for line in lines(stream):
            record_key, value = fixed_key, line
            if separator is not None:
                before, found, after = line.partition(separator)
                if not found:
                    raise CommandError(f"line {sent + 1} has no {key_separator!r} between key and value")
                record_key, value = before, after
            content = None if null_empty and not value else value
            send(producer, topic, content, record_key, headers, -1 if partition is None else partition, deliveries)
            sent += 1
            if sent % PROGRESS_EVERY == 0 and sys.stderr.isatty():
                print(f"\r{deliveries.delivered} of {sent}", end="", file=sys.stderr)
            if deliveries.error is not None:
                break
    left = flush(producer, contact, deliveries)
    written = f"{counted(deliveries.delivered, 'record', 'records')} written"
    if deliveries.error is not None:
        raise CommandError(f"{written}, then: {kafka_message(deliveries.error, contact, f'topic {topic}')}")
    if left:
        raise CommandError(f"{written}, {left} not confirmed: {contact.error()}")
    print(f"{written} to {topic}", file=sys.stderr)


def flush(producer: Producer, contact: Contact, deliveries: Deliveries) -> int:
    """Waits for what is under way; returns how many records were not confirmed.

    A broker that was never reached is not waited for; one that answered before may come back.
    """
    left = 0
    for _ in range(int(FLUSH_TIMEOUT_S / SLICE_S)):
        left = producer.flush(SLICE_S)
        if not left or (contact.is_lost and not deliveries.delivered):
            break
    if left:
        producer.purge()
    return left


def send(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    headers: list[tuple[str, bytes]],
    partition: int,
    deliveries: Deliveries,
) -> None:
    """Hands one record to librdkafka; waits while its queue is full."""
    while deliveries.error is None:
        try:
            producer.produce(
                topic, value, key, partition=partition, headers=headers or None, on_delivery=deliveries.report
            )
        except BufferError:
            producer.poll(0.1)
            continue
        producer.poll(0)
        return
