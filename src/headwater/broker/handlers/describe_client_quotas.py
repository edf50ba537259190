"""DescribeClientQuotas, 0 to 1: the quotas of the entities that a filter matches (KIP-546)."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)
from headwater.security.acls import Operation
from headwater.security.quotas import Component

Response = DescribeClientQuotasResponse


def handle(broker: ClusterParts, request: Request) -> Response:
    body: DescribeClientQuotasRequest = request.body
    if not may_cluster(broker, request, Operation.DESCRIBE_CONFIGS):
        return Response(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, entries=None)
    components = [Component(part.entity_type, part.match_type, part.match) for part in body.components]
    try:
        found = list(broker.metadata.quotas.find(components, is_strict=body.strict))
    except ApiError as error:
        return Response(error_code=error.code, error_message=error.message, entries=None)
    return Response(
        entries=[
            Response.EntryData(
                [Response.EntityData(entity_type, name) for entity_type, name in entity],
                [Response.ValueData(key, value) for key, value in values.items()],
            )
            for entity, values in found
        ]
    )
