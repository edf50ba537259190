"""ListGroups, 0 to 5: all groups, filtered by state from 4 and by type from 5. All are of type classic."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

TYPE = "classic"


def handle(core: BrokerCore, request: Request) -> ListGroupsResponse:
    body: ListGroupsRequest = request.body
    states = {state.lower() for state in body.states_filter}
    types = {type_.lower() for type_ in body.types_filter}
    response = ListGroupsResponse()
    for group_id in core.groups.group_ids():
        state = core.groups.state_of(group_id).value
        if (states and state.lower() not in states) or (types and TYPE not in types):
            continue
        group = core.groups.groups.get(group_id)
        protocol_type = (group.protocol_type or "") if group is not None else ""
        response.groups.append(ListGroupsResponse.ListedGroup(group_id, protocol_type, state, TYPE))
    return response
