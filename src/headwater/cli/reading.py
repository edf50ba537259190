"""Reads and prints records, for `headwater consume`."""

import base64
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError
from headwater.cli.options import moment_of
from headwater.client.admin import Admin
from headwater.client.connections import Notes, make_client, merge_settings
from headwater.client.errors import BrokerUnavailableError, client_error, translate
from headwater.client.positions import Partition

BATCH = 500
POLL_S = 0.25
FETCH_WAIT_MS = 50
IDLE_S = 10.0
ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


def json_line(message: Any) -> bytes:
    """A record as a JSON object on one line."""
    kind, timestamp_ms = message.timestamp()
    record = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": timestamp_ms if kind else None,
        "key": json_value(message.key()),
        "value": json_value(message.value()),
        "headers": [{"name": name, "value": json_value(value)} for name, value in message.headers() or ()],
    }
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def json_value(content: bytes | None) -> str | dict[str, str] | None:
    """Text stays text. Bytes that are not text are marked: {"base64": "/w=="}."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def constant(content: bytes) -> Callable[[Any], bytes]:
    return lambda message: content


def formatter(text: str) -> Callable[[Any], bytes]:
    """kcat's format letters: %s value, %S its size, %k key, %K its size, %t topic, %p partition, %o offset,
    %T timestamp, %h headers, %% a percent sign; \\n, \\t and so on. Raises CommandError.
    """
    letters: dict[str, Callable[[Any], bytes]] = {
        "s": lambda m: m.value() or b"",
        "S": lambda m: b"%d" % (-1 if m.value() is None else len(m.value())),
        "k": lambda m: m.key() or b"",
        "K": lambda m: b"%d" % (-1 if m.key() is None else len(m.key())),
        "t": lambda m: m.topic().encode(),
        "p": lambda m: b"%d" % m.partition(),
        "o": lambda m: b"%d" % m.offset(),
        "T": lambda m: b"%d" % m.timestamp()[1],
        "h": lambda m: b",".join(name.encode() + b"=" + (value or b"NULL") for name, value in m.headers() or ()),
        "%": lambda m: b"%",
    }
    parts: list[Callable[[Any], bytes]] = []
    for literal, letter, escape in re.findall(r"([^%\\]+)|%(.?)|\\(.?)", text, re.DOTALL):
        if literal:
            parts.append(constant(literal.encode()))
        elif letter in letters:
            parts.append(letters[letter])
        elif escape in ESCAPES and escape:
            parts.append(constant(ESCAPES[escape]))
        else:
            sign = f"%{letter}" if letter or not escape else f"\\{escape}"
            raise CommandError(f"--format does not know {sign!r}; it knows %s %S %k %K %t %p %o %T %h %% and \\n \\t")
    return lambda message: b"".join(part(message) for part in parts)


def start_positions(kafka: Admin, topic: str, partitions: list[int], start: str) -> list[TopicPartition]:
    """The first offset to read in each partition: beginning, end, -N (the last N), an offset, or a time. Raises CommandError."""
    if start == "beginning":
        return [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions]
    if start == "end":
        found = kafka.end_offsets(topic)
    elif re.fullmatch(r"-\d+", start):
        first, last = kafka.start_offsets(topic), kafka.end_offsets(topic)
        found = {partition: max(first[partition], end + int(start)) for partition, end in last.items()}
    elif start.isdecimal():
        return [TopicPartition(topic, p, int(start)) for p in partitions]
    else:
        found = kafka.offsets_at(topic, moment_of(start, "--from", "beginning, end, -10, an offset"))
    return [TopicPartition(topic, p, found[Partition(topic, p)]) for p in partitions]


def read_records(
    connection: Connection,
    topic: str,
    shape: Callable[[Any], bytes],
    *,
    start: str,
    group: str | None,
    follow: bool,
    count: int,
    partition: int | None,
) -> None:
    """Reads and prints records. Raises CommandError and ClientError."""
    given = connection.settings()
    notes = Notes()
    defaults = {
        "group.id": group or "headwater-consume",
        "enable.auto.commit": False,
        "enable.auto.offset.store": group is not None,
        "enable.partition.eof": True,
        "auto.offset.reset": "latest" if start == "end" else "earliest",
        "allow.auto.create.topics": False,
        # How long the broker waits before it answers that a partition has no more records, which ends the command.
        **({} if follow else {"fetch.wait.max.ms": FETCH_WAIT_MS}),
    }
    settings = merge_settings(given["bootstrap.servers"], defaults, given, notes)
    kafka = connection.admin()
    partitions = [found.partition for found in kafka.describe_topic(topic).partitions]
    if partition is not None:
        if partition not in partitions:
            raise CommandError(f"topic {topic} has partitions 0 to {len(partitions) - 1}")
        partitions = [partition]
    consumer: Any = make_client(Consumer, settings, "the consumer", notes)
    try:
        if group is not None:
            if start not in ("", "beginning", "end") or partition is not None:
                raise CommandError("a group reads from its own offsets; headwater group reset moves them")
            consumer.subscribe([topic])
        else:
            begin = start or ("end" if follow else "beginning")
            consumer.assign(start_positions(kafka, topic, partitions, begin))
        read(consumer, notes, len(partitions), shape, count, follow, group)
    except KafkaException as error:
        raise translate(error, f"reading {topic}") from error
    finally:
        consumer.close()


def next_messages(consumer: Consumer, most: int) -> list[Any]:
    """The messages that have arrived, or else the next one: `consume` alone would wait for the full number."""
    messages: list[Any] = consumer.consume(most, 0)
    if not messages and (first := consumer.poll(POLL_S)) is not None:
        messages = [first]
    return messages


def read(
    consumer: Consumer,
    notes: Notes,
    partitions: int,
    shape: Callable[[Any], bytes],
    count: int,
    follow: bool,
    group: str | None,
) -> None:
    """Prints until the end, the count or Ctrl-C. A group's offsets are committed after its records were printed."""
    commit = group is not None
    ended: set[tuple[str, int]] = set()
    shown = 0
    idle_since = time.perf_counter()
    out = sys.stdout.buffer
    while True:
        messages = next_messages(consumer, min(BATCH, count - shown) if count else BATCH)
        for message in messages:
            error = message.error()
            if error is None:
                out.write(shape(message))
                ended.discard((message.topic(), message.partition()))
                shown += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add((message.topic(), message.partition()))
            elif commit or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # needless without a group
                raise client_error(error, f"reading as group {group}" if group is not None else "reading")
        out.flush()
        if messages:
            notes.answered()
            idle_since = time.perf_counter()
        if commit and any(message.error() is None for message in messages):
            consumer.commit(asynchronous=False)
        if count and shown >= count:
            return
        if follow:
            continue
        idle_s = time.perf_counter() - idle_since
        if notes.is_down and idle_s > IDLE_S:
            raise BrokerUnavailableError(f"the broker no longer answers ({notes.failure})")
        mine = len(consumer.assignment()) if commit else partitions
        if len(ended) >= mine > 0:
            return
        if commit and mine == 0 and idle_s > IDLE_S:
            raise CommandError("the group assigned no partition to this member; other members have all of them")
