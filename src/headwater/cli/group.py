"""`headwater group`: list, describe, reset, delete."""

import re
from datetime import datetime
from typing import Annotated, Any

import typer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headwater.cli.completion import complete_groups
from headwater.cli.errors import CommandError, counted, fail
from headwater.cli.options import (
    DEFAULT_BOOTSTRAP,
    TIMEOUT_S,
    Administrator,
    Bootstrap,
    Client,
    Output,
    OutputOption,
    admin,
    not_empty,
    show,
)

app = typer.Typer(no_args_is_help=True)


@app.command("list", help="List groups.")
def list_groups(
    output: OutputOption = Output.TABLE, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, client: Client = None
) -> None:
    kafka = admin(bootstrap, client)
    found = kafka.wait(kafka.list_consumer_groups(request_timeout=TIMEOUT_S))
    for error in found.errors:
        fail(error, kafka.contact)
    rows = [
        {"group": g.group_id, "state": state_name(g.state)} for g in sorted(found.valid, key=lambda g: str(g.group_id))
    ]
    show(rows, output)


def state_name(state: Any) -> str:
    return str(state.name).replace("_", " ").title().replace(" ", "")


@app.command(help="Show members, positions and lag.")
def describe(
    name: Annotated[str, typer.Argument(callback=not_empty, metavar="GROUP", autocompletion=complete_groups)],
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    group = kafka.wait(kafka.describe_consumer_groups([name], request_timeout=TIMEOUT_S)[name], f"group {name}")
    owners = {(p.topic, p.partition): member for member in group.members for p in member.assignment.topic_partitions}
    positions = committed(kafka, name)
    if not owners and not positions and state_name(group.state) == "Dead":
        raise CommandError(f"group {name} does not exist; headwater group list shows those that do")
    ends = end_offsets(kafka, sorted({*owners, *positions}))
    rows = []
    for key in sorted(ends):
        offset, member = positions.get(key), owners.get(key)
        rows.append(
            {
                "topic": key[0],
                "partition": key[1],
                "offset": offset,
                "end": ends[key],
                "lag": None if offset is None else ends[key] - offset,
                "member": None if member is None else member.member_id,
                "host": None if member is None else member.host,
            }
        )
    if output is Output.JSON:
        state = {"group": name, "state": state_name(group.state), "members": len(group.members), "partitions": rows}
        show([state], output)
        return
    print(f"{name}  {state_name(group.state)}  {counted(len(group.members), 'member', 'members')}")
    show(rows, output)


def committed(kafka: Administrator, name: str) -> dict[tuple[str, int], int]:
    result = kafka.wait(kafka.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name], f"group {name}")
    return {(p.topic, p.partition): p.offset for p in result.topic_partitions if p.offset >= 0}


def end_offsets(kafka: Administrator, keys: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    return offsets_by(kafka, keys, OffsetSpec.latest())


def offsets_by(kafka: Administrator, keys: list[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    if not keys:
        return {}
    wanted = {TopicPartition(*key): spec for key in keys}
    return {
        (p.topic, p.partition): kafka.wait(future, f"topic {p.topic}").offset
        for p, future in kafka.list_offsets(wanted).items()
    }


@app.command(help="Move a group that has no members to other offsets.")
def reset(
    name: Annotated[str, typer.Argument(callback=not_empty, metavar="GROUP", autocompletion=complete_groups)],
    topic: Annotated[list[str] | None, typer.Option("--topic", "-t", help="Default: all topics it has read.")] = None,
    to: Annotated[
        str, typer.Option("--to", help="beginning, end, an offset, +N or -N from where it is, or a time.")
    ] = "beginning",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the result without applying it.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    before = committed(kafka, name)
    keys = sorted(before)
    if topic:
        topics = kafka.metadata().topics
        missing = [t for t in topic if t not in topics]
        if missing:
            raise CommandError(f"topic {missing[0]} does not exist")
        keys = [(t, p) for t in topic for p in sorted(topics[t].partitions)]
    if not keys:
        raise CommandError(f"group {name} has no offsets; name topics with --topic")
    after = reset_targets(kafka, keys, before, to)
    if not dry_run:
        offsets = [TopicPartition(*key, offset) for key, offset in after.items()]
        kafka.wait(
            kafka.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, offsets)])[name], f"group {name}"
        )
    rows = [
        {"topic": key[0], "partition": key[1], "before": before.get(key), "after": offset}
        for key, offset in after.items()
    ]
    show(rows, output)


def reset_targets(
    kafka: Administrator, keys: list[tuple[str, int]], before: dict[tuple[str, int], int], to: str
) -> dict[tuple[str, int], int]:
    """The offset to move each partition to, within what it has. Raises CommandError."""
    first, last = offsets_by(kafka, keys, OffsetSpec.earliest()), end_offsets(kafka, keys)
    if to == "beginning":
        return first
    if to == "end":
        return last
    if re.fullmatch(r"[+-]\d+", to):
        wanted = {key: before.get(key, first[key]) + int(to) for key in keys}
    elif to.isdigit():
        wanted = dict.fromkeys(keys, int(to))
    else:
        try:
            moment = datetime.fromisoformat(to)
        except ValueError:
            raise CommandError(
                f"--to {to!r} is not beginning, end, an offset, +N, -N, or a time like 2026-11-01T10:00"
            ) from None
        found = offsets_by(kafka, keys, OffsetSpec.for_timestamp(int(moment.timestamp() * 1000)))
        wanted = {key: offset if offset >= 0 else last[key] for key, offset in found.items()}
    return {key: min(max(offset, first[key]), last[key]) for key, offset in wanted.items()}


@app.command(help="Delete groups that have no members, with their offsets.")
def delete(
    names: Annotated[list[str], typer.Argument(callback=not_empty, metavar="GROUP...", autocompletion=complete_groups)],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    for name, future in kafka.delete_consumer_groups(names, request_timeout=TIMEOUT_S).items():
        kafka.wait(future, f"group {name}")
        print(f"Deleted {name}")
