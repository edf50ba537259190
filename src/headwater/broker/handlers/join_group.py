"""JoinGroup, 0 to 9: answers when the group's next generation begins.

From 4 on a new member first gets its id (KIP-394), from 5 on there are static members (KIP-345), and from 9 on a returning
static leader may have to keep the assignment (KIP-814).
"""

from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.classic.group import JoinAnswer
from headwater.coordinators.groups.classic.membership import JoinRequest
from headwater.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> JoinGroupResponse | Deferred[JoinGroupResponse]:
    body: JoinGroupRequest = request.body
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return JoinGroupResponse(error_code=refused, generation_id=-1, member_id=body.member_id)
    version = request.api_version
    answer = broker.groups.join(
        JoinRequest(
            body.group_id,
            body.member_id,
            body.group_instance_id,
            request.client_id or "",
            request.connection.client_host,
            body.session_timeout_ms,
            body.rebalance_timeout_ms if version >= 1 else body.session_timeout_ms,
            body.protocol_type,
            [(protocol.name, protocol.metadata) for protocol in body.protocols],
            may_need_member_id=version >= 4,
            may_skip_assignment=version >= 9,
        )
    )
    if isinstance(answer, JoinAnswer):
        return response(version, answer)
    return answer.then(lambda done: response(version, done))


def response(version: int, answer: JoinAnswer) -> JoinGroupResponse:
    protocol = answer.protocol
    return JoinGroupResponse(
        error_code=answer.error,
        generation_id=answer.generation,
        protocol_type=answer.protocol_type,
        protocol_name=protocol if version >= 7 else protocol or "",
        leader=answer.leader,
        skip_assignment=answer.skip_assignment,
        member_id=answer.member_id,
        members=[JoinGroupResponse.JoinGroupResponseMember(*member) for member in answer.members],
    )
