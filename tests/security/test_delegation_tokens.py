"""Delegation tokens: who they are for, when they end, and what a login with one of them proves."""

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.security import scram
from headwater.security.delegation_tokens import LONG_MAX, DelegationTokens, Token, TokenLogins, later
from headwater.security.sasl import PASSWORD_MECHANISMS, new_exchange
from headwater.security.sasl_client import ScramClient
from headwater.security.scram import AuthenticationError, Mechanism, ScramExchange

NOW_MS = 1_000_000
TOKEN = Token("id-1", "User:alice", "User:admin", ("User:bob",), NOW_MS, NOW_MS + 5000, NOW_MS + 1000)


def tokens_of(*known: Token, key: str = "secret") -> DelegationTokens:
    made = DelegationTokens(key)
    for token in known:
        made.put(token)
    return made


def password_of(tokens: DelegationTokens, token_id: str) -> str:
    return base64.b64encode(tokens.hmac(token_id)).decode()


def log_in(
    tokens: DelegationTokens, token_id: str, password: str, now_ms: int = NOW_MS, **extension: str
) -> ScramExchange:
    """The exchange after a login. Raises AuthenticationError."""
    mechanism = Mechanism.SCRAM_SHA_512
    server: Any = new_exchange(mechanism.label, {}, lambda: "ours", b"", TokenLogins(tokens, lambda: now_ms))
    client = ScramClient(mechanism, token_id, password, "theirs")
    for key, value in (extension or {"tokenauth": "true"}).items():
        client.bare += f",{key}={value}"
    assert server.is_slow(client.first()) is ("tokenauth" in client.bare)
    proof = client.respond(server.respond(client.first()))
    assert not server.is_slow(proof)
    client.respond(server.respond(proof))
    assert client.is_done
    assert isinstance(server, ScramExchange)
    return server


def test_the_hmac_is_kafkas() -> None:
    """HMAC-SHA-512 of the id with the secret key, by RFC 2104."""
    key, size = b"secret".ljust(128, b"\0"), 128
    inner = hashlib.sha512(bytes(key[n] ^ 0x36 for n in range(size)) + b"id-1").digest()
    assert tokens_of().hmac("id-1") == hashlib.sha512(bytes(key[n] ^ 0x5C for n in range(size)) + inner).digest()


@pytest.mark.parametrize("written", ["true", "TRUE"])
def test_a_token_makes_a_client_its_owner(written: str) -> None:
    tokens = tokens_of(TOKEN)
    server = log_in(tokens, "id-1", password_of(tokens, "id-1"), tokenauth=written)
    assert (server.is_done, server.user, server.claimed, server.is_token) == (True, "alice", "id-1", True)
    assert server.expires_ms == TOKEN.expires_ms


def test_a_session_ends_with_the_maximum_if_that_comes_first() -> None:
    tokens = tokens_of(TOKEN._replace(max_ms=NOW_MS + 7))
    assert log_in(tokens, "id-1", password_of(tokens, "id-1")).expires_ms == NOW_MS + 7


@pytest.mark.parametrize(
    ("known", "password", "now_ms"),
    [
        ((TOKEN,), "guess", NOW_MS),
        ((TOKEN,), "", TOKEN.expires_ms + 1),
        ((TOKEN._replace(max_ms=NOW_MS - 1),), "", NOW_MS),
        ((), "", NOW_MS),
    ],
    ids=["a wrong password", "an expired token", "beyond the maximum", "a removed token"],
)
def test_other_logins_fail_at_the_last_step_with_the_same_words(
    known: tuple[Token, ...], password: str, now_ms: int
) -> None:
    tokens = tokens_of(*known)
    server = new_exchange("SCRAM-SHA-512", {}, lambda: "ours", b"", TokenLogins(tokens, lambda: now_ms))
    client = ScramClient(Mechanism.SCRAM_SHA_512, "id-1", password or password_of(tokens, "id-1"), "theirs")
    client.bare += ",tokenauth=true"
    proof = client.respond(server.respond(client.first()))
    with pytest.raises(AuthenticationError, match="due to invalid credentials with SASL mechanism SCRAM-SHA-512"):
        server.respond(proof)
    assert (server.user, server.is_done) == (None, False)


def test_a_token_is_good_up_to_its_last_millisecond() -> None:
    tokens = tokens_of(TOKEN)
    assert log_in(tokens, "id-1", password_of(tokens, "id-1"), TOKEN.expires_ms).user == "alice"


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS[1:])
def test_the_first_step_does_not_tell_which_tokens_there_are(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[tuple[str, int, int, int]] = []
    pbkdf2 = hashlib.pbkdf2_hmac

    def count(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        hashed.append((name, len(password), len(salt), iterations))
        return pbkdf2(name, password, salt, iterations)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", count)
    answers = []
    for token_id in ("id-1", "id-2"):
        tokens = TokenLogins(tokens_of(TOKEN), lambda: NOW_MS)
        first = f"n,,n={token_id},r=theirs,tokenauth=true".encode()
        both = [new_exchange(mechanism, {}, lambda: "ours", b"", tokens).respond(first) for _ in range(2)]
        assert both[0] == both[1]
        answers.append(scram.attributes(both[0].decode()))
    known, unknown = answers
    assert (known["r"], known["i"]) == (unknown["r"], unknown["i"])
    assert len(base64.b64decode(known["s"])) == len(base64.b64decode(unknown["s"]))
    assert known["s"] != unknown["s"]
    assert len(set(hashed)) == 1
    assert len(hashed) == 4


def test_the_password_of_a_token_is_not_one_of_a_user() -> None:
    tokens = tokens_of(TOKEN)
    with pytest.raises(AuthenticationError):
        log_in(tokens, "id-1", password_of(tokens, "id-1"), tokenauth="false")
    with pytest.raises(AuthenticationError):
        log_in(tokens, "id-1", password_of(tokens, "id-1"), other="true")


def test_without_tokens_none_are_accepted() -> None:
    server = new_exchange("SCRAM-SHA-256", {}, lambda: "ours")
    with pytest.raises(AuthenticationError, match="invalid credentials"):
        server.respond(b"n,,n=id-1,r=theirs,tokenauth=true")


def test_another_secret_key_ends_all_tokens() -> None:
    before, after = tokens_of(TOKEN), tokens_of(TOKEN, key="another")
    assert after.find(before.hmac("id-1")) is None
    with pytest.raises(AuthenticationError):
        log_in(after, "id-1", password_of(before, "id-1"))


def test_without_a_secret_key_tokens_are_kept_and_cannot_be_used() -> None:
    tokens = tokens_of(TOKEN, key="")
    assert (tokens.is_enabled, tokens.tokens, tokens.find(tokens.hmac("id-1"))) == (False, {"id-1": TOKEN}, None)
    tokens.remove("id-1")
    assert tokens.tokens == {}


def test_a_token_is_found_by_its_hmac_until_it_is_removed() -> None:
    tokens = tokens_of(TOKEN)
    changed = TOKEN._replace(expires_ms=5)
    tokens.put(changed)
    assert tokens.find(tokens.hmac("id-1")) == changed
    tokens.remove("id-1")
    tokens.remove("id-1")
    assert (tokens.find(tokens.hmac("id-1")), tokens.ids) == (None, {})


def test_owners_and_renewers_may_renew_a_token_and_its_requester_sees_it() -> None:
    people = ("User:alice", "User:admin", "User:bob", "User:eve", "alice")
    assert [TOKEN.may_be_renewed_by(principal) for principal in people] == [True, False, True, False, False]
    assert [TOKEN.is_of(principal) for principal in people] == [True, True, True, False, False]


@given(st.integers(0, LONG_MAX), st.integers(0, LONG_MAX))
def test_no_time_is_beyond_the_last(now_ms: int, duration_ms: int) -> None:
    assert now_ms <= later(now_ms, duration_ms) <= LONG_MAX


def test_expired_tokens_are_found() -> None:
    other = TOKEN._replace(token_id="id-2", expires_ms=NOW_MS - 1)
    assert list(tokens_of(TOKEN, other).find_expired(NOW_MS)) == [other]
