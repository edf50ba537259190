"""`headwater group`: list, describe, reset, delete."""

import re
from typing import TYPE_CHECKING, Annotated

from headwater.cli.command import Commands
from headwater.cli.completion import complete_groups
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError, quantity
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, moment_of, show

if TYPE_CHECKING:
    from headwater.client.admin import Admin
    from headwater.client.positions import Partition

app = Commands()


@app.command("list", help="List groups.")
def list_groups(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    show([{"group": g.group, "state": g.state} for g in connection.admin().list_groups()], output)


@app.command(help="Show members, positions and lag.")
def describe(
    name: Annotated[str, Argument("GROUP", complete=complete_groups)],
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    kafka = connection.admin()
    group = kafka.describe_group(name)
    owners = {partition: member for member, partitions in group.members.items() for partition in partitions}
    positions = kafka.committed(name)
    if not owners and not positions and group.state == "Dead":
        raise CommandError(f"group {name} does not exist; headwater group list shows the existing ones")
    keys = sorted({*owners, *positions})
    ends = {place: end for topic in {key.topic for key in keys} for place, end in kafka.end_offsets(topic).items()}
    rows = []
    for key in keys:
        offset, end, member = positions.get(key), ends.get(key), owners.get(key)
        rows.append(
            {
                "topic": key.topic,
                "partition": key.partition,
                "offset": offset,
                "end": end,
                "lag": None if offset is None or end is None else end - offset,
                "member": member,
                "host": None if member is None else group.hosts[member],
            }
        )
    if output is Output.JSON:
        state = {"group": name, "state": group.state, "members": len(group.members), "partitions": rows}
        show([state], output)
        return
    print(f"{name}  {group.state}  {quantity(len(group.members), 'member', 'members')}")
    show(rows, output)


@app.command(help="Reset the offsets of a group that has no members.")
def reset(
    name: Annotated[str, Argument("GROUP", complete=complete_groups)],
    topic: Annotated[
        list[str] | None, Option("--topic", "-t", help="Default: all topics that the group has read.")
    ] = None,
    to: Annotated[
        str, Option("--to", help="beginning, end, an offset, +N or -N from the current one, or a time.")
    ] = "beginning",
    dry_run: Annotated[bool, Option("--dry-run", help="Show the result without applying it.")] = False,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    kafka = connection.admin()
    before = kafka.committed(name)
    topics = set(topic or ())
    if not topics and not before:
        raise CommandError(f"group {name} has no committed offsets; name topics with --topic")
    after: dict[Partition, int] = {}
    for one in sorted(topics or {partition.topic for partition in before}):
        after |= reset_targets(kafka, one, before, to)
    if not topics:
        after = {partition: offset for partition, offset in after.items() if partition in before}
    if not dry_run:
        kafka.set_committed(name, after)
    rows = [
        {"topic": key.topic, "partition": key.partition, "before": before.get(key), "after": offset}
        for key, offset in sorted(after.items())
    ]
    show(rows, output)


def reset_targets(kafka: "Admin", topic: str, before: "dict[Partition, int]", to: str) -> "dict[Partition, int]":
    """The new offset of each partition of a topic, within its range. Raises CommandError."""
    first, last = kafka.start_offsets(topic), kafka.end_offsets(topic)
    if to == "beginning":
        return first
    if to == "end":
        return last
    if re.fullmatch(r"[+-]\d+", to):
        wanted = {key: before.get(key, first[key]) + int(to) for key in first}
    elif to.isdecimal():
        wanted = dict.fromkeys(first, int(to))
    else:
        wanted = kafka.offsets_at(topic, moment_of(to, "--to", "beginning, end, an offset, +N, -N"))
    return {key: min(max(offset, first[key]), last[key]) for key, offset in wanted.items()}


@app.command(help="Delete groups that have no members, and their offsets.")
def delete(
    names: Annotated[list[str], Argument("GROUP...", complete=complete_groups)],
    connection: Connection = NO_OPTIONS,
) -> None:
    kafka = connection.admin()
    for name in names:
        kafka.delete_group(name)
        print(f"Deleted {name}")
