"""Access control lists: who may do what to which resource, by the rules of Kafka's authorizer.

    1. a super user may do everything
    2. one matching DENY refuses, whatever else matches
    3. one matching ALLOW allows; READ, WRITE, DELETE and ALTER allow DESCRIBE, ALTER_CONFIGS allows DESCRIBE_CONFIGS
    4. for a resource to which no entry applies, allow.everyone.if.no.acl.found decides
    5. everything else is refused

An entry applies to a resource by its name (`LITERAL`, where `*` is every name) or by the beginning of its name
(`PREFIXED`). It names a principal (`User:alice`, or `User:*`), a host (an address, a CIDR range or `*`) and an operation.
For example, ALLOW READ on the prefix `pay` for `User:alice` lets alice read the topics `payments` and `payouts`, and rule 3
lets her describe them. A client has one user, and may have groups (`Group:billing`), which its token names: what an entry or
`super.users` says of one of them counts for the client, so rule 2 is about its groups too.

Sources: StandardAuthorizerData.java, KIP-290 (prefixes), KIP-1199 (ranges).
"""

import ipaddress
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

WILDCARD = "*"
ANYONE = "User:*"
ANONYMOUS = "User:ANONYMOUS"
CLUSTER_NAME = "kafka-cluster"


class Operation(IntEnum):
    """As the protocol numbers them."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class ResourceType(IntEnum):
    """As the protocol numbers them."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class PatternType(IntEnum):
    """As the protocol numbers them; ANY and MATCH are for filters."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    """As the protocol numbers them; ANY is for filters."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


class Acl(NamedTuple):
    """One entry."""

    resource_type: ResourceType
    name: str
    pattern_type: PatternType
    principal: str
    host: str
    operation: Operation
    permission: Permission


class AclFilter(NamedTuple):
    """Selects entries. None stands for any name, principal or host."""

    resource_type: ResourceType = ResourceType.ANY
    name: str | None = None
    pattern_type: PatternType = PatternType.ANY
    principal: str | None = None
    host: str | None = None
    operation: Operation = Operation.ANY
    permission: Permission = Permission.ANY

    def matches(self, acl: Acl) -> bool:
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self.matches_name(acl)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
        )

    def matches_name(self, acl: Acl) -> bool:
        """Whether the names match. MATCH selects every entry that applies to a resource of this name, ANY only this name."""
        if self.pattern_type not in (PatternType.ANY, PatternType.MATCH, acl.pattern_type):
            return False
        if self.name is None:
            return True
        return applies_to(acl, self.name) if self.pattern_type is PatternType.MATCH else acl.name == self.name


# What an ALLOW for the first allows as well (AclPermissionType's implied operations).
IMPLIED_BY: dict[Operation, frozenset[Operation]] = {
    Operation.DESCRIBE: frozenset({Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER}),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.ALTER_CONFIGS}),
}
# The operations that there are on each kind of resource (AclEntry.supportedOperations).
OPERATIONS: dict[ResourceType, tuple[Operation, ...]] = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
    ResourceType.TRANSACTIONAL_ID: (Operation.WRITE, Operation.DESCRIBE, Operation.TWO_PHASE_COMMIT),
    ResourceType.DELEGATION_TOKEN: (Operation.DESCRIBE,),
    ResourceType.USER: (Operation.CREATE_TOKENS, Operation.DESCRIBE_TOKENS),
}


def applies_to(acl: Acl, name: str) -> bool:
    """Whether an entry's pattern covers a resource of that name."""
    if acl.pattern_type is PatternType.PREFIXED:
        return name.startswith(acl.name)
    return acl.name in (name, WILDCARD)


@lru_cache(maxsize=4096)
def host_matches(pattern: str, host: str) -> bool:
    """Whether a client's address is the address, or in the range, that an entry names."""
    if pattern in (WILDCARD, host):
        return True
    if "/" not in pattern:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


class Acls:
    """All entries, and the decisions. Nothing is cached, so a change takes effect at once."""

    def __init__(self, super_users: Iterable[str] = (), *, allow_if_no_acl: bool = False) -> None:
        self.super_users = frozenset(super_users)
        self.allow_if_no_acl = allow_if_no_acl
        self.entries: dict[bytes, Acl] = {}  # by id
        self.literal: dict[tuple[ResourceType, str], list[Acl]] = {}
        self.prefixed: dict[ResourceType, list[Acl]] = {}

    # -- changes

    def add(self, acl_id: bytes, acl: Acl) -> None:
        self.entries[acl_id] = acl
        self.bucket(acl).append(acl)

    def remove(self, acl_id: bytes) -> None:
        acl = self.entries.pop(acl_id, None)
        if acl is not None:
            self.bucket(acl).remove(acl)

    def bucket(self, acl: Acl) -> list[Acl]:
        if acl.pattern_type is PatternType.PREFIXED:
            return self.prefixed.setdefault(acl.resource_type, [])
        return self.literal.setdefault((acl.resource_type, acl.name), [])

    def find(self, wanted: AclFilter) -> list[tuple[bytes, Acl]]:
        """The entries that a filter selects, with their ids."""
        return [(acl_id, acl) for acl_id, acl in self.entries.items() if wanted.matches(acl)]

    def __contains__(self, acl: Acl) -> bool:
        return acl in self.bucket(acl)

    # -- decisions

    def allows(
        self,
        principal: str,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        groups: tuple[str, ...] = (),
    ) -> bool:
        """Whether a principal at a host, who is in these groups, may do an operation on the resource of that name."""
        if self.is_super(principal, groups):
            return True
        mine = (principal, ANYONE, *groups)
        has_entry = is_allowed = False
        allowing = IMPLIED_BY.get(operation, frozenset()) | {operation, Operation.ALL}
        for acl in self.applying(resource_type, name):
            has_entry = True
            if acl.principal not in mine or not host_matches(acl.host, host):
                continue
            if acl.permission is Permission.DENY:
                if acl.operation in (operation, Operation.ALL):
                    return False
            elif acl.operation in allowing:
                is_allowed = True
        return is_allowed or (self.allow_if_no_acl and not has_entry)

    def applying(self, resource_type: ResourceType, name: str) -> Iterator[Acl]:
        yield from self.literal.get((resource_type, name), ())
        if name != WILDCARD:
            yield from self.literal.get((resource_type, WILDCARD), ())
        for acl in self.prefixed.get(resource_type, ()):
            if name.startswith(acl.name):
                yield acl

    def is_super(self, principal: str, groups: tuple[str, ...]) -> bool:
        return principal in self.super_users or (bool(groups) and not self.super_users.isdisjoint(groups))

    def allows_any(
        self,
        principal: str,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        groups: tuple[str, ...] = (),
    ) -> bool:
        """Whether there is any resource of that type on which the principal may do the operation (KIP-679)."""
        if self.is_super(principal, groups):
            return True
        principals = (principal, ANYONE, *groups)
        mine = [
            acl
            for acl in self.entries.values()
            if acl.resource_type is resource_type
            and acl.principal in principals
            and host_matches(acl.host, host)
            and acl.operation in (operation, Operation.ALL)
        ]
        denied = [acl for acl in mine if acl.permission is Permission.DENY]
        if any(acl.name == WILDCARD and acl.pattern_type is PatternType.LITERAL for acl in denied):
            return False
        allowed = [acl for acl in mine if acl.permission is Permission.ALLOW]
        return self.allow_if_no_acl or any(not is_covered(acl, denied) for acl in allowed)


def is_covered(acl: Acl, denied: list[Acl]) -> bool:
    """Whether the entries that deny cover everything that this entry allows."""
    for other in denied:
        if other.pattern_type is PatternType.PREFIXED and acl.name.startswith(other.name) and acl.name != WILDCARD:
            return True
        if other.pattern_type is acl.pattern_type is PatternType.LITERAL and other.name == acl.name:
            return True
    return False
