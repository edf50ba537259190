"""DescribeDelegationToken, 1 to 3: the tokens that a principal may see, with their HMACs.

Its own, those that it has made for others, and those that it may renew; and others if it may DESCRIBE the token, or
DESCRIBE_TOKENS on the USER resource of the owner (KIP-48, KIP-373).
"""

from headwater.broker.authorization import may, may_use_token_requests
from headwater.broker.connection import Request
from headwater.broker.handlers.create_delegation_token import kind_and_name
from headwater.broker.parts import TokenParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_delegation_token import (
    DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse,
)
from headwater.security.acls import Operation, ResourceType
from headwater.security.delegation_tokens import Token

Response = DescribeDelegationTokenResponse


def handle(broker: TokenParts, request: Request) -> Steps[Response]:
    body: DescribeDelegationTokenRequest = request.body
    tokens = broker.metadata.tokens
    if not may_use_token_requests(request):
        return Response(ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)
    if not tokens.is_enabled:
        return Response(ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
    owners = set()
    for owner in body.owners or ():
        yield
        owners.add(f"{owner.principal_type}:{owner.principal_name}")
    response = Response()
    for token in list(tokens.tokens.values()):
        yield
        is_wanted = body.owners is None or not owners.isdisjoint((token.owner, token.requester, *token.renewers))
        if is_wanted and may_see(broker, request, token):
            response.tokens.append(description(token, tokens.hmac(token.token_id)))
    return response


def may_see(broker: TokenParts, request: Request, token: Token) -> bool:
    return (
        token.is_of(request.connection.principal)
        or may(broker, request, Operation.DESCRIBE, ResourceType.DELEGATION_TOKEN, token.token_id)
        or may(broker, request, Operation.DESCRIBE_TOKENS, ResourceType.USER, token.owner)
    )


def description(token: Token, hmac: bytes) -> Response.DescribedDelegationToken:
    return Response.DescribedDelegationToken(
        *kind_and_name(token.owner),
        *kind_and_name(token.requester),
        issue_timestamp=token.issued_ms,
        expiry_timestamp=token.expires_ms,
        max_timestamp=token.max_ms,
        token_id=token.token_id,
        hmac=hmac,
        renewers=[Response.DescribedDelegationTokenRenewer(*kind_and_name(name)) for name in token.renewers],
    )
