"""`headwater acl`: which operations users may do on which topic, group or transactional id, or on the cluster."""

from typing import Annotated

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError, quantity
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.wire import check, wire_of
from headwater.protocol.messages.describe_acls import DescribeAclsRequest
from headwater.security import acls

app = Commands()
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transaction": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}
CLUSTER_NAME = "kafka-cluster"
FIRST_WITH_PATTERNS = 1  # of DescribeAcls
Principal = Annotated[str, Argument("PRINCIPAL", help="User:NAME, or User:* for all users.")]
Resource = Annotated[
    str,
    Argument(
        "RESOURCE",
        help="topic:NAME, group:NAME, transaction:ID or cluster; NAME may end with *.",
    ),
]
Operations = Annotated[
    list[str],
    Argument("OPERATION…", help="An operation, such as read, write, create or describe; or all."),
]
Host = Annotated[str, Option(help="An IP address or a CIDR range; * stands for any address.")]
Deny = Annotated[bool, Option("--deny", help="Deny instead of allow.")]


def read_resource(text: str) -> tuple[ResourceType, str, ResourcePatternType]:
    """Parses a resource. Raises CommandError."""
    kind, colon, name = text.partition(":")
    if kind == "cluster" and not colon:
        return KINDS["cluster"], CLUSTER_NAME, ResourcePatternType.LITERAL
    if kind not in KINDS or not name:
        raise CommandError(f"{text!r} is not topic:NAME, group:NAME, transaction:ID or cluster")
    if name.endswith("*") and name != "*":
        return KINDS[kind], name[:-1], ResourcePatternType.PREFIXED
    return KINDS[kind], name, ResourcePatternType.LITERAL


def read_operation(text: str) -> AclOperation:
    """Parses an operation. Raises CommandError."""
    name = text.upper().replace("-", "_")
    if name in ("ANY", "UNKNOWN") or name not in AclOperation.__members__:
        known = ", ".join(sorted(n.lower() for n in AclOperation.__members__ if n not in ("ANY", "UNKNOWN")))
        raise CommandError(f"unknown operation {text!r}; known operations: {known}")
    return AclOperation[name]


def check_principal(text: str) -> None:
    """Raises CommandError."""
    kind, _, name = text.partition(":")
    if not kind or not name:
        raise CommandError(f"{text!r} is not a principal: User:NAME, or User:* for all users")


def check_operation(operation: AclOperation, kind: ResourceType, resource: str) -> None:
    """Raises CommandError if the operation does not exist on such a resource: brokers accept it, but it has no effect."""
    possible = acls.OPERATIONS[acls.ResourceType(kind.value)]
    if operation is not AclOperation.ALL and acls.Operation(operation.value) not in possible:
        known = ", ".join(sorted(one.name.lower() for one in possible if one.name in AclOperation.__members__))
        raise CommandError(f"{operation.name.lower()} has no effect on {resource}; use all, {known}")


@app.command(help="Allow operations, or deny them with --deny.")
def add(
    principal: Principal,
    resource: Resource,
    operations: Operations,
    host: Host = "*",
    deny: Deny = False,
    connection: Connection = NO_OPTIONS,
) -> None:
    check_principal(principal)
    permission = AclPermissionType.DENY if deny else AclPermissionType.ALLOW
    kind, name, pattern = read_resource(resource)
    wanted = [read_operation(operation) for operation in operations]
    for operation in wanted:
        check_operation(operation, kind, resource)
    entries = [AclBinding(kind, name, pattern, principal, host, operation, permission) for operation in wanted]
    kafka = connection.admin()
    kafka.call(lambda raw: raw.create_acls(entries), f"adding entries for {principal} on {resource}")
    print(f"Added {quantity(len(entries), 'entry', 'entries')} for {principal} on {resource}")


@app.command(help="Remove a principal's entries on a resource: those of the named operations, or all.")
def remove(
    principal: Principal,
    resource: Resource,
    operations: Annotated[list[str] | None, Argument("[OPERATION…]")] = None,
    connection: Connection = NO_OPTIONS,
) -> None:
    check_principal(principal)
    kind, name, pattern = read_resource(resource)
    wanted = [read_operation(operation) for operation in operations or ()] or [AclOperation.ANY]
    filters = [
        AclBindingFilter(kind, name, pattern, principal, None, operation, AclPermissionType.ANY) for operation in wanted
    ]
    kafka = connection.admin()
    found = kafka.call(lambda raw: raw.delete_acls(filters), f"removing entries of {principal} on {resource}")
    removed = [entry for entries in found.values() for entry in entries]
    if not removed:
        raise CommandError(f"{principal} has no such entry on {resource}; headwater acl list shows them all")
    print(f"Removed {quantity(len(removed), 'entry', 'entries')} of {principal} on {resource}")


@app.command("list", help="List the entries.")
def list_acls(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    # Not through librdkafka, which gives an empty list if the broker refuses.
    every = DescribeAclsRequest(
        acls.ResourceType.ANY, None, acls.PatternType.ANY, None, None, acls.Operation.ANY, acls.Permission.ANY
    )
    with wire_of(connection) as broker:
        answer = broker.ask(every, at_least=FIRST_WITH_PATTERNS)
    check(answer.error_code, "listing entries", answer.error_message)
    names = {kind.value: name for name, kind in KINDS.items()}
    rows = [
        {
            "principal": entry.principal,
            "permission": acls.Permission(entry.permission_type).name.lower(),
            "operation": acls.Operation(entry.operation).name.lower(),
            "resource": f"{names.get(kind := found.resource_type) or acls.ResourceType(kind).name.lower()}"
            f":{found.resource_name}{'*' if found.pattern_type == acls.PatternType.PREFIXED else ''}",
            "host": entry.host,
        }
        for found in answer.resources
        for entry in found.acls
    ]
    show(sorted(rows, key=lambda row: tuple(row.values())), output)
