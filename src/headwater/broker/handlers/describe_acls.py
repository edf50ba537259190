"""DescribeAcls, 1 to 3: the entries that match a filter, by resource. SECURITY_DISABLED without an authorizer."""

from typing import Any

from headwater.broker.authorization import AuthorizationParts, may_cluster
from headwater.broker.connection import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse
from headwater.security.acls import AclFilter, Operation, PatternType, Permission, ResourceType

NO_AUTHORIZER = "No Authorizer is configured."


def handle(broker: AuthorizationParts, request: Request) -> DescribeAclsResponse:
    body: DescribeAclsRequest = request.body
    if broker.acls is None:
        return DescribeAclsResponse(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return DescribeAclsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    wanted = read_filter(body)
    if wanted is None:
        return DescribeAclsResponse(error_code=ErrorCode.INVALID_REQUEST, error_message=UNKNOWN_ELEMENT)
    resources: dict[tuple[int, str, int], DescribeAclsResponse.DescribeAclsResource] = {}
    for _, acl in broker.acls.find(wanted):
        key = (acl.resource_type, acl.name, acl.pattern_type)
        resource = resources.setdefault(key, DescribeAclsResponse.DescribeAclsResource(*key))
        resource.acls.append(
            DescribeAclsResponse.AclDescription(acl.principal, acl.host, acl.operation, acl.permission)
        )
    return DescribeAclsResponse(error_message=None, resources=list(resources.values()))


UNKNOWN_ELEMENT = "The AclBindingFilter must not contain UNKNOWN elements."


def read_filter(message: Any) -> AclFilter | None:
    """The filter in a request; None if a part of it is unknown."""
    try:
        wanted = AclFilter(
            ResourceType(message.resource_type_filter),
            message.resource_name_filter,
            PatternType(message.pattern_type_filter),
            message.principal_filter,
            message.host_filter,
            Operation(message.operation),
            Permission(message.permission_type),
        )
    except ValueError:
        return None
    parts = (wanted.resource_type, wanted.pattern_type, wanted.operation, wanted.permission)
    return None if 0 in parts else wanted
