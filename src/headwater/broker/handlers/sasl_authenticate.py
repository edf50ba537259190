"""SaslAuthenticate, 0 to 2: one message of the exchange that SaslHandshake began.

A client whose login fails is answered after `connection.failed.authentication.delay.ms`, and its connection is closed. From
version 1 on the answer says how long the session lasts: `connections.max.reauth.ms`, and no longer than the token that the
client has shown. After that the client has to authenticate again, as the same principal (KIP-368). Checking a plain-text
password takes milliseconds, so it runs in a thread. A login that has to wait, for the keys that check its token, is tried again then.
"""

from collections.abc import Callable
from typing import TypeVar

from headwater.broker.configs.catalog import shorten
from headwater.broker.connection import UNAUTHENTICATED, Connection, Request
from headwater.broker.parts import LoginParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from headwater.replay.deferred import Deferred
from headwater.security.sasl import Exchange, NotYetError
from headwater.security.scram import AuthenticationError

Answer = TypeVar("Answer")


def handle(broker: LoginParts, request: Request) -> SaslAuthenticateResponse | Deferred[SaslAuthenticateResponse]:
    body: SaslAuthenticateRequest = request.body
    connection = request.connection
    if connection.sasl is None or connection.sasl.exchange.is_done:
        connection.must_close = connection.principal == UNAUTHENTICATED
        message = "SaslAuthenticate request received without, or after, a SaslHandshake"
        return SaslAuthenticateResponse(ErrorCode.ILLEGAL_SASL_STATE, message)
    exchange = connection.sasl.exchange

    def success_response(answer: bytes) -> SaslAuthenticateResponse:
        return SaslAuthenticateResponse(
            0, None, answer, session_lifetime_ms(broker, exchange) if exchange.is_done else 0
        )

    def failure_response(error: AuthenticationError) -> SaslAuthenticateResponse:
        return SaslAuthenticateResponse(ErrorCode.SASL_AUTHENTICATION_FAILED, str(error))

    return respond(broker, connection, body.auth_bytes, success_response, failure_response)


def raw(broker: LoginParts, connection: Connection, message: bytes) -> bytes | Deferred[bytes | None] | None:
    """The exchange without Kafka's headers. It has no way to report failure: the connection is closed."""
    assert connection.sasl is not None
    exchange = connection.sasl.exchange

    def success_message(answer: bytes) -> bytes:
        connection.is_raw_sasl = not exchange.is_done
        return answer

    return respond(broker, connection, message, success_message, lambda error: None)


def respond(
    broker: LoginParts,
    connection: Connection,
    message: bytes,
    succeeded: Callable[[bytes], Answer],
    failed: Callable[[AuthenticationError], Answer],
) -> Answer | Deferred[Answer]:
    """Does one step; after the last one, the connection has its principal. Returns the result of one of the two functions."""
    assert connection.sasl is not None
    exchange = connection.sasl.exchange

    def proceed(answer: bytes | AuthenticationError) -> Answer | Deferred[Answer]:
        try:
            if isinstance(answer, AuthenticationError):
                raise answer
            if exchange.is_done:
                take_principal(broker, connection, exchange)
        except AuthenticationError as error:
            return refuse_login(broker, connection, error, failed(error))
        return succeeded(answer)

    first = None if exchange.is_slow(message) else outcome(exchange, message)
    if first is not None and not isinstance(first, NotYetError):
        return proceed(first)
    deferred: Deferred[Answer] = Deferred()
    connection.is_busy = True

    def checked(answer: bytes | AuthenticationError | NotYetError) -> None:
        if isinstance(answer, NotYetError):
            answer.when_ready(lambda: checked(outcome(exchange, message)))
            return
        connection.is_busy = False
        result = proceed(answer)
        if isinstance(result, Deferred):
            result.when_done(deferred.complete)
        else:
            deferred.complete(result)

    if first is not None:
        checked(first)
    else:
        broker.run_elsewhere(lambda: outcome(exchange, message), checked)
    return deferred


def outcome(exchange: Exchange, message: bytes) -> bytes | AuthenticationError | NotYetError:
    try:
        return exchange.respond(message)
    except (AuthenticationError, NotYetError) as error:
        return error


def take_principal(broker: LoginParts, connection: Connection, exchange: Exchange) -> None:
    """Sets the connection's principal. Raises AuthenticationError."""
    principal = f"User:{exchange.user}"
    if connection.principal not in (UNAUTHENTICATED, principal):
        raise AuthenticationError(
            f"Cannot change principals during re-authentication from {connection.principal}: {principal}"
        )
    assert connection.sasl is not None
    connection.principal = principal
    broker.occurrences.logged_in.emit(principal)
    connection.is_token = exchange.is_token
    if connection.groups != exchange.groups:
        connection.groups = exchange.groups
        connection.routes = connection.repeat = None  # they rest on what the client was allowed before
    lifetime_ms = session_lifetime_ms(broker, exchange)
    connection.sasl.expires_ms = broker.clock.steady_ms() + lifetime_ms if lifetime_ms > 0 else None
    connection.is_restricted = lifetime_ms > 0


def session_lifetime_ms(broker: LoginParts, exchange: Exchange) -> int:
    """After what time the client has to authenticate again; 0: never."""
    max_ms = broker.settings.connections_max_reauth_ms
    if exchange.expires_ms is None:
        return max_ms
    left_ms = max(1, exchange.expires_ms - broker.clock.wall_ms())
    return min(max_ms, left_ms) if max_ms > 0 else left_ms


def refuse_login(
    broker: LoginParts, connection: Connection, error: AuthenticationError, answer: Answer
) -> Answer | Deferred[Answer]:
    """Logs and counts a refused login. The answer comes late, so that passwords cannot be guessed at full speed."""
    assert connection.sasl is not None
    claimed = connection.sasl.exchange.claimed
    broker.occurrences.login_refused.emit(connection.address)
    broker.refusals.warning(
        "refused logins",
        "login refused: user %s from %s, %s at %s: %s",
        "unknown" if claimed is None else repr(shorten(claimed)),
        connection.address,
        connection.sasl.mechanism,
        connection.endpoint.listener,
        shorten(error.reason),
    )
    connection.must_close = True
    delay_ms = broker.settings.connection_failed_authentication_delay_ms
    if delay_ms <= 0:
        return answer
    deferred: Deferred[Answer] = Deferred()
    connection.is_busy = True

    def give() -> None:
        connection.is_busy = False
        deferred.complete(answer)

    broker.timers.call_later(delay_ms, give)
    return deferred
