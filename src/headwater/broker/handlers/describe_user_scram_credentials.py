"""DescribeUserScramCredentials, 0: the mechanisms of each user, and their iterations; never a secret (KIP-554)."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
)
from headwater.security.acls import Operation

Result = DescribeUserScramCredentialsResponse.DescribeUserScramCredentialsResult
Info = DescribeUserScramCredentialsResponse.CredentialInfo


def handle(broker: ClusterParts, request: Request) -> DescribeUserScramCredentialsResponse:
    body: DescribeUserScramCredentialsRequest = request.body
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return DescribeUserScramCredentialsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    known: dict[str, list[Info]] = {}
    for (user, mechanism), credential in sorted(broker.metadata.credentials.items()):
        known.setdefault(user, []).append(Info(mechanism, credential.iterations))
    names = [user.name for user in body.users] if body.users else sorted(known)
    response = DescribeUserScramCredentialsResponse(error_message=None)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            message = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
            response.results.append(Result(name, ErrorCode.DUPLICATE_RESOURCE, message))
        elif name not in known:
            message = f"Attempt to describe a user credential that does not exist: {name}"
            response.results.append(Result(name, ErrorCode.RESOURCE_NOT_FOUND, message))
        else:
            response.results.append(Result(name, 0, None, known[name]))
    return response
