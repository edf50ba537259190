"""Heartbeat, 0 to 4: keeps a member alive, and tells it whether it has to join again."""

from headwater.broker.connection import Repeatable, Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> HeartbeatResponse | Repeatable:
    error = beat(broker, request)
    answer = HeartbeatResponse(error_code=error)
    if error:
        return answer
    return Repeatable(answer, lambda: beat(broker, request) == ErrorCode.NONE)


def beat(broker: GroupParts, request: Request) -> ErrorCode:
    body: HeartbeatRequest = request.body
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return refused
    return broker.groups.heartbeat(body.group_id, body.generation_id, body.member_id, body.group_instance_id)
