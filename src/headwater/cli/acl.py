"""`headwater acl`: which operations users may do on which topic, group, transactional id, user or token, or on the cluster.

All requests go through the wire client: librdkafka does not know users and tokens as resources, and gives an empty list of
entries if the broker refuses.
"""

from typing import Annotated

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError, quantity
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.wire import check, wire_of
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.delete_acls import DeleteAclsRequest
from headwater.protocol.messages.describe_acls import DescribeAclsRequest
from headwater.security.acls import CLUSTER_NAME, OPERATIONS, Operation, PatternType, Permission, ResourceType

app = Commands()
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transaction": ResourceType.TRANSACTIONAL_ID,
    "user": ResourceType.USER,
    "token": ResourceType.DELEGATION_TOKEN,
    "cluster": ResourceType.CLUSTER,
}
FORMS = "topic:NAME, group:NAME, transaction:ID, user:NAME, token:ID or cluster"
USER_PREFIX = "User:"  # of the resource that stands for a user
FIRST_WITH_PATTERNS = 1  # of CreateAcls, DeleteAcls and DescribeAcls
Principal = Annotated[
    str, Argument("PRINCIPAL", help="User:NAME, User:* for all users, or Group:NAME for a group that tokens name.")
]
Resource = Annotated[
    str,
    Argument(
        "RESOURCE",
        help=f"{FORMS}; NAME may end with *.",
    ),
]
Operations = Annotated[
    list[str],
    Argument("OPERATION…", help="An operation, such as read, write, create or describe; or all."),
]
Host = Annotated[str, Option(help="An IP address or a CIDR range; * stands for any address.")]
Deny = Annotated[bool, Option("--deny", help="Deny instead of allow.")]


def read_resource(text: str) -> tuple[ResourceType, str, PatternType]:
    """Parses a resource. Raises CommandError."""
    kind, colon, name = text.partition(":")
    if kind == "cluster" and not colon:
        return ResourceType.CLUSTER, CLUSTER_NAME, PatternType.LITERAL
    if kind not in KINDS or not name:
        raise CommandError(f"{text!r} is not {FORMS}")
    if kind == "user" and name != "*":
        name = USER_PREFIX + name
    if name.endswith("*") and name != "*":
        return KINDS[kind], name[:-1], PatternType.PREFIXED
    return KINDS[kind], name, PatternType.LITERAL


def resource_text(kind: int, name: str, pattern: int) -> str:
    """A resource as it is written on the command line."""
    names = {resource_type: name for name, resource_type in KINDS.items()}
    if kind == ResourceType.USER:
        name = name.removeprefix(USER_PREFIX)
    return f"{names[ResourceType(kind)]}:{name}{'*' if pattern == PatternType.PREFIXED else ''}"


def read_operation(text: str) -> Operation:
    """Parses an operation. Raises CommandError."""
    name = text.upper().replace("-", "_")
    if name in ("ANY", "UNKNOWN") or name not in Operation.__members__:
        known = ", ".join(sorted(n.lower() for n in Operation.__members__ if n not in ("ANY", "UNKNOWN")))
        raise CommandError(f"unknown operation {text!r}; known operations: {known}")
    return Operation[name]


def check_principal(text: str) -> None:
    """Raises CommandError."""
    kind, _, name = text.partition(":")
    if not kind or not name:
        raise CommandError(f"{text!r} is not a principal: User:NAME, User:* for all users, or Group:NAME")


def check_operation(operation: Operation, kind: ResourceType, resource: str) -> None:
    """Raises CommandError if the operation does not exist on such a resource: brokers accept it, but it has no effect."""
    possible = OPERATIONS[kind]
    if operation is not Operation.ALL and operation not in possible:
        known = ", ".join(sorted(one.name.lower() for one in possible))
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
    permission = Permission.DENY if deny else Permission.ALLOW
    kind, name, pattern = read_resource(resource)
    wanted = [read_operation(operation) for operation in operations]
    for operation in wanted:
        check_operation(operation, kind, resource)
    entry = CreateAclsRequest.AclCreation
    entries = [entry(kind, name, pattern, principal, host, operation, permission) for operation in wanted]
    with wire_of(connection) as broker:
        answer = broker.ask(CreateAclsRequest(entries), at_least=FIRST_WITH_PATTERNS)
    for result in answer.results:
        check(result.error_code, f"adding entries for {principal} on {resource}", result.error_message)
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
    wanted = [read_operation(operation) for operation in operations or ()] or [Operation.ANY]
    selection = DeleteAclsRequest.DeleteAclsFilter
    filters = [selection(kind, name, pattern, principal, None, operation, Permission.ANY) for operation in wanted]
    with wire_of(connection) as broker:
        answer = broker.ask(DeleteAclsRequest(filters), at_least=FIRST_WITH_PATTERNS)
    removed = [entry for result in answer.filter_results for entry in result.matching_acls]
    for result in (*answer.filter_results, *removed):
        check(result.error_code, f"removing entries of {principal} on {resource}", result.error_message)
    if not removed:
        raise CommandError(f"{principal} has no such entry on {resource}; headwater acl list shows them all")
    print(f"Removed {quantity(len(removed), 'entry', 'entries')} of {principal} on {resource}")


@app.command("list", help="List the entries.")
def list_acls(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    every = DescribeAclsRequest(ResourceType.ANY, None, PatternType.ANY, None, None, Operation.ANY, Permission.ANY)
    with wire_of(connection) as broker:
        answer = broker.ask(every, at_least=FIRST_WITH_PATTERNS)
    check(answer.error_code, "listing entries", answer.error_message)
    rows = [
        {
            "principal": entry.principal,
            "permission": Permission(entry.permission_type).name.lower(),
            "operation": Operation(entry.operation).name.lower(),
            "resource": resource_text(found.resource_type, found.resource_name, found.pattern_type),
            "host": entry.host,
        }
        for found in answer.resources
        for entry in found.acls
    ]
    show(sorted(rows, key=lambda row: tuple(row.values())), output)
