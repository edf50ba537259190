"""The client's side of SASL: it logs in at the server's own side, and it believes no other server."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.security.access_tokens import AccessToken, TokenError
from headwater.security.bearer import BearerExchange
from headwater.security.sasl import PASSWORD_MECHANISMS, new_exchange
from headwater.security.sasl_client import ScramClient, new_client_exchange
from headwater.security.scram import (
    ITERATIONS_MIN,
    AuthenticationError,
    Credential,
    Mechanism,
    credential_of,
    salt_password,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
SALT = b"0123456789abcdef"


def credentials(user: str, password: str) -> dict[tuple[str, Mechanism], Credential]:
    return {
        (user, kind): credential_of(kind, salt_password(kind, password, SALT, ITERATIONS_MIN), SALT, ITERATIONS_MIN)
        for kind in Mechanism
    }


def log_in(mechanism: str, user: str, password: str, right_password: str) -> str | None:
    server = new_exchange(mechanism, credentials(user, right_password), lambda: "theirs")
    client = new_client_exchange(mechanism, user, password, lambda: "ours")
    message = client.first()
    while not client.is_done:
        message = client.respond(server.respond(message))
    assert message == b""
    return server.user


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(PASSWORD_MECHANISMS), TEXT, TEXT)
def test_logs_in_at_our_server(mechanism: str, user: str, password: str) -> None:
    assert log_in(mechanism, user, password, password) == user


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
def test_a_wrong_password_is_refused(mechanism: str) -> None:
    with pytest.raises(AuthenticationError, match="Authentication failed"):
        log_in(mechanism, "user", "guess", "password")


def bearer_log_in(text: str, user: str = "") -> str | None:
    def check(token: str) -> AccessToken:
        if token != "good.to.ken":
            raise TokenError("it is not good")
        return AccessToken("a,b=c", 1)

    server, client = BearerExchange(check), new_client_exchange("OAUTHBEARER", user, text, lambda: "")
    message = client.first()
    while not client.is_done:
        message = client.respond(server.respond(message))
    assert message == b""
    return server.user


@pytest.mark.parametrize("user", ["", "a,b=c"])
def test_a_token_logs_in_at_our_server(user: str) -> None:
    assert bearer_log_in("good.to.ken", user) == "a,b=c"


def test_a_refused_token_ends_the_login() -> None:
    with pytest.raises(AuthenticationError, match="invalid_token"):
        bearer_log_in("bad")
    with pytest.raises(AuthenticationError, match="authorization id"):
        bearer_log_in("good.to.ken", "bob")
    client = new_client_exchange("OAUTHBEARER", "", "bad", lambda: "")
    assert client.first() == b"n,,\x01auth=Bearer bad\x01\x01"
    assert client.respond(b'{"status":"invalid_token"}') == b"\x01"
    with pytest.raises(AuthenticationError, match="does not end the login"):
        client.respond(b"{}")


def scram() -> ScramClient:
    return ScramClient(Mechanism.SCRAM_SHA_256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")


def test_the_example_of_rfc_7677() -> None:
    client = scram()
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert client.respond(challenge).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    assert not client.is_done
    assert client.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert client.is_done


@pytest.mark.parametrize(
    ("challenge", "says"),
    [
        (b"r=another,s=AAAA,i=4096", "nonce"),
        (b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", "nonce"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4095", "4095 SCRAM iterations"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1000001", "1000001 SCRAM iterations"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=99999999999999999999", "iterations"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA", "no SCRAM iterations"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=A,i=4096", "base64"),
        (b"e=unknown-user", "unknown-user"),
        (b"\xff", "not text"),
        (bytes(9000), "does not belong"),
    ],
)
def test_a_challenge_that_makes_no_sense_is_refused(challenge: bytes, says: str) -> None:
    client = scram()
    client.first()
    with pytest.raises(AuthenticationError, match=says):
        client.respond(challenge)


@pytest.mark.parametrize("answer", [b"v=" + base64.b64encode(bytes(32)), b"v=", b"x", b"e=other-error"])
def test_a_server_that_does_not_know_the_password_is_not_believed(answer: bytes) -> None:
    client = scram()
    client.first()
    client.respond(b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096")
    with pytest.raises(AuthenticationError):
        client.respond(answer)
    assert not client.is_done


def test_a_finished_exchange_takes_nothing_more() -> None:
    client = scram()
    client.is_done = True
    with pytest.raises(AuthenticationError, match="belong"):
        client.respond(b"")
