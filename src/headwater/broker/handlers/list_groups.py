"""ListGroups, 0 to 5: all groups, filtered by state from 4 on, and by type from 5 on. The types are classic and consumer
(KIP-848)."""

from headwater.broker.authorization import may_cluster, may_group
from headwater.broker.connection import Request
from headwater.broker.leadership import coordinates_group
from headwater.broker.parts import GroupParts
from headwater.effects.work import Steps
from headwater.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from headwater.security.acls import Operation

CLASSIC, CONSUMER = "classic", "consumer"


def handle(broker: GroupParts, request: Request) -> Steps[ListGroupsResponse]:
    body: ListGroupsRequest = request.body
    states = {state.lower() for state in body.states_filter}
    types = {type_.lower() for type_ in body.types_filter}
    response = ListGroupsResponse()
    sees_all = may_cluster(broker, request, Operation.DESCRIBE)
    for group_id in broker.groups.group_ids():
        yield
        if not broker.groups.is_known(group_id) or not coordinates_group(broker, request, group_id):
            continue  # deleted meanwhile, or listed by another node
        state = broker.groups.state_of(group_id).value
        is_consumer = group_id in broker.groups.consumers.groups
        type_ = CONSUMER if is_consumer else CLASSIC
        if (states and state.lower() not in states) or (types and type_ not in types):
            continue
        if not (sees_all or may_group(broker, request, Operation.DESCRIBE, group_id)):
            continue
        group = broker.groups.groups.get(group_id)
        protocol_type = (group.protocol_type or "") if group is not None else CONSUMER if is_consumer else ""
        response.groups.append(ListGroupsResponse.ListedGroup(group_id, protocol_type, state, type_))
    return response
