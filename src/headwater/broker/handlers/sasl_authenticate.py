"""SaslAuthenticate, 0 to 2: one message of the exchange that SaslHandshake began.

A client that fails is told so and its connection closed. From 1 the answer says how long the session lasts
(`connections.max.reauth.ms`): after that the client has to authenticate again, as the same principal (KIP-368).
"""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import UNAUTHENTICATED, Connection, Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from headwater.security.scram import AuthenticationError


def handle(core: BrokerCore, request: Request) -> SaslAuthenticateResponse:
    body: SaslAuthenticateRequest = request.body
    connection = request.connection
    if connection.sasl is None or connection.sasl.exchange.is_done:
        connection.must_close = connection.principal == UNAUTHENTICATED
        message = "SaslAuthenticate request received without, or after, a SaslHandshake"
        return SaslAuthenticateResponse(ErrorCode.ILLEGAL_SASL_STATE, message)
    try:
        answer = respond(core, connection, body.auth_bytes)
    except AuthenticationError as error:
        connection.must_close = True
        return SaslAuthenticateResponse(ErrorCode.SASL_AUTHENTICATION_FAILED, str(error))
    lifetime_ms = core.settings.connections_max_reauth_ms if connection.sasl.exchange.is_done else 0
    return SaslAuthenticateResponse(0, None, answer, lifetime_ms)


def raw(core: BrokerCore, connection: Connection, message: bytes) -> bytes:
    """The exchange without Kafka's headers. Raises ProtocolError where it fails: there is no way to tell the client."""
    try:
        answer = respond(core, connection, message)
    except AuthenticationError as error:
        raise ProtocolError(str(error)) from error
    assert connection.sasl is not None
    connection.is_raw_sasl = not connection.sasl.exchange.is_done
    return answer


def respond(core: BrokerCore, connection: Connection, message: bytes) -> bytes:
    """Goes a step on; at the end the connection has its principal. Raises AuthenticationError."""
    assert connection.sasl is not None
    exchange = connection.sasl.exchange
    answer = exchange.respond(message)
    if exchange.is_done:
        principal = f"User:{exchange.user}"
        if connection.principal not in (UNAUTHENTICATED, principal):
            raise AuthenticationError(
                f"Cannot change principals during re-authentication from {connection.principal}: {principal}"
            )
        connection.principal = principal
        lifetime_ms = core.settings.connections_max_reauth_ms
        connection.sasl.expires_ms = core.clock.steady_ms() + lifetime_ms if lifetime_ms > 0 else None
        connection.is_restricted = lifetime_ms > 0
    return answer
