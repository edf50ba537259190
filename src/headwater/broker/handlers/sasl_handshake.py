"""SaslHandshake, 0 to 1: the client chooses how it authenticates. After 1 the exchange uses SaslAuthenticate (KIP-152),
after 0 it uses bare frames. On an authenticated connection it begins a re-authentication (KIP-368). At the planes' private
listener every mechanism with a password is enabled, and there is one more user: the planes themselves. Tokens are accepted
there by the rules of the first listener that takes them, but for a token of a user who is called as the planes are.
"""

from collections import ChainMap

from headwater.broker.cluster import Endpoint
from headwater.broker.configs.catalog import shorten
from headwater.broker.connection import PLANES_USER, Request, SaslState
from headwater.broker.parts import LoginParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from headwater.security.delegation_tokens import TokenLogins
from headwater.security.sasl import MECHANISMS, OAUTHBEARER, PASSWORD_MECHANISMS, Credentials, Exchange, new_exchange

NONCE_BYTES = 18


def enabled_mechanisms(broker: LoginParts, endpoint: Endpoint) -> list[str]:
    if not endpoint.is_private:
        return broker.settings.sasl_mechanisms(endpoint.listener)
    return list(MECHANISMS if broker.bearer_listener else PASSWORD_MECHANISMS)


def known_credentials(broker: LoginParts, endpoint: Endpoint) -> Credentials:
    users = broker.metadata.credentials
    return ChainMap(broker.private_logins, users) if endpoint.is_private else users


def token_logins(broker: LoginParts, endpoint: Endpoint) -> TokenLogins | None:
    """Delegation tokens as passwords. The planes' private listener accepts none: nobody but a plane becomes a plane."""
    tokens = broker.metadata.tokens
    return TokenLogins(tokens, broker.clock.wall_ms) if tokens.is_enabled and not endpoint.is_private else None


def handle(broker: LoginParts, request: Request) -> SaslHandshakeResponse:
    body: SaslHandshakeRequest = request.body
    connection = request.connection
    enabled = enabled_mechanisms(broker, connection.endpoint)
    if not connection.endpoint.has_sasl:
        return SaslHandshakeResponse(ErrorCode.ILLEGAL_SASL_STATE, [])
    if body.mechanism not in enabled:
        broker.occurrences.login_refused.emit(connection.address)
        broker.refusals.warning(
            "refused logins",
            "login refused: mechanism %r from %s at %s is not enabled",
            shorten(body.mechanism),
            connection.address,
            connection.endpoint.listener,
        )
        connection.must_close = True
        return SaslHandshakeResponse(ErrorCode.UNSUPPORTED_SASL_MECHANISM, enabled)
    if connection.sasl is not None and connection.sasl.mechanism != body.mechanism:
        connection.must_close = True  # a re-authentication must keep the mechanism
        return SaslHandshakeResponse(ErrorCode.ILLEGAL_SASL_STATE, enabled)
    exchange = begin_exchange(broker, connection.endpoint, body.mechanism)
    expires_ms = connection.sasl.expires_ms if connection.sasl is not None else None
    connection.sasl = SaslState(body.mechanism, exchange, expires_ms)
    connection.is_raw_sasl = request.api_version == 0
    return SaslHandshakeResponse(0, enabled)


def begin_exchange(broker: LoginParts, endpoint: Endpoint, mechanism: str) -> Exchange:
    if mechanism == OAUTHBEARER and endpoint.is_private:
        return broker.bearer_logins.new_exchange(broker.bearer_listener, nobodys=PLANES_USER)
    if mechanism == OAUTHBEARER:
        return broker.bearer_logins.new_exchange(endpoint.listener)
    return new_exchange(
        mechanism,
        known_credentials(broker, endpoint),
        lambda: broker.entropy.bytes(NONCE_BYTES).hex(),
        broker.store.directory_id,
        token_logins(broker, endpoint),
    )
