"""Delegation tokens: who may make, see, renew and end them; that they last; and what a session with one of them may do."""

import base64
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headwater.broker.cluster import Endpoint
from headwater.broker.connection import UNAUTHENTICATED, Connection
from headwater.effects.memory_files import Directory
from headwater.protocol.apis import ApiKey
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.create_delegation_token import (
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.describe_delegation_token import DescribeDelegationTokenRequest
from headwater.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from headwater.security.acls import Operation, ResourceType
from headwater.security.delegation_tokens import NAMES_BYTES_MAX, RENEWERS_MAX, USER_TYPE
from headwater.security.sasl_client import ScramClient
from headwater.security.scram import Mechanism
from tests.broker.harness import Harness
from tests.broker.test_authorization import ADMIN, ALICE, grant

BOB, EVE = "User:bob", "User:eve"
KEY = "a key that nobody knows"
DAY_MS = 86_400_000
SASL = Endpoint("SASL_PLAINTEXT", "SASL_PLAINTEXT", 1)


def new_broker(**pairs: object) -> Harness:
    settings = {key.replace("_", "."): value for key, value in pairs.items()}
    broker = Harness(pairs={"super.users": ADMIN, "delegation.token.secret.key": KEY, **settings})
    be(broker, ALICE)
    return broker


def be(broker: Harness, principal: str, endpoint: Endpoint = SASL) -> None:
    broker.connection = Connection("/test", endpoint, principal)


def create(
    broker: Harness, *renewers: str, owner: str | None = None, lifetime_ms: int = -1, version: int = 3
) -> CreateDelegationTokenResponse:
    wanted = [CreateDelegationTokenRequest.CreatableRenewers(*name.split(":")) for name in renewers]
    kind, name = owner.split(":") if owner is not None else (None, None)
    body = CreateDelegationTokenRequest(kind, name, wanted, lifetime_ms)
    answer: CreateDelegationTokenResponse = broker.call(ApiKey.CREATE_DELEGATION_TOKEN, version, body)
    return answer


def renew(broker: Harness, hmac: bytes, period_ms: int = -1) -> tuple[int, int]:
    answer = broker.call(ApiKey.RENEW_DELEGATION_TOKEN, 2, RenewDelegationTokenRequest(hmac, period_ms))
    return answer.error_code, answer.expiry_timestamp_ms


def expire(broker: Harness, hmac: bytes, period_ms: int = -1) -> tuple[int, int]:
    answer = broker.call(ApiKey.EXPIRE_DELEGATION_TOKEN, 2, ExpireDelegationTokenRequest(hmac, period_ms))
    return answer.error_code, answer.expiry_timestamp_ms


def describe(broker: Harness, *owners: str) -> Any:
    """The tokens of these owners; of all, if none are given."""
    wanted = [DescribeDelegationTokenRequest.DescribeDelegationTokenOwner(*name.split(":")) for name in owners]
    return broker.call(ApiKey.DESCRIBE_DELEGATION_TOKEN, 3, DescribeDelegationTokenRequest(wanted or None))


def seen(broker: Harness, principal: str, *owners: str) -> list[str]:
    be(broker, principal)
    answer = describe(broker, *owners)
    assert answer.error_code == 0
    return [token.token_id for token in answer.tokens]


def log_in(broker: Harness, token_id: str, hmac: bytes, endpoint: Endpoint = SASL) -> Any:
    """The last answer to a login with a token, on the present connection."""
    if broker.connection.endpoint != endpoint or broker.connection.sasl is None:
        broker.connection = Connection("/test", endpoint, UNAUTHENTICATED, is_restricted=True)
    mechanism = Mechanism.SCRAM_SHA_256
    client = ScramClient(mechanism, token_id, base64.b64encode(hmac).decode(), "theirs")
    client.bare += ",tokenauth=true"
    assert broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest(mechanism.label)).error_code == 0
    message = client.first()
    while True:
        pending = broker.send(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(message))
        broker.advance(100)  # a refusal comes late
        answer = pending.message
        if answer.error_code:
            return answer
        message = client.respond(answer.auth_bytes)
        if client.is_done:
            return answer


# -- who may do what


def test_a_user_makes_a_token_and_sees_it() -> None:
    broker = new_broker()
    made, now_ms = create(broker, BOB), broker.clock.wall_ms()
    assert (made.error_code, made.principal_type, made.principal_name) == (0, "User", "alice")
    assert (made.token_requester_principal_type, made.token_requester_principal_name) == ("User", "alice")
    assert made.issue_timestamp_ms == now_ms
    assert (made.expiry_timestamp_ms, made.max_timestamp_ms) == (now_ms + DAY_MS, now_ms + 7 * DAY_MS)
    assert len(base64.urlsafe_b64decode(made.token_id + "==")) == 16
    assert len(made.hmac) == 64
    (token,) = describe(broker).tokens
    assert (token.token_id, token.hmac) == (made.token_id, made.hmac)
    assert (token.issue_timestamp, token.expiry_timestamp) == (now_ms, now_ms + DAY_MS)
    assert token.max_timestamp == now_ms + 7 * DAY_MS
    assert [(renewer.principal_type, renewer.principal_name) for renewer in token.renewers] == [("User", "bob")]
    assert create(broker, version=1).error_code == 0


@pytest.mark.parametrize(
    ("lifetime_ms", "max_ms", "expiry_ms"), [(5000, 5000, 5000), (0, 90_000, 60_000), (100_000, 90_000, 60_000)]
)
def test_the_settings_bound_how_long_a_token_lasts(lifetime_ms: int, max_ms: int, expiry_ms: int) -> None:
    broker = new_broker(delegation_token_max_lifetime_ms=90_000, delegation_token_expiry_time_ms=60_000)
    made, now_ms = create(broker, lifetime_ms=lifetime_ms), broker.clock.wall_ms()
    assert (made.max_timestamp_ms - now_ms, made.expiry_timestamp_ms - now_ms) == (max_ms, expiry_ms)


def test_a_token_of_somebody_else_needs_a_right_to_that_user() -> None:
    broker = new_broker()
    refused = create(broker, owner=BOB)
    assert refused.error_code == ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED
    assert (refused.principal_name, refused.token_requester_principal_name) == ("bob", "alice")
    assert (refused.issue_timestamp_ms, refused.token_id, refused.hmac) == (-1, "", b"")
    assert create(broker, owner=ALICE).error_code == 0
    grant(broker, ALICE, (Operation.CREATE_TOKENS, ResourceType.USER, BOB))
    be(broker, ALICE)
    made = create(broker, owner=BOB)
    assert (made.error_code, made.principal_name, made.token_requester_principal_name) == (0, "bob", "alice")
    # alice sees what she has made for bob, but only bob renews it.
    assert made.token_id in seen(broker, ALICE)
    assert renew(broker, made.hmac)[0] == ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH
    be(broker, BOB)
    assert renew(broker, made.hmac)[0] == 0


@pytest.mark.parametrize("people", [{"renewers": ("Group:g",)}, {"owner": "Group:g"}])
def test_only_users_own_and_renew_tokens(people: dict[str, Any]) -> None:
    broker = new_broker()
    be(broker, ADMIN)
    answer = create(broker, *people.get("renewers", ()), owner=people.get("owner"))
    assert answer.error_code == ErrorCode.INVALID_PRINCIPAL_TYPE


def test_others_see_a_token_by_a_right_to_it_or_to_its_owner() -> None:
    broker = new_broker()
    token_id = create(broker, BOB).token_id
    assert seen(broker, ALICE) == seen(broker, BOB) == seen(broker, ADMIN) == [token_id]
    assert seen(broker, EVE) == []
    grant(broker, EVE, (Operation.DESCRIBE, ResourceType.DELEGATION_TOKEN, token_id))
    assert seen(broker, EVE) == [token_id]
    grant(broker, "User:mallory", (Operation.DESCRIBE_TOKENS, ResourceType.USER, ALICE))
    assert seen(broker, "User:mallory") == [token_id]
    assert seen(broker, ADMIN, ALICE) == seen(broker, ADMIN, BOB, EVE) == [token_id]
    assert seen(broker, ADMIN, EVE) == []
    nobody = broker.call(ApiKey.DESCRIBE_DELEGATION_TOKEN, 3, DescribeDelegationTokenRequest([]))
    assert (nobody.error_code, nobody.tokens) == (0, [])


ONE_WAY_TLS = Connection("/test", Endpoint("SSL", "SSL", 1), "User:ANONYMOUS")
IN_THE_CLEAR = Connection("/test", principal=ALICE)
PLANE = Connection("/test", Endpoint("headwater", "SASL_PLAINTEXT", 1), "User:headwater")
WITH_A_TOKEN = Connection("/test", SASL, ALICE, is_token=True)


@pytest.mark.parametrize("connection", [ONE_WAY_TLS, IN_THE_CLEAR, PLANE, WITH_A_TOKEN])
def test_some_connections_have_nothing_to_do_with_tokens(connection: Connection) -> None:
    broker = new_broker()
    hmac = create(broker).hmac
    broker.connection = connection
    code = ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
    made = create(broker)
    assert (made.error_code, made.issue_timestamp_ms, made.expiry_timestamp_ms) == (code, -1, -1)
    assert renew(broker, hmac) == expire(broker, hmac) == (code, -1)
    assert (describe(broker).error_code, describe(broker).tokens) == (code, [])


def test_a_client_certificate_may_make_tokens() -> None:
    broker = new_broker()
    be(broker, "User:CN=job,O=Headwater", Endpoint("SSL", "SSL", 1))
    made = create(broker)
    assert (made.error_code, made.principal_name) == (0, "CN=job,O=Headwater")


def test_without_a_secret_key_there_are_no_tokens() -> None:
    broker = new_broker(delegation_token_secret_key="")
    code = ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED
    made = create(broker)
    assert (made.error_code, made.principal_name, made.issue_timestamp_ms) == (code, "alice", 0)
    assert renew(broker, b"x") == expire(broker, b"x") == (code, 0)
    assert describe(broker).error_code == code
    assert log_in(broker, "x", b"x").error_code == ErrorCode.SASL_AUTHENTICATION_FAILED


def test_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = new_broker()
    assert create(broker, f"User:{'x' * NAMES_BYTES_MAX}").error_code == ErrorCode.POLICY_VIOLATION
    assert create(broker, *[BOB] * (RENEWERS_MAX + 1)).error_code == ErrorCode.POLICY_VIOLATION
    monkeypatch.setattr("headwater.broker.handlers.create_delegation_token.TOKENS_MAX", 1)
    assert create(broker).error_code == 0
    assert create(broker).error_code == ErrorCode.POLICY_VIOLATION


# -- renewing, and ending


def test_a_token_is_renewed_up_to_its_maximum() -> None:
    broker = new_broker()
    made = create(broker, BOB)
    issued_ms, hmac = made.issue_timestamp_ms, made.hmac
    be(broker, BOB)
    assert renew(broker, hmac, 5000) == (0, broker.clock.wall_ms() + 5000)
    for _ in range(6):
        assert renew(broker, hmac) == (0, broker.clock.wall_ms() + DAY_MS)
        broker.clock.advance(DAY_MS)
    broker.clock.advance(-1000)
    assert renew(broker, hmac, 2 * DAY_MS) == (0, issued_ms + 7 * DAY_MS - 1000)
    broker.clock.advance(2000)
    assert renew(broker, hmac) == (0, issued_ms + 7 * DAY_MS)
    assert renew(broker, hmac[:-1])[0] == ErrorCode.DELEGATION_TOKEN_NOT_FOUND
    be(broker, EVE)
    assert renew(broker, hmac)[0] == ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH
    broker.clock.advance(2 * DAY_MS)
    assert renew(broker, hmac)[0] == ErrorCode.DELEGATION_TOKEN_EXPIRED


def test_a_token_is_ended_at_once_or_after_a_time() -> None:
    broker = new_broker()
    made = create(broker, BOB)
    be(broker, EVE)
    assert expire(broker, made.hmac)[0] == ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH
    be(broker, BOB)
    assert expire(broker, made.hmac, 30 * DAY_MS) == (0, made.max_timestamp_ms)
    assert expire(broker, made.hmac, 3000) == (0, broker.clock.wall_ms() + 3000)
    broker.clock.advance(3001)
    assert expire(broker, made.hmac, 3000) == (ErrorCode.DELEGATION_TOKEN_EXPIRED, 0)
    assert expire(broker, made.hmac) == (0, broker.clock.wall_ms())
    assert expire(broker, made.hmac) == (ErrorCode.DELEGATION_TOKEN_NOT_FOUND, 0)
    assert describe(broker).tokens == []


def test_expired_tokens_are_forgotten_and_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    broker = new_broker(delegation_token_expiry_check_interval_ms=10_000)
    short, long = create(broker, lifetime_ms=5000), create(broker)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        broker.advance(9000)
        assert len(broker.core.metadata.tokens.tokens) == 2
        broker.advance(1000)
        assert list(broker.core.metadata.tokens.tokens) == [long.token_id]
        broker.advance(20_000)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"delegation token {short.token_id!r} of 'User:alice' has expired"]
    broker.restart()
    assert list(broker.core.metadata.tokens.tokens) == [long.token_id]


@pytest.mark.parametrize("how", ["restart", "kill", "snapshot"])
def test_tokens_last(how: str) -> None:
    broker = new_broker()
    made, other = create(broker, BOB, EVE), create(broker)
    expire(broker, other.hmac)
    renew(broker, made.hmac, 5000)
    before = dict(broker.core.metadata.tokens.tokens)
    if how == "snapshot":
        tokens = broker.core.metadata.tokens
        records = list(broker.core.metadata.snapshot())
        tokens.tokens.clear()
        for record in records:
            if record.RECORD_TYPE in (10, 26):
                broker.core.metadata.replay(record)
    else:
        getattr(broker, how)()
    assert broker.core.metadata.tokens.tokens == before
    assert list(before) == [made.token_id]
    assert before[made.token_id].renewers == (BOB, EVE)
    assert broker.core.metadata.tokens.find(made.hmac) == before[made.token_id]


def contents(directory: Directory) -> Iterator[bytes]:
    for entry in directory.names.values():
        if isinstance(entry, Directory):
            yield from contents(entry)
        else:
            yield bytes(entry.content)


def test_no_hmac_is_on_disk_or_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        broker = new_broker()
        made = create(broker)
        log_in(broker, made.token_id, b"guess")
        broker.core.close()
    files = list(contents(broker.files.root))
    assert any(made.token_id.encode() in content for content in files)
    for secret in (made.hmac, base64.b64encode(made.hmac), KEY.encode()):
        assert not any(secret in content for content in files)
        assert secret.decode(errors="replace") not in caplog.text
    assert KEY not in repr(broker.core.settings)


def test_the_secret_key_is_not_described() -> None:
    broker = new_broker()
    be(broker, ADMIN)
    name = "delegation.token.secret.key"
    wanted = DescribeConfigsRequest.DescribeConfigsResource(ConfigResourceType.BROKER, "1", [name])
    answer = broker.call(ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([wanted], True, True))
    (config,) = answer.results[0].configs
    assert (config.name, config.value, config.is_sensitive) == (name, None, True)
    assert KEY not in repr(answer)


def test_a_full_disk_makes_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = new_broker()
    made = create(broker)

    def fail(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(broker.core.metadata_runtime.log, "append", fail)
    refused = create(broker)
    assert (refused.error_code, refused.token_id, refused.hmac) == (ErrorCode.KAFKA_STORAGE_ERROR, "", b"")
    assert renew(broker, made.hmac)[0] == expire(broker, made.hmac)[0] == ErrorCode.KAFKA_STORAGE_ERROR
    assert list(broker.core.metadata.tokens.tokens) == [made.token_id]


# -- sessions


def test_a_session_with_a_token_is_the_owners_and_makes_no_tokens() -> None:
    broker = new_broker()
    made = create(broker)
    broker.advance(1000)
    answer = log_in(broker, made.token_id, made.hmac)
    assert (answer.error_code, broker.connection.principal) == (0, ALICE)
    assert answer.session_lifetime_ms == DAY_MS - 1000 - 100  # the first step has taken a moment
    assert broker.call(ApiKey.METADATA, 9, MetadataRequest([])).topics == []
    assert create(broker).error_code == ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED


def test_a_session_ends_with_its_token() -> None:
    broker = new_broker()
    made = create(broker, lifetime_ms=10_000)
    assert log_in(broker, made.token_id, made.hmac).session_lifetime_ms == 9_900
    be_again = broker.connection
    broker.advance(9_700)
    assert log_in(broker, made.token_id, made.hmac).error_code == 0
    broker.advance(200)
    with pytest.raises(ProtocolError, match="session's end"):
        broker.call(ApiKey.METADATA, 9, MetadataRequest([]))
    assert broker.connection is be_again
    assert log_in(broker, made.token_id, made.hmac).error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert broker.connection.must_close


@pytest.mark.parametrize(("limit_ms", "lifetime_ms"), [(5000, 5000), (60_000, 9_900)])
def test_a_session_ends_with_what_comes_first(limit_ms: int, lifetime_ms: int) -> None:
    broker = new_broker(connections_max_reauth_ms=limit_ms)
    made = create(broker, lifetime_ms=10_000)
    assert log_in(broker, made.token_id, made.hmac).session_lifetime_ms == lifetime_ms


def test_another_owners_token_does_not_change_the_principal() -> None:
    broker = new_broker()
    mine = create(broker)
    be(broker, BOB)
    theirs = create(broker)
    assert log_in(broker, mine.token_id, mine.hmac).error_code == 0
    answer = log_in(broker, theirs.token_id, theirs.hmac)
    assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert "change principals" in answer.error_message


def test_the_planes_listener_takes_no_tokens() -> None:
    """Whoever may make a token of the user `headwater` does not become a plane by it."""
    broker = new_broker()
    be(broker, ADMIN)
    made = create(broker, owner=f"{USER_TYPE}:headwater")
    private = Endpoint("headwater", "SASL_PLAINTEXT", 1)
    assert log_in(broker, made.token_id, made.hmac, private).error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert log_in(broker, made.token_id, made.hmac).error_code == 0
    assert not broker.connection.is_of_planes
