"""`headwater config`: the configurations of topics, brokers and groups."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, pair_of, show

if TYPE_CHECKING:
    from headwater.client.descriptions import ResourceKind

app = Commands()
KINDS: "tuple[ResourceKind, ...]" = ("topic", "broker", "group")
Resource = Annotated[str, Argument("RESOURCE", help="topic:NAME, broker:ID or group:NAME.")]


def read_resource(text: str) -> "tuple[ResourceKind, str]":
    """Parses a resource. Raises CommandError."""
    kind, _, name = text.partition(":")
    for known in KINDS:
        if kind == known and name:
            return known, name
    raise CommandError(f"{text!r} is not topic:NAME, broker:ID or group:NAME")


@app.command("show", help="Show the configurations that were set, or all with --all.")
def show_configs(
    resource: Resource,
    every: Annotated[bool, Option("--all", help="Show defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    kind, name = read_resource(resource)
    found = connection.admin().describe_configs(name, kind=kind)
    rows = [
        {"name": key, "value": config.value, "default": config.is_default}
        for key, config in sorted(found.items())
        if every or config.is_own
    ]
    show(rows, output)


@app.command("set", help="Set configurations, given as NAME=VALUE.")
def set_configs(
    resource: Resource,
    values: Annotated[list[str], Argument("NAME=VALUE…")],
    connection: Connection = NO_OPTIONS,
) -> None:
    alter(resource, dict(pair_of(text, "", "NAME=VALUE") for text in values), connection)


@app.command(help="Reset configurations to their defaults.")
def unset(
    resource: Resource,
    names: Annotated[list[str], Argument("NAME…")],
    connection: Connection = NO_OPTIONS,
) -> None:
    alter(resource, dict.fromkeys(names), connection)


def alter(resource: str, values: Mapping[str, str | None], connection: Connection) -> None:
    kind, name = read_resource(resource)
    connection.admin().set_configs(name, values, kind=kind)
    print(f"Changed {resource}")
