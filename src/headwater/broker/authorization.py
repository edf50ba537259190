"""Whether a request may do what it asks for. Every handler asks here; without an authorizer all may do everything."""

from typing import TYPE_CHECKING

from headwater.security.acls import CLUSTER_NAME, OPERATIONS, Operation, ResourceType

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore
    from headwater.broker.dispatch import Request


def may(core: "BrokerCore", request: "Request", operation: Operation, kind: ResourceType, name: str) -> bool:
    """Whether the connection's principal may do that to the resource of that name."""
    acls = core.acls
    if acls is None:
        return True
    connection = request.connection
    return acls.allows(connection.principal, connection.address, operation, kind, name)


def may_topic(core: "BrokerCore", request: "Request", operation: Operation, name: str) -> bool:
    return may(core, request, operation, ResourceType.TOPIC, name)


def may_group(core: "BrokerCore", request: "Request", operation: Operation, name: str) -> bool:
    return may(core, request, operation, ResourceType.GROUP, name)


def may_transaction(core: "BrokerCore", request: "Request", operation: Operation, name: str) -> bool:
    return may(core, request, operation, ResourceType.TRANSACTIONAL_ID, name)


def may_cluster(core: "BrokerCore", request: "Request", operation: Operation) -> bool:
    return may(core, request, operation, ResourceType.CLUSTER, CLUSTER_NAME)


def may_write_something(core: "BrokerCore", request: "Request") -> bool:
    """What an idempotent producer needs: IDEMPOTENT_WRITE, or WRITE on some topic (KIP-679)."""
    if may_cluster(core, request, Operation.IDEMPOTENT_WRITE):
        return True
    connection = request.connection
    return core.acls is not None and core.acls.allows_any(
        connection.principal, connection.address, Operation.WRITE, ResourceType.TOPIC
    )


def authorized_operations(core: "BrokerCore", request: "Request", kind: ResourceType, name: str) -> int:
    """The bits of all operations that the principal may do there (KIP-430)."""
    return sum(1 << operation for operation in OPERATIONS[kind] if may(core, request, operation, kind, name))
