"""LeaveGroup, 0 to 5: one member leaves or, from 3 on, several. Static members are named by their instance id."""

from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> LeaveGroupResponse:
    body: LeaveGroupRequest = request.body
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return LeaveGroupResponse(error_code=refused)
    leave = broker.groups.leave
    if request.api_version < 3:
        result = leave(body.group_id, [(body.member_id, None)])
        return LeaveGroupResponse(error_code=result[0] if isinstance(result, list) else result)
    result = leave(body.group_id, [(member.member_id, member.group_instance_id) for member in body.members])
    if not isinstance(result, list):
        return LeaveGroupResponse(error_code=result)
    return LeaveGroupResponse(
        members=[
            LeaveGroupResponse.MemberResponse(member.member_id, member.group_instance_id, error)
            for member, error in zip(body.members, result, strict=True)
        ]
    )
