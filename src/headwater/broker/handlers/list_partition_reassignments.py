"""ListPartitionReassignments, 0: the list is always empty, because each reassignment is complete at once."""

from headwater.broker.authorization import AuthorizationParts, may_cluster
from headwater.broker.connection import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsResponse
from headwater.security.acls import Operation


def handle(broker: AuthorizationParts, request: Request) -> ListPartitionReassignmentsResponse:
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return ListPartitionReassignmentsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    return ListPartitionReassignmentsResponse(error_message=None)
