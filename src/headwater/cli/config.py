"""`headwater config`: the configurations of topics, brokers and groups."""

from collections.abc import Sequence
from typing import Annotated

import typer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource

from headwater.cli.errors import CommandError
from headwater.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Client, Output, OutputOption, admin, not_empty, show

app = typer.Typer(no_args_is_help=True)
KINDS = {
    "topic": ConfigResource.Type.TOPIC,
    "broker": ConfigResource.Type.BROKER,
    "group": ConfigResource.Type.GROUP,
}
Resource = Annotated[
    str, typer.Argument(callback=not_empty, metavar="RESOURCE", help="topic:NAME, broker:ID or group:NAME.")
]


def read_resource(text: str) -> ConfigResource:
    """Raises CommandError."""
    kind, _, name = text.partition(":")
    if kind not in KINDS or not name:
        raise CommandError(f"{text!r} is not topic:NAME, broker:ID or group:NAME")
    return ConfigResource(KINDS[kind], name)


def is_own(resource: ConfigResource, entry: ConfigEntry) -> bool:
    """Whether it was set on this resource: what a topic has from its broker is not its own."""
    if resource.restype == ConfigResource.Type.TOPIC:
        return bool(entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    return not entry.is_default


@app.command("show", help="Show configurations: those that were set, or all.")
def show_configs(
    resource: Resource,
    every: Annotated[bool, typer.Option("--all", help="Defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    wanted = read_resource(resource)
    kafka = admin(bootstrap, client)
    (future,) = kafka.describe_configs([wanted]).values()
    rows = [
        {"name": entry.name, "value": entry.value, "default": bool(entry.is_default)}
        for entry in sorted(kafka.wait(future, resource).values(), key=lambda entry: entry.name)
        if every or is_own(wanted, entry)
    ]
    show(rows, output)


@app.command("set", help="Set configurations, NAME=VALUE each.")
def set_configs(
    resource: Resource,
    values: Annotated[list[str], typer.Argument(callback=not_empty, metavar="NAME=VALUE…")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"{text!r} is not of the form NAME=VALUE")
        pairs.append((name, value))
    alter(
        resource, [ConfigEntry(n, v, incremental_operation=AlterConfigOpType.SET) for n, v in pairs], bootstrap, client
    )


@app.command(help="Take configurations back to their defaults.")
def unset(
    resource: Resource,
    names: Annotated[list[str], typer.Argument(callback=not_empty, metavar="NAME…")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    entries = [ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE) for name in names]
    alter(resource, entries, bootstrap, client)


def alter(resource: str, entries: Sequence[ConfigEntry], bootstrap: str, client: Client) -> None:
    wanted = read_resource(resource)
    for entry in entries:
        wanted.add_incremental_config(entry)
    kafka = admin(bootstrap, client)
    (future,) = kafka.incremental_alter_configs([wanted]).values()
    kafka.wait(future, resource)
    print(f"Changed {resource}")
