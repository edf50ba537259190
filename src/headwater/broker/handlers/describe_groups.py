"""DescribeGroups, 0 to 6: the state and members of groups. An unknown group is Dead and, from 6 on, GROUP_ID_NOT_FOUND (KIP-1043)."""

from headwater.broker.authorization import authorized_operations
from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.classic.group import GroupState
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from headwater.security.acls import Operation, ResourceType

DescribedGroup = DescribeGroupsResponse.DescribedGroup
NOT_FOUND_VERSION = 6


def handle(broker: GroupParts, request: Request) -> Steps[DescribeGroupsResponse]:
    body: DescribeGroupsRequest = request.body
    response = DescribeGroupsResponse()
    for group_id in dict.fromkeys(body.groups):
        yield
        if refused := group_refusal(broker, request, Operation.DESCRIBE, group_id):
            response.groups.append(DescribedGroup(refused, None, group_id))
            continue
        described = describe(broker, group_id, request.api_version)
        if body.include_authorized_operations:
            described.authorized_operations = authorized_operations(broker, request, ResourceType.GROUP, group_id)
        response.groups.append(described)
    return response


def describe(broker: GroupParts, group_id: str, version: int) -> DescribedGroup:
    state = broker.groups.state_of(group_id)
    is_consumer = group_id in broker.groups.consumers.groups
    if is_consumer or state is GroupState.DEAD:
        problem = "is not a classic group" if is_consumer else "not found"
        dead = DescribedGroup(0, None, group_id, GroupState.DEAD.value)
        if version >= NOT_FOUND_VERSION:
            dead.error_code, dead.error_message = ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} {problem}."
        return dead
    group = broker.groups.groups.get(group_id)
    if group is None:
        return DescribedGroup(0, None, group_id, state.value)
    knows_protocol = state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE)
    protocol = group.protocol if knows_protocol else None
    members = [
        DescribeGroupsResponse.DescribedGroupMember(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.metadata(protocol) if state is GroupState.STABLE else b"",
            member.assignment,
        )
        for member in group.members.values()
    ]
    return DescribedGroup(0, None, group_id, state.value, group.protocol_type or "", protocol or "", members)
