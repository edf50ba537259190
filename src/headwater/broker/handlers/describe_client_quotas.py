"""DescribeClientQuotas, 0 to 1: there are none, and none can be set yet."""

from headwater.broker.authorization import AuthorizationParts, may_cluster
from headwater.broker.connection import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_client_quotas import DescribeClientQuotasResponse
from headwater.security.acls import Operation


def handle(broker: AuthorizationParts, request: Request) -> DescribeClientQuotasResponse:
    if not may_cluster(broker, request, Operation.DESCRIBE_CONFIGS):
        return DescribeClientQuotasResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, entries=None)
    return DescribeClientQuotasResponse()
