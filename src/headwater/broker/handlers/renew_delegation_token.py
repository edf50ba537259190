"""RenewDelegationToken, 1 to 2: moves a token's expiry, up to its maximum; answers when that is on disk. The owner and the renewers
may do it (DelegationTokenControlManager.java).
"""

from headwater.broker.authorization import may_use_token_requests
from headwater.broker.connection import Request
from headwater.broker.metadata_records import token_record
from headwater.broker.parts import TokenParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest, RenewDelegationTokenResponse
from headwater.replay.deferred import Deferred
from headwater.security.delegation_tokens import later

Response = RenewDelegationTokenResponse


def handle(broker: TokenParts, request: Request) -> Response | Deferred[Response]:
    body: RenewDelegationTokenRequest = request.body
    if not may_use_token_requests(request):
        return Response(ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, -1)
    tokens = broker.metadata.tokens
    if not tokens.is_enabled:
        return Response(ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
    token, now_ms = tokens.find(body.hmac), broker.clock.wall_ms()
    if token is None:
        return Response(ErrorCode.DELEGATION_TOKEN_NOT_FOUND)
    if token.is_expired(now_ms):
        return Response(ErrorCode.DELEGATION_TOKEN_EXPIRED)
    if not token.may_be_renewed_by(request.connection.principal):
        return Response(ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH)
    period_ms = broker.settings.delegation_token_expiry_time_ms
    if body.renew_period_ms > 0:
        period_ms = min(period_ms, body.renew_period_ms)
    expires_ms = min(token.max_ms, later(now_ms, period_ms))
    record = token_record(token._replace(expires_ms=expires_ms))
    return broker.append_and_answer([record], Response(0, expires_ms), Response(ErrorCode.KAFKA_STORAGE_ERROR))
