"""DeleteAcls, 1 to 3: removes the entries that match filters, and returns them; answers when that is on disk."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.handlers.describe_acls import NO_AUTHORIZER, UNKNOWN_ELEMENT, read_filter
from headwater.broker.metadata import CHANGES_PER_REQUEST_MAX, TOO_MANY_CHANGES
from headwater.broker.metadata_records import MetadataRecordType, new_record
from headwater.broker.parts import AdministrationParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_acls import DeleteAclsRequest, DeleteAclsResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

FilterResult = DeleteAclsResponse.DeleteAclsFilterResult


def handle(broker: AdministrationParts, request: Request) -> Steps[DeleteAclsResponse | Deferred[DeleteAclsResponse]]:
    body: DeleteAclsRequest = request.body
    acls = broker.acls
    if acls is None:
        return failure_response(body, ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
    if not may_cluster(broker, request, Operation.ALTER):
        return failure_response(body, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, None)
    response, removed, found_count = DeleteAclsResponse(), {}, 0
    for wanted in body.filters:
        yield
        acl_filter = read_filter(wanted)
        if acl_filter is None:
            response.filter_results.append(FilterResult(ErrorCode.INVALID_REQUEST, UNKNOWN_ELEMENT))
            continue
        result = FilterResult(0, None)
        response.filter_results.append(result)
        found = acls.find(acl_filter)
        found_count += len(found)
        if found_count > CHANGES_PER_REQUEST_MAX:
            return failure_response(body, ErrorCode.POLICY_VIOLATION, TOO_MANY_CHANGES)
        for acl_id, acl in found:
            removed[acl_id] = new_record(MetadataRecordType.REMOVE_ACCESS_CONTROL_ENTRY, id=acl_id)
            result.matching_acls.append(
                DeleteAclsResponse.DeleteAclsMatchingAcl(
                    0,
                    None,
                    acl.resource_type,
                    acl.name,
                    acl.pattern_type,
                    acl.principal,
                    acl.host,
                    acl.operation,
                    acl.permission,
                )
            )
    not_written = failure_response(body, ErrorCode.KAFKA_STORAGE_ERROR, None)
    return broker.append_and_answer(list(removed.values()), response, not_written)


def failure_response(body: DeleteAclsRequest, code: ErrorCode, message: str | None) -> DeleteAclsResponse:
    return DeleteAclsResponse(filter_results=[FilterResult(code, message) for _ in body.filters])
