"""`headwater quota`: how much users and client ids may use, and how many connections addresses may open."""

from typing import Annotated

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument
from headwater.cli.options import Output, OutputOption, pair_of, show
from headwater.cli.wire import check, wire_of
from headwater.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from headwater.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest

app = Commands()
USER, CLIENT_ID, IP = "user", "client-id", "ip"
SEPARATOR = ",client:"
HOW = "user:NAME, client:ID, user:NAME,client:ID or ip:ADDRESS; * in place of a name is for all that have no quota of their own"
QUOTAS = (
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "controller_mutation_rate",
    "connection_creation_rate",
)
NAMES = f"{', '.join(QUOTAS[:-1])} or {QUOTAS[-1]}"
Entity = Annotated[str, Argument("ENTITY", help=f"{HOW}.")]


def read_entity(text: str) -> dict[str, str | None]:
    """The entity's types with their names; None is the default. Raises CommandError."""
    first, separator, client = text.partition(SEPARATOR)
    kind, _, name = first.partition(":")
    parts = [(kind, name)] + ([("client", client)] if separator else [])
    types = {"user": USER, "client": CLIENT_ID, "ip": IP}
    if not all(name and kind in types for kind, name in parts) or (separator and kind != "user"):
        raise CommandError(f"{text!r} is not an entity: {HOW}")
    return {types[kind]: None if name == "*" else name for kind, name in parts}


def read_name(text: str) -> str:
    """Raises CommandError."""
    if text not in QUOTAS:
        raise CommandError(f"there is no quota {text!r}; there are {NAMES.replace(' or ', ' and ')}")
    return text


def read_value(text: str) -> tuple[str, float]:
    """Raises CommandError."""
    name, value = pair_of(text, "", "NAME=VALUE")
    read_name(name)
    try:
        return name, float(value)
    except ValueError:
        raise CommandError(f"{name}: {value!r} is not a number") from None


@app.command("list", help="List the quotas that are set.")
def list_quotas(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    with wire_of(connection) as broker:
        answer = broker.ask(DescribeClientQuotasRequest())
    check(answer.error_code, "listing quotas", answer.error_message)
    rows = [
        {
            "entity": entity_text({part.entity_type: part.entity_name for part in entry.entity}),
            "quota": v.key,
            "value": int(v.value) if v.value.is_integer() else v.value,
        }
        for entry in answer.entries
        for v in entry.values
    ]
    show(sorted(rows, key=lambda row: (row["entity"], row["quota"])), output)


def entity_text(names: dict[str, str | None]) -> str:
    shown = {"user": "user", CLIENT_ID: "client"}
    kinds = sorted(names, reverse=True)  # the user first
    return ",".join(f"{shown.get(kind, kind)}:{'*' if names[kind] is None else names[kind]}" for kind in kinds)


@app.command("set", help=f"Set quotas, NAME=VALUE each: {NAMES}.")
def set_quotas(
    entity: Entity,
    values: Annotated[list[str], Argument("NAME=VALUE…")],
    connection: Connection = NO_OPTIONS,
) -> None:
    alter(entity, [(name, value) for name, value in map(read_value, values)], connection)


@app.command(help="Remove quotas.")
def unset(
    entity: Entity,
    names: Annotated[list[str], Argument("NAME…")],
    connection: Connection = NO_OPTIONS,
) -> None:
    alter(entity, [(read_name(name), None) for name in names], connection)


def alter(text: str, values: list[tuple[str, float | None]], connection: Connection) -> None:
    data = AlterClientQuotasRequest
    parts = [data.EntityData(*part) for part in read_entity(text).items()]
    changes = [data.OpData(name, value or 0.0, value is None) for name, value in values]
    with wire_of(connection) as broker:
        answer = broker.ask(data([data.EntryData(parts, changes)]))
    result = answer.entries[0]
    check(result.error_code, f"changing the quotas of {text}", result.error_message)
    print(f"Changed the quotas of {text}")
