"""CreateAcls, 1 to 3: adds entries; answers when they are on disk. Entries that exist already are accepted."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.handlers.describe_acls import NO_AUTHORIZER
from headwater.broker.metadata import CHANGES_PER_REQUEST_MAX, TOO_MANY_CHANGES
from headwater.broker.parts import AdministrationParts
from headwater.effects.entropy import random_uuid
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.create_acls import CreateAclsRequest, CreateAclsResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import (
    CLUSTER_NAME,
    OPERATIONS,
    Acl,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)

Creation = CreateAclsRequest.AclCreation
Result = CreateAclsResponse.AclCreationResult


def handle(broker: AdministrationParts, request: Request) -> Steps[CreateAclsResponse | Deferred[CreateAclsResponse]]:
    body: CreateAclsRequest = request.body
    acls = broker.acls
    if acls is None:
        return failure_response(body, ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
    if not may_cluster(broker, request, Operation.ALTER):
        return failure_response(body, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, None)
    results, changes, added = [], [], set()
    for creation in body.creations:
        yield
        try:
            acl = read_acl(creation)
        except ApiError as error:
            results.append(Result(error.code, error.message))
            continue
        results.append(Result(0, None))
        if acl not in acls and acl not in added:
            added.add(acl)
            changes.append(broker.metadata.acl_record(random_uuid(broker.entropy), acl))
    if len(changes) > CHANGES_PER_REQUEST_MAX:
        return failure_response(body, ErrorCode.POLICY_VIOLATION, TOO_MANY_CHANGES)
    not_written = failure_response(body, ErrorCode.KAFKA_STORAGE_ERROR, None)
    return broker.append_and_answer(changes, CreateAclsResponse(results=results), not_written)


def failure_response(body: CreateAclsRequest, code: ErrorCode, message: str | None) -> CreateAclsResponse:
    return CreateAclsResponse(results=[Result(code, message) for _ in body.creations])


def read_acl(creation: Creation) -> Acl:
    """Reads an entry. Raises ApiError."""
    try:
        acl = Acl(
            ResourceType(creation.resource_type),
            creation.resource_name,
            PatternType(creation.resource_pattern_type),
            creation.principal,
            creation.host,
            Operation(creation.operation),
            Permission(creation.permission_type),
        )
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"CreatableAcls contain unknown elements: {error}") from error
    kind, _, name = acl.principal.partition(":")
    if acl.resource_type not in OPERATIONS:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Invalid resourceType {acl.resource_type.name}")
    if acl.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Invalid patternType {acl.pattern_type.name}")
    if acl.operation in (Operation.UNKNOWN, Operation.ANY):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Invalid operation {acl.operation.name}")
    if acl.permission not in (Permission.ALLOW, Permission.DENY):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Invalid permissionType {acl.permission.name}")
    if acl.resource_type is ResourceType.CLUSTER and acl.name != CLUSTER_NAME:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}")
    if not acl.name:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Resource name should not be empty")
    if not kind or not name:
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"Could not parse principal from `{acl.principal}` (no colon is present)."
        )
    if not acl.host:
        raise ApiError(ErrorCode.INVALID_REQUEST, "The host must not be empty")
    return acl
