"""Logins that are refused: late, logged, counted; and nothing is handled meanwhile."""

import logging
from typing import Any

import pytest

import headwater as hw
from headwater.broker.shell.embedded import ThreadRunner
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.harness import Harness, Pending
from tests.broker.test_security import PASSWORD, sasl_harness
from tests.broker.wire import Wire

SCRAM = "SCRAM-SHA-256"


def login(broker: Harness, mechanism: str, token: bytes) -> Pending:
    assert broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest(mechanism)).error_code == 0
    return broker.send(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(token))


@pytest.mark.parametrize(
    ("mechanism", "token"), [("PLAIN", b"\0admin\0guess"), ("PLAIN", b"nonsense"), (SCRAM, b"p=tls,,n=admin,r=x")]
)
def test_a_refusal_comes_late(mechanism: str, token: bytes) -> None:
    broker = sasl_harness(pairs={"connection.failed.authentication.delay.ms": 300})
    pending = login(broker, mechanism, token)
    assert (broker.connection.is_busy, broker.connection.must_close) == (True, True)
    broker.advance(299)
    assert not pending.is_done
    broker.advance(1)
    assert pending.message.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert not broker.connection.is_busy
    assert broker.counters.totals["failed_authentication"] == 1


def test_without_a_delay_it_comes_at_once() -> None:
    broker = sasl_harness(pairs={"connection.failed.authentication.delay.ms": 0})
    assert login(broker, "PLAIN", b"\0admin\0guess").message.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert broker.connection.must_close


def test_a_login_is_counted_and_not_delayed() -> None:
    broker = sasl_harness()
    assert login(broker, "PLAIN", f"\0admin\0{PASSWORD}".encode()).message.error_code == 0
    totals = broker.counters.totals
    assert (totals["successful_authentication"], totals["failed_authentication"]) == (1, 0)


def test_refused_logins_are_logged_a_few_at_a_time_and_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    broker = sasl_harness(pairs={"connection.failed.authentication.delay.ms": 0})
    connection: Any = broker.connection
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            connection.sasl, connection.must_close = None, False
            login(broker, "PLAIN", b"\0eve\n2026-01-01 CRITICAL forged\0guess")
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert 1 <= len(lines) <= 5
    for line in lines:
        assert "\n" not in line
        assert "eve" in line
        assert "PLAIN" in line
        assert "from test" in line
    assert broker.counters.totals["failed_authentication"] == 100
    caplog.clear()
    broker.advance(10_000)
    connection.sasl = None
    login(broker, "PLAIN", b"\0eve\0guess")
    assert "95 more" in caplog.text


def test_a_mechanism_that_is_not_enabled_is_a_refused_login(caplog: pytest.LogCaptureFixture) -> None:
    broker = sasl_harness()
    answer = broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("GSSAPI\n"))
    assert answer.error_code == ErrorCode.UNSUPPORTED_SASL_MECHANISM
    assert broker.counters.totals["failed_authentication"] == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "GSSAPI" in line
    assert "\n" not in line


def test_no_second_guess_on_the_same_connection() -> None:
    """What was sent after the login that is refused is not handled, not even a login that would succeed."""
    with hw.Broker(settings={"listeners": "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0"}) as broker:
        assert isinstance(broker.runner, ThreadRunner)
        broker.runner.call(lambda server: add_user(server.core))
        frames = []
        for password in ("guess", PASSWORD):
            token = f"\0admin\0{password}".encode()
            frames.append(request_frame(APIS[17], 1, 1, "x", SaslHandshakeRequest("PLAIN")))
            frames.append(request_frame(APIS[36], 1, 1, "x", SaslAuthenticateRequest(token)))
        with Wire(broker.addresses["SASL_PLAINTEXT"]) as wire:
            wire.socket.sendall(b"".join(frames))
            assert wire.receive(ApiKey.SASL_HANDSHAKE, 1).error_code == 0
            assert wire.receive(ApiKey.SASL_AUTHENTICATE, 1).error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
            assert wire.socket.recv(1) == b""
        with Wire(broker.addresses["SASL_PLAINTEXT"]) as wire:
            # A login and what follows it may come in one piece.
            metadata = request_frame(APIS[3], 9, 1, "x", MetadataRequest([]))
            wire.socket.sendall(b"".join([*frames[2:], metadata]))
            assert wire.receive(ApiKey.SASL_HANDSHAKE, 1).error_code == 0
            assert wire.receive(ApiKey.SASL_AUTHENTICATE, 1).error_code == 0
            assert wire.receive(ApiKey.METADATA, 9).brokers
        with Wire(broker.addresses["SASL_PLAINTEXT"]) as wire:
            # In bare frames there is no way to say why.
            assert wire.call(ApiKey.SASL_HANDSHAKE, 0, SaslHandshakeRequest("PLAIN")).error_code == 0
            wire.socket.sendall(b"\0\0\0\x0c\0admin\0guess" * 3)
            assert wire.socket.recv(1) == b""


def add_user(core: Any) -> None:
    from headwater.security.scram import Mechanism, credential_of, salt_password

    mechanism = Mechanism.SCRAM_SHA_256
    credential = credential_of(mechanism, salt_password(mechanism, PASSWORD, b"salt", 4096), b"salt", 4096)
    core.append_metadata([core.metadata.credential_record("admin", mechanism, credential)])
