"""DescribeCluster, 0 to 2: the cluster's id and its brokers, which may be virtual. Controllers (endpoint type 2) have no
endpoints here."""

from headwater.broker.connection import Request
from headwater.broker.handlers.metadata import cluster_operations
from headwater.broker.parts import DescriptionParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse

BROKERS = 1


def handle(broker: DescriptionParts, request: Request) -> DescribeClusterResponse:
    body: DescribeClusterRequest = request.body
    if body.endpoint_type != BROKERS:
        known = body.endpoint_type == 2
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE if known else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message="The request was sent to an endpoint of type BROKER, but we wanted an endpoint of another type",
            endpoint_type=BROKERS,
        )
    response = DescribeClusterResponse(
        cluster_id=broker.store.cluster_id,
        controller_id=broker.cluster.node_ids[0],
        brokers=[
            DescribeClusterResponse.DescribeClusterBroker(*node, broker.cluster.rack)
            for node in broker.cluster.nodes(request.connection.endpoint)
        ],
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = cluster_operations(broker, request)
    return response
