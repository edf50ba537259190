"""The options of `headwater produce` and `headwater consume`. `writing` and `reading` do the work, and take longer to import."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from headwater.cli.completion import complete_groups, complete_topics
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
TEXT_FORMAT = "%s\\n"


class Form(StrEnum):
    """The format in which records are printed."""

    TEXT = "text"
    JSON = "json"


def produce(
    topic: Annotated[str, Argument("TOPIC", complete=complete_topics)],
    key: Annotated[str | None, Option("--key", "-k", help="The key of every record.")] = None,
    key_separator: Annotated[
        str | None, Option("--key-separator", "-K", help="The text between key and value in each line.")
    ] = None,
    header: Annotated[list[str] | None, Option("--header", "-H", help="A header of every record, NAME=VALUE.")] = None,
    file: Annotated[Path | None, Option("--file", "-f", help="Read this file instead of standard input.")] = None,
    partition: Annotated[int | None, Option("--partition", "-p", min=0, help="Default: by key.")] = None,
    compression: Annotated[str, Option("--compression", "-z", choices=COMPRESSIONS, help="Default: none.")] = "none",
    null_empty: Annotated[bool, Option("--null-empty", help="Write empty values as null (tombstones).")] = False,
    connection: Connection = NO_OPTIONS,
) -> None:
    """The command."""
    from headwater.cli.writing import write_records

    write_records(
        connection,
        topic,
        file,
        key=key,
        key_separator=key_separator,
        header=header or [],
        partition=-1 if partition is None else partition,
        compression=compression,
        null_empty=null_empty,
    )


def consume(
    topic: Annotated[str, Argument("TOPIC", complete=complete_topics)],
    start: Annotated[
        str,
        Option(
            "--from", help="Where to begin: beginning, end, -10 (the last 10), an offset, or a time (2026-11-01T10:00)."
        ),
    ] = "",
    group: Annotated[
        str | None,
        Option("--group", "-g", help="Read as a member of this group.", complete=complete_groups),
    ] = None,
    follow: Annotated[bool, Option("--follow", "-f", help="At the end, wait for more records.")] = False,
    count: Annotated[int | None, Option("--count", "-c", min=1, help="Stop after this many records.")] = None,
    partition: Annotated[int | None, Option("--partition", "-p", min=0, help="Read only this partition.")] = None,
    format_: Annotated[
        str, Option("--format", help="kcat's format: %s value, %k key, %o offset, %p, %t, %T, %h. Default: %s\\n.")
    ] = "",
    output: Annotated[
        Form, Option("--output", "-o", help="The format: text, or one JSON object per line.")
    ] = Form.TEXT,
    connection: Connection = NO_OPTIONS,
) -> None:
    """The command."""
    from headwater.cli.reading import formatter, json_line, read_records

    if group == "":
        raise CommandError("--group is empty; leave it out to read without a group")
    if format_ and output is Form.JSON:
        raise CommandError("give either --format or --output json")
    read_records(
        connection,
        topic,
        json_line if output is Form.JSON else formatter(format_ or TEXT_FORMAT),
        start=start,
        group=group,
        follow=follow,
        count=count or 0,
        partition=partition,
    )
