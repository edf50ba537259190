"""FindCoordinator, 0 to 6: the node that leads the partition with a group's or a transactional id's state. From 4 on a
request may have several keys (KIP-699).

Creates `__consumer_offsets` when the first group is looked up, and `__transaction_state` with the first transactional id. A
single answer (up to 3) always has a message, "NONE" if nothing is wrong, as in Kafka. Key type 2 (share groups) is not
served.
"""

from headwater.broker.authorization import may_group, may_transaction
from headwater.broker.connection import Request
from headwater.broker.leadership import coordinator
from headwater.broker.parts import StateTopicParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from headwater.security.acls import Operation

GROUP, TRANSACTION = 0, 1
Coordinator = FindCoordinatorResponse.Coordinator


def handle(broker: StateTopicParts, request: Request) -> Steps[FindCoordinatorResponse]:
    body: FindCoordinatorRequest = request.body
    if request.api_version >= 4:
        response = FindCoordinatorResponse()
        for key in body.coordinator_keys:
            response.coordinators.append(find(broker, request, body.key_type, key))
            yield
        return response
    found = find(broker, request, body.key_type, body.key)
    return FindCoordinatorResponse(
        error_code=found.error_code,
        error_message=found.error_message or ErrorCode(found.error_code).name,
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


def find(broker: StateTopicParts, request: Request, key_type: int, key: str) -> Coordinator:
    if key_type not in (GROUP, TRANSACTION):
        return Coordinator(key, -1, "", -1, ErrorCode.INVALID_REQUEST, f"coordinator type {key_type} is not served")
    if key_type == GROUP and not may_group(broker, request, Operation.DESCRIBE, key):
        return Coordinator(key, -1, "", -1, ErrorCode.GROUP_AUTHORIZATION_FAILED)
    if key_type == TRANSACTION and not may_transaction(broker, request, Operation.DESCRIBE, key):
        return Coordinator(key, -1, "", -1, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    try:
        if key_type == GROUP:
            topic = broker.coordination.offsets_topic.ensure()
        else:
            topic = broker.coordination.transactions_topic.ensure()
    except (ApiError, OSError) as error:
        return Coordinator(key, -1, "", -1, ErrorCode.COORDINATOR_NOT_AVAILABLE, str(error))
    if key_type == GROUP and not broker.coordination.is_known(key):
        damaged = f"the partition of {topic.name} that stores its state is damaged; see the broker's log"
        return Coordinator(key, -1, "", -1, ErrorCode.COORDINATOR_NOT_AVAILABLE, damaged)
    node_id = coordinator(broker, topic, key)
    host, port = broker.cluster.address(request.connection.endpoint.listener, node_id)
    return Coordinator(key, node_id, host, port, 0, "")
