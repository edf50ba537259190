"""ListConfigResources, 0 to 1: the resources that have configurations: topics, brokers, their loggers and groups (KIP-1142). Version 0 asks
for client metrics only, of which there are none.
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_config_resources import (
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from headwater.security.acls import Operation

SERVED_TYPES = tuple(ConfigResourceType)
Resource = ListConfigResourcesResponse.ConfigResource


def handle(broker: ClusterParts, request: Request) -> ListConfigResourcesResponse:
    body: ListConfigResourcesRequest = request.body
    if not may_cluster(broker, request, Operation.DESCRIBE_CONFIGS):
        return ListConfigResourcesResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if request.api_version == 0:
        return ListConfigResourcesResponse()
    wanted = body.resource_types or SERVED_TYPES
    if not set(wanted) <= set(SERVED_TYPES):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    node_ids = [str(node_id) for node_id in broker.cluster.node_ids]
    names = {
        ConfigResourceType.TOPIC: list(broker.metadata.topics),
        ConfigResourceType.BROKER: node_ids,
        ConfigResourceType.BROKER_LOGGER: node_ids,
        ConfigResourceType.CLIENT_METRICS: [],
        ConfigResourceType.GROUP: [group_id for group_id, own in broker.metadata.group_configs.items() if own],
    }
    return ListConfigResourcesResponse(
        config_resources=[Resource(name, kind) for kind in SERVED_TYPES if kind in wanted for name in names[kind]]
    )
