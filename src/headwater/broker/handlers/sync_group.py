"""SyncGroup, 0 to 5: the leader sends the assignments; all other members wait for theirs."""

from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.classic.group import SyncAnswer
from headwater.coordinators.groups.classic.membership import SyncRequest
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> SyncGroupResponse | Deferred[SyncGroupResponse]:
    body: SyncGroupRequest = request.body
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return SyncGroupResponse(error_code=refused)
    if request.api_version >= 5 and (body.protocol_type is None or body.protocol_name is None):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    answer = broker.groups.sync(
        SyncRequest(
            body.group_id,
            body.generation_id,
            body.member_id,
            body.group_instance_id,
            body.protocol_type,
            body.protocol_name,
            {assignment.member_id: assignment.assignment for assignment in body.assignments},
        )
    )
    if isinstance(answer, SyncAnswer):
        return response(answer)
    return answer.then(response)


def response(answer: SyncAnswer) -> SyncGroupResponse:
    return SyncGroupResponse(
        error_code=answer.error,
        protocol_type=answer.protocol_type,
        protocol_name=answer.protocol,
        assignment=answer.assignment,
    )
