"""SCRAM by the example of RFC 7677, and whatever a client may send instead."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.security.sasl import PlainExchange
from headwater.security.scram import (
    AuthenticationError,
    Credential,
    Mechanism,
    ScramExchange,
    credential_of,
    password_matches,
    salt_password,
)

SHA_256 = Mechanism.SCRAM_SHA_256
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def credential(mechanism: Mechanism = SHA_256, password: str = "pencil", iterations: int = 4096) -> Credential:
    return credential_of(mechanism, salt_password(mechanism, password, SALT, iterations), SALT, iterations)


def exchange() -> ScramExchange:
    found = credential()
    return ScramExchange(SHA_256, lambda user: found if user == "user" else None, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")


def test_the_example_of_rfc_7677() -> None:
    server = exchange()
    first = server.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert first.decode() == f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = server.respond(f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode())
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert (server.is_done, server.user) == (True, "user")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"p=tls,,n=user,r=x",
        b"n,,n=user",
        b"n,,n=nobody,r=x",
        b"n,a=root,n=user,r=x",
        b"\xff",
        b"n,,m=1,n=user,r=x",
    ],
)
def test_what_is_not_a_first_message_is_refused(message: bytes) -> None:
    with pytest.raises(AuthenticationError):
        exchange().respond(message)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("p=d", "p=e"),
        lambda text: text.replace("c=biws", "c=eSws"),
        lambda text: text.replace("r=rOpr", "r=xxxx"),
        lambda text: text.partition(",p=")[0],
        lambda text: text.partition("p=")[0] + "p=***",
    ],
)
def test_what_is_not_a_proof_is_refused(change: Callable[[str], str]) -> None:
    server = exchange()
    server.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    right = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    with pytest.raises(AuthenticationError):
        server.respond(change(right).encode())
    assert not server.is_done


def test_nothing_follows_the_last_message() -> None:
    server = exchange()
    server.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    server.respond(last)
    for message in (last, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"):
        with pytest.raises(AuthenticationError, match="Invalid SCRAM message"):
            server.respond(message)
    assert (server.is_done, server.user) == (True, "user")


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_garbage_never_gets_in(messages: list[bytes]) -> None:
    for server in (exchange(), PlainExchange({("user", SHA_256): credential()})):
        for message in messages:
            try:
                server.respond(message)
            except AuthenticationError:
                break
        assert not server.is_done


@pytest.mark.parametrize("mechanism", list(Mechanism))
def test_plain_checks_the_same_salted_password(mechanism: Mechanism) -> None:
    found = credential(mechanism)
    assert password_matches(mechanism, found, "pencil")
    assert not password_matches(mechanism, found, "pencils")
    server = PlainExchange({("user", mechanism): found})
    assert server.respond(b"\0user\0pencil") == b""
    assert server.user == "user"
    for wrong in (b"\0user\0pen", b"\0nobody\0pencil", b"other\0user\0pencil", b"\0\0pencil", b"\0user\0", b"user"):
        with pytest.raises(AuthenticationError):
            PlainExchange({("user", mechanism): found}).respond(wrong)
