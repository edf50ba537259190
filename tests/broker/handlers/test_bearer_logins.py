"""Logins with tokens: what the client is answered, how long its session lasts, and what happens while keys are fetched."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headwater.broker.authorization import may
from headwater.broker.bearer_logins import fetch_key_set
from headwater.broker.cluster import Endpoint
from headwater.broker.connection import UNAUTHENTICATED, Connection, Request
from headwater.broker.produce_routes import Routes
from headwater.effects.entropy import random_uuid
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from headwater.security.acls import Acl, Operation, PatternType, Permission, ResourceType
from headwater.security.key_rings import EXPEDITED_MS
from headwater.security.key_sets import KeySet, KeySetError, read_key_set
from tests.broker.handlers.test_parts import BrokerOfLogins
from tests.broker.harness import Harness, Pending
from tests.tokens import AUDIENCE, ISSUER, first_message, key_set, public_entry, token

URL = "https://idp.example.org/keys"
SETTINGS = {
    "sasl.enabled.mechanisms": "OAUTHBEARER,PLAIN",
    "sasl.oauthbearer.jwks.endpoint.url": URL,
    "sasl.oauthbearer.expected.issuer": ISSUER,
    "sasl.oauthbearer.expected.audience": AUDIENCE,
    "headwater.sasl.oauthbearer.allowed.urls": URL,
}
JSON_REFUSAL = b'{"status":"invalid_token"}'
FIRST = read_key_set(key_set(public_entry("key-1")))
BOTH = read_key_set(key_set(public_entry("key-1"), public_entry("key-2")))


class Provider:
    """A broker, and an identity provider that answers when the test says so."""

    def __init__(self, keys: KeySet | None = FIRST, pairs: Mapping[str, str] | None = None) -> None:
        self.broker = Harness(pairs={**SETTINGS, **(pairs or {})})
        self.asked: list[Callable[[Any], None]] = []
        self.broker.core.run_aside = lambda function, done: self.asked.append(done)
        self.connect()
        self.broker.core.bearer_logins.open("A")
        if keys is not None:
            self.answer(keys)

    def answer(self, keys: KeySet | KeySetError) -> None:
        self.asked.pop()(keys)

    def connect(self) -> Connection:
        endpoint = Endpoint("A", "SASL_PLAINTEXT", 1)
        self.broker.connection = Connection("/192.0.2.1", endpoint, UNAUTHENTICATED, is_restricted=True)
        return self.broker.connection

    def token(self, name: str = "key-1", **claims: Any) -> str:
        return token(name, now_s=self.broker.clock.wall_ms() / 1000, **claims)

    def begin(self, text: str) -> Pending:
        handshake = self.broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("OAUTHBEARER"))
        assert (handshake.error_code, handshake.mechanisms) == (0, ["OAUTHBEARER", "PLAIN"])
        return self.send(first_message(text))

    def send(self, message: bytes) -> Pending:
        return self.broker.send(ApiKey.SASL_AUTHENTICATE, 2, SaslAuthenticateRequest(message))

    def log_in(self, **claims: Any) -> Any:
        """The last answer of a login with such a token."""
        pending = self.begin(self.token(**claims))
        if not pending.is_done:  # a refusal comes late
            self.broker.advance(100)
        answer = pending.message
        if answer.auth_bytes == JSON_REFUSAL:
            assert (answer.error_code, answer.error_message, answer.session_lifetime_ms) == (0, None, 0)
            pending = self.send(b"\x01")
            self.broker.advance(100)
            answer = pending.message
        return answer

    def ask(self) -> None:
        """Raises ProtocolError if the client has no session."""
        assert self.broker.call(ApiKey.METADATA, 9, MetadataRequest([])).topics == []


def test_a_login_is_the_principal_of_the_token_until_it_ends() -> None:
    provider = Provider()
    with pytest.raises(ProtocolError):
        provider.ask()
    answer = provider.log_in()
    assert (answer.error_code, answer.error_message, answer.auth_bytes) == (0, None, b"")
    assert answer.session_lifetime_ms == 3_600_000
    assert provider.broker.connection.principal == "User:alice"
    assert provider.broker.counters.totals["successful_authentication"] == 1
    provider.broker.clock.advance(3_599_000)
    provider.ask()
    provider.broker.clock.advance(1_001)
    with pytest.raises(ProtocolError, match="session's end"):
        provider.ask()


@pytest.mark.parametrize(("limit_ms", "lasts_ms"), [(60_000, 60_000), (10_000_000, 3_600_000)])
def test_the_shorter_of_both_lifetimes_counts(limit_ms: int, lasts_ms: int) -> None:
    provider = Provider(pairs={"connections.max.reauth.ms": str(limit_ms)})
    assert provider.log_in().session_lifetime_ms == lasts_ms
    assert provider.broker.connection.sasl is not None
    assert provider.broker.connection.sasl.expires_ms == provider.broker.clock.steady_ms() + lasts_ms


def test_a_session_continues_with_another_token_of_the_same_principal() -> None:
    provider = Provider()
    assert provider.log_in(exp=int(provider.broker.clock.wall_ms() / 1000) + 60).session_lifetime_ms == 60_000
    provider.broker.clock.advance(59_000)
    assert provider.log_in().session_lifetime_ms == 3_600_000
    provider.broker.clock.advance(1_000_000)
    provider.ask()
    refused = provider.log_in(sub="bob")
    assert refused.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert "Cannot change principals" in refused.error_message
    assert provider.broker.connection.must_close


def has_routes(connection: Connection) -> bool:
    return connection.routes is not None


def may_read(provider: Provider, topic: str) -> bool:
    request = Request(ApiKey.FETCH, 12, None, provider.broker.connection, None)
    return may(provider.broker.core, request, Operation.READ, ResourceType.TOPIC, topic)


def test_the_groups_of_a_token_have_rights_until_the_next_token() -> None:
    pairs = {"headwater.sasl.oauthbearer.groups.claim.name": "roles", "super.users": "Group:root"}
    provider = Provider(pairs=pairs)
    core = provider.broker.core
    for name, permission in (("orders", Permission.ALLOW), ("salaries", Permission.DENY)):
        acl = Acl(ResourceType.TOPIC, name, PatternType.LITERAL, "Group:billing", "*", Operation.READ, permission)
        core.append_metadata([core.metadata.acl_record(random_uuid(core.entropy), acl)])
    provider.log_in()
    assert not may_read(provider, "orders")
    provider.broker.connection.routes = Routes(0, "User:alice")
    provider.log_in(roles=["billing", "sales"])
    groups: list[str] = list(provider.broker.connection.groups)
    assert groups == ["Group:billing", "Group:sales"]
    assert not has_routes(provider.broker.connection)
    assert (may_read(provider, "orders"), may_read(provider, "salaries")) == (True, False)
    provider.log_in(roles=["root"])
    assert may_read(provider, "salaries")
    provider.log_in(groups=["billing"])
    assert not may_read(provider, "orders")
    refused = provider.log_in(roles=7)
    assert refused.error_message == JSON_REFUSAL.decode()


def test_a_token_that_is_accepted_only_by_the_skew_has_no_session_left() -> None:
    """As in Kafka the login succeeds, and the next request is refused. The answer asks for another login at once."""
    provider = Provider()
    answer = provider.log_in(exp=int(provider.broker.clock.wall_ms() / 1000) - 10)
    assert (answer.error_code, answer.session_lifetime_ms) == (0, 1)
    provider.broker.clock.advance(2)
    with pytest.raises(ProtocolError, match="session's end"):
        provider.ask()


def test_a_refused_token_is_answered_as_kafka_does(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    answer = provider.log_in(aud="another")
    assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert answer.error_message == JSON_REFUSAL.decode()
    connection = provider.broker.connection
    assert (connection.must_close, connection.principal) == (True, UNAUTHENTICATED)
    assert provider.broker.counters.totals["failed_authentication"] == 1
    assert "OAUTHBEARER at A: the token is refused: InvalidAudienceError" in caplog.text
    caplog.clear()
    provider.connect()
    provider.log_in(exp=1)
    assert (
        "login refused: user 'alice' from 192.0.2.1, OAUTHBEARER at A: the token is refused: it expired" in caplog.text
    )
    assert "eyJ" not in caplog.text


def test_a_message_without_a_token_is_refused_at_once() -> None:
    provider = Provider()
    provider.broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("OAUTHBEARER"))
    pending = provider.send(b"\0alice\0secret")
    provider.broker.advance(100)
    assert pending.message.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert "invalid credentials with SASL mechanism OAUTHBEARER" in pending.message.error_message


def test_a_new_key_is_fetched_while_the_login_waits() -> None:
    provider = Provider()
    provider.broker.clock.advance(EXPEDITED_MS)
    pending = provider.begin(provider.token("key-2"))
    assert (pending.is_done, provider.broker.connection.is_busy) == (False, True)
    provider.answer(BOTH)
    assert (pending.message.error_code, pending.message.auth_bytes) == (0, b"")
    assert (provider.broker.connection.is_busy, provider.broker.connection.principal) == (False, "User:alice")


def test_a_key_that_is_not_there_after_the_fetch_is_a_refusal() -> None:
    provider = Provider()
    provider.broker.clock.advance(EXPEDITED_MS)
    pending = provider.begin(provider.token("key-2"))
    provider.answer(FIRST)
    assert pending.message.auth_bytes == JSON_REFUSAL
    failing = provider.send(b"\x01")
    provider.broker.advance(100)
    assert failing.message.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED


def test_logins_before_the_first_keys_wait_for_them(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider(keys=None)
    pending = provider.begin(provider.token())
    provider.answer(KeySetError("Connection refused"))
    assert pending.message.auth_bytes == JSON_REFUSAL
    assert f"{URL}: the key set cannot be read: Connection refused; logins with tokens are refused" in caplog.text
    provider.broker.advance(100)
    provider.answer(FIRST)
    provider.connect()
    assert provider.log_in().error_code == 0


def test_a_client_may_leave_while_keys_are_fetched() -> None:
    provider = Provider(keys=None)
    provider.begin(provider.token())
    provider.broker.connection.closed()
    provider.answer(FIRST)


def test_bare_frames_have_a_json_refusal_and_then_an_end() -> None:
    """After SaslHandshake 0, as old clients do it."""
    from headwater.broker.dispatch import dispatch

    def frames(provider: Provider, text: str) -> list[Any]:
        provider.broker.call(ApiKey.SASL_HANDSHAKE, 0, SaslHandshakeRequest("OAUTHBEARER"))
        return [dispatch(provider.broker.core, provider.broker.connection, first_message(text))]

    provider = Provider()
    assert frames(provider, provider.token()) == [[b"\0\0\0\0"]]
    assert provider.broker.connection.principal == "User:alice"
    provider = Provider()
    assert frames(provider, "x.y.z") == [[len(JSON_REFUSAL).to_bytes(4, "big") + JSON_REFUSAL]]
    assert provider.broker.connection.principal == UNAUTHENTICATED


def test_another_mechanism_is_another_exchange() -> None:
    provider = Provider()
    assert provider.log_in().error_code == 0
    answer = provider.broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN"))
    assert answer.error_code == ErrorCode.ILLEGAL_SASL_STATE


def test_listeners_share_the_keys_of_a_url() -> None:
    provider = Provider(pairs={"listener.name.b.sasl.oauthbearer.expected.audience": "other"})
    logins = provider.broker.core.bearer_logins
    assert logins.open("B") is logins.open("A")
    assert (len(logins.rings), provider.asked) == (1, [])


def test_where_tokens_are_not_enabled_they_are_not_taken() -> None:
    broker = Harness(pairs={**SETTINGS, "sasl.enabled.mechanisms": "PLAIN"})
    broker.connection = Connection("/test", Endpoint("A", "SASL_PLAINTEXT", 1), UNAUTHENTICATED, is_restricted=True)
    answer = broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("OAUTHBEARER"))
    assert (answer.error_code, answer.mechanisms) == (ErrorCode.UNSUPPORTED_SASL_MECHANISM, ["PLAIN"])
    assert "bearer_logins" not in vars(broker.core)  # nor is anything imported for it


def test_a_key_set_that_cannot_be_read_is_an_error_that_says_why(tmp_path: Any) -> None:
    path = tmp_path / "keys.json"
    missing = fetch_key_set(f"file://{path}")
    assert "No such file" in str(missing)
    path.write_bytes(b"[]")
    assert "of the form" in str(fetch_key_set(f"file://{path}"))
    path.write_bytes(key_set(public_entry("key-1")))
    assert isinstance(fetch_key_set(f"file://{path}"), KeySet)


def test_the_parts_of_a_login_are_enough() -> None:
    logging.getLogger(__name__).debug("BrokerOfLogins plays the role")
    broker = BrokerOfLogins()
    assert broker.bearer_logins.rings == {}
