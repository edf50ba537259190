"""`headwater config`: the configurations of topics, brokers and groups."""

from collections.abc import Mapping
from typing import Annotated, get_args

import typer

from headwater.cli.errors import CommandError
from headwater.cli.options import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Client,
    Output,
    OutputOption,
    admin,
    not_empty,
    pair_of,
    show,
)
from headwater.client.descriptions import ResourceKind

app = typer.Typer(no_args_is_help=True)
KINDS: tuple[ResourceKind, ...] = get_args(ResourceKind)
Resource = Annotated[
    str, typer.Argument(callback=not_empty, metavar="RESOURCE", help="topic:NAME, broker:ID or group:NAME.")
]


def read_resource(text: str) -> tuple[ResourceKind, str]:
    """Raises CommandError."""
    kind, _, name = text.partition(":")
    for known in KINDS:
        if kind == known and name:
            return known, name
    raise CommandError(f"{text!r} is not topic:NAME, broker:ID or group:NAME")


@app.command("show", help="Show configurations: those that were set, or all.")
def show_configs(
    resource: Resource,
    every: Annotated[bool, typer.Option("--all", help="Defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kind, name = read_resource(resource)
    found = admin(bootstrap, client).describe_configs(name, kind=kind)
    rows = [
        {"name": key, "value": config.value, "default": config.is_default}
        for key, config in sorted(found.items())
        if every or config.is_own
    ]
    show(rows, output)


@app.command("set", help="Set configurations, NAME=VALUE each.")
def set_configs(
    resource: Resource,
    values: Annotated[list[str], typer.Argument(callback=not_empty, metavar="NAME=VALUE…")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    alter(resource, dict(pair_of(text, "", "NAME=VALUE") for text in values), bootstrap, client)


@app.command(help="Take configurations back to their defaults.")
def unset(
    resource: Resource,
    names: Annotated[list[str], typer.Argument(callback=not_empty, metavar="NAME…")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    alter(resource, dict.fromkeys(names), bootstrap, client)


def alter(resource: str, values: Mapping[str, str | None], bootstrap: str, client: Client) -> None:
    kind, name = read_resource(resource)
    admin(bootstrap, client).set_configs(name, values, kind=kind)
    print(f"Changed {resource}")
