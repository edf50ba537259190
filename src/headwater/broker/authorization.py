"""Whether a request is allowed. Every handler asks here. Without an authorizer everything is allowed.

The broker's own planes may use topics that begin with `__headwater_`, and nothing else. What a user asks of a plane runs on
a connection of that user, with that user's ACLs.
"""

from typing import Any, Protocol

from headwater.broker.cluster import PLAINTEXT
from headwater.broker.connection import Request
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.security.acls import ANONYMOUS, CLUSTER_NAME, OPERATIONS, Acls, Operation, ResourceType

PLANES_TOPICS = "__headwater_"


class AuthorizationParts(Protocol):
    """Decides what is allowed."""

    @property
    def acls(self) -> Acls | None:
        """The authorizer; None if there is none and everything is allowed."""
        ...


def may(broker: AuthorizationParts, request: Request, operation: Operation, kind: ResourceType, name: str) -> bool:
    """Whether the connection's principal may do that to the resource with that name."""
    acls = broker.acls
    if acls is None:
        return True
    connection = request.connection
    if connection.is_of_planes:
        return kind is ResourceType.TOPIC and name.startswith(PLANES_TOPICS)
    return acls.allows(connection.principal, connection.address, operation, kind, name, connection.groups)


def may_topic(broker: AuthorizationParts, request: Request, operation: Operation, name: str) -> bool:
    return broker.acls is None or may(broker, request, operation, ResourceType.TOPIC, name)


def may_group(broker: AuthorizationParts, request: Request, operation: Operation, name: str) -> bool:
    return may(broker, request, operation, ResourceType.GROUP, name)


def may_transaction(broker: AuthorizationParts, request: Request, operation: Operation, name: str) -> bool:
    return may(broker, request, operation, ResourceType.TRANSACTIONAL_ID, name)


def may_cluster(broker: AuthorizationParts, request: Request, operation: Operation) -> bool:
    return may(broker, request, operation, ResourceType.CLUSTER, CLUSTER_NAME)


def may_create_topic(broker: AuthorizationParts, request: Request, name: str) -> bool:
    """CREATE on the cluster, or on the topic itself (KIP-277)."""
    return may_cluster(broker, request, Operation.CREATE) or may_topic(broker, request, Operation.CREATE, name)


def may_write_something(broker: AuthorizationParts, request: Request) -> bool:
    """The right of an idempotent producer: IDEMPOTENT_WRITE, or WRITE on some topic (KIP-679)."""
    if may_cluster(broker, request, Operation.IDEMPOTENT_WRITE):
        return True
    connection = request.connection
    return broker.acls is not None and broker.acls.allows_any(
        connection.principal, connection.address, Operation.WRITE, ResourceType.TOPIC, connection.groups
    )


def may_use_token_requests(request: Request) -> bool:
    """Whether a connection may make, see and change delegation tokens, as in Kafka.

    Not in the clear, since the answer holds the token; not as nobody; and not with a token, or it would never end.
    """
    connection = request.connection
    protocol = connection.endpoint.protocol
    return not (
        connection.is_token
        or connection.is_of_planes
        or protocol == PLAINTEXT
        or (protocol == "SSL" and connection.principal == ANONYMOUS)
    )


def config_refusal(broker: AuthorizationParts, request: Request, operation: Operation, resource: Any) -> ErrorCode:
    """Why the client may not see or change the configurations of a topic, a group or, for anything else, the cluster."""
    match resource.resource_type:
        case ConfigResourceType.TOPIC:
            is_allowed = may_topic(broker, request, operation, resource.resource_name)
            code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        case ConfigResourceType.GROUP:
            is_allowed = may_group(broker, request, operation, resource.resource_name)
            code = ErrorCode.GROUP_AUTHORIZATION_FAILED
        case _:
            is_allowed, code = may_cluster(broker, request, operation), ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    return ErrorCode.NONE if is_allowed else code


def authorized_operations(broker: AuthorizationParts, request: Request, kind: ResourceType, name: str) -> int:
    """The bits of all operations that the principal may do on it (KIP-430)."""
    return sum(1 << operation for operation in OPERATIONS[kind] if may(broker, request, operation, kind, name))
