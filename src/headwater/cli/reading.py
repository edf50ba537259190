"""Reads and prints records, for `headwater consume`."""

import base64
import json
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError
from headwater.cli.options import moment_of
from headwater.cli.sources import GroupSource, Source, TopicSource
from headwater.client.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from headwater.client.admin import Admin
    from headwater.client.topic_offsets import StartPlace

BATCH = 500
FETCH_WAIT_MS = 50
IDLE_S = 10.0
PLACES: dict[str, Literal["earliest", "latest"]] = {"beginning": "earliest", "end": "latest"}
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
    return lambda message: b"".join([part(message) for part in parts])


def start_place(kafka: "Admin", topic: str, start: str) -> "StartPlace":
    """Where to begin: beginning, end, -N (the last N of each partition), an offset, or a time. Raises CommandError.

    A partition that does not have the offset begins at the nearest one that it has.
    """
    if start in PLACES:
        return PLACES[start]
    if re.fullmatch(r"-\d+", start):
        return int(start) or "latest"
    if start.isdecimal():
        first, last = kafka.start_offsets(topic), kafka.end_offsets(topic)
        return {place.partition: max(first[place], min(int(start), end)) for place, end in last.items()}
    return moment_of(start, "--from", "beginning, end, -10, an offset")


def open_source(
    connection: Connection, topic: str, *, start: str, group: str | None, follow: bool, partition: int | None
) -> Source:
    """Raises CommandError and ClientError."""
    settings = {
        "allow.auto.create.topics": False,
        # How long the broker waits before it answers that a partition has no more records, which ends the command.
        **({} if follow else {"fetch.wait.max.ms": FETCH_WAIT_MS}),
        **connection.settings(),
    }
    kafka = connection.admin()
    if group is None:
        from headwater.client.message_reader import MessageReader

        return TopicSource(
            MessageReader(
                kafka,
                topic,
                start=start_place(kafka, topic, start or ("end" if follow else "beginning")),
                end=None if follow else "latest",
                partitions=None if partition is None else [partition],
                # Records that are deleted while others are read are left out.
                settings={"auto.offset.reset": "earliest", **settings},
            )
        )
    if start not in ("", *PLACES) or partition is not None:
        raise CommandError("a group reads from its own offsets; headwater group reset moves them")
    from headwater.client.group_reader import GroupReader
    from headwater.client.group_settings import GroupSettings

    kafka.describe_topic(topic)  # a member of a group would wait for a topic that does not exist
    return GroupSource(
        GroupReader(
            GroupSettings(
                kafka.address,
                group,
                start=PLACES[start or "beginning"],
                commit="manual",
                settings={"enable.partition.eof": True, **settings},
            ),
            topic,
        )
    )


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
    source = open_source(connection, topic, start=start, group=group, follow=follow, partition=partition)
    try:
        print_records(source, shape, count, follow=follow)
    finally:
        source.close()


def print_records(source: Source, shape: Callable[[Any], bytes], count: int, *, follow: bool) -> None:
    """Prints until the end, the count or Ctrl-C. A group's offsets are committed after its records were printed."""
    shown = 0
    idle_since = time.perf_counter()
    out = sys.stdout.buffer
    while not count or shown < count:
        messages = source.read(min(BATCH, count - shown) if count else BATCH)
        if messages:
            out.writelines(map(shape, messages))
            out.flush()
            source.confirm()
            source.notes.answered()
            shown += len(messages)
            idle_since = time.perf_counter()
        if follow:
            continue
        if source.is_complete():
            return
        if time.perf_counter() - idle_since > IDLE_S:
            if source.notes.is_down:
                raise BrokerUnavailableError(f"the broker no longer answers ({source.notes.failure})")
            source.check_idle()
