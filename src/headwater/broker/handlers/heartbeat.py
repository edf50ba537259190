"""Heartbeat, 0 to 4: a member lives, and learns whether it has to join again."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


def handle(core: BrokerCore, request: Request) -> HeartbeatResponse:
    body: HeartbeatRequest = request.body
    groups = core.groups
    error = groups.heartbeat(body.group_id, body.generation_id, body.member_id, body.group_instance_id)
    return HeartbeatResponse(error_code=error)
