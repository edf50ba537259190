"""CreateDelegationToken, 1 to 3: makes a token; answers with it when it is on disk (DelegationTokenControlManager.java, KIP-48, KIP-373).

Everybody may make tokens for themselves. Tokens of others need CREATE_TOKENS on the USER resource of the owner. Not as in Kafka:
an owner must be a user, since a login with a token makes a user of the owner; and there are limits, answered with
POLICY_VIOLATION: how many tokens there are, how many may renew one of them, and how long the names in it are.
"""

import base64

from headwater.broker.authorization import may, may_use_token_requests
from headwater.broker.connection import Request
from headwater.broker.metadata_records import token_record
from headwater.broker.parts import TokenParts
from headwater.effects.entropy import random_uuid
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_delegation_token import (
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation, ResourceType
from headwater.security.delegation_tokens import (
    NAMES_BYTES_MAX,
    RENEWERS_MAX,
    TOKENS_MAX,
    USER_TYPE,
    Token,
    later,
)

Response = CreateDelegationTokenResponse


def handle(broker: TokenParts, request: Request) -> Response | Deferred[Response]:
    body: CreateDelegationTokenRequest = request.body
    requester = owner = request.connection.principal
    if body.owner_principal_name:
        owner = f"{body.owner_principal_type}:{body.owner_principal_name}"
    tokens = broker.metadata.tokens
    if not may_use_token_requests(request):
        return failure(ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, owner, requester)
    if owner != requester and not may(broker, request, Operation.CREATE_TOKENS, ResourceType.USER, owner):
        return failure(ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED, owner, requester)
    if len(body.renewers) > RENEWERS_MAX:
        return failure(ErrorCode.POLICY_VIOLATION, owner, requester)
    renewers = tuple(f"{renewer.principal_type}:{renewer.principal_name}" for renewer in body.renewers)
    if any(kind_and_name(principal)[0] != USER_TYPE for principal in (owner, *renewers)):
        return failure(ErrorCode.INVALID_PRINCIPAL_TYPE, owner, requester)
    if not tokens.is_enabled:
        return failure(ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED, owner, requester, time_ms=0)
    names_bytes = sum(len(name.encode()) for name in (owner, *renewers))
    if len(tokens.tokens) >= TOKENS_MAX or names_bytes > NAMES_BYTES_MAX:
        return failure(ErrorCode.POLICY_VIOLATION, owner, requester, time_ms=0)
    settings, now_ms = broker.settings, broker.clock.wall_ms()
    lifetime_ms = settings.delegation_token_max_lifetime_ms
    if body.max_lifetime_ms > 0:
        lifetime_ms = min(lifetime_ms, body.max_lifetime_ms)
    max_ms = later(now_ms, lifetime_ms)
    expires_ms = min(max_ms, later(now_ms, settings.delegation_token_expiry_time_ms))
    token_id = base64.urlsafe_b64encode(random_uuid(broker.entropy)).decode().rstrip("=")
    token = Token(token_id, owner, requester, renewers, now_ms, max_ms, expires_ms)
    response = Response(
        0,
        *kind_and_name(owner),
        *kind_and_name(requester),
        issue_timestamp_ms=now_ms,
        expiry_timestamp_ms=expires_ms,
        max_timestamp_ms=max_ms,
        token_id=token_id,
        hmac=tokens.hmac(token_id),
    )
    not_written = failure(ErrorCode.KAFKA_STORAGE_ERROR, owner, requester, time_ms=0)
    return broker.append_and_answer([token_record(token)], response, not_written)


def failure(code: ErrorCode, owner: str, requester: str, time_ms: int = -1) -> Response:
    return Response(code, *kind_and_name(owner), *kind_and_name(requester), time_ms, time_ms, time_ms)


def kind_and_name(principal: str) -> tuple[str, str]:
    kind, _, name = principal.partition(":")
    return kind, name
