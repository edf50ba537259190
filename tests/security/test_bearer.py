"""The exchange of OAUTHBEARER: its bytes, and what a client learns."""

import pytest

from headwater.security.access_tokens import AccessToken, TokenError
from headwater.security.bearer import BearerExchange
from headwater.security.scram import AuthenticationError
from tests.tokens import first_message

GENERIC = "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER"


def check(text: str) -> AccessToken:
    if text != "good.to.ken":
        raise TokenError("it is not good", "mallory" if text == "known" else None)
    return AccessToken("ali=ce,", 1234, ("g",))


def begin() -> BearerExchange:
    return BearerExchange(check)


@pytest.mark.parametrize(
    "message",
    [
        b"n,,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,,\x01auth=bEARER  good.to.ken\x01\x01",
        b"n,a=ali=3Dce=2C,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,,\x01traceId=123 a\t\x01auth=Bearer good.to.ken\x01logicalCluster=lkc-1\x01\x01",  # KIP-342's extensions
        b"n,,\x01auth=Bearer other\x01auth=Bearer good.to.ken\x01\x01",  # Kafka takes the last one
    ],
)
def test_a_good_token_is_a_login(message: bytes) -> None:
    exchange = begin()
    assert exchange.respond(message) == b""
    assert (exchange.is_done, exchange.user, exchange.claimed) == (True, "ali=ce,", "ali=ce,")
    assert (exchange.expires_ms, exchange.groups) == (1234, ("Group:g",))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"\0alice\0secret",
        b"n,,n=alice,r=nonce",
        b"y,,\x01auth=Bearer good.to.ken\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,a=,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,a=x=y,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,a=\xc3\xa9,\x01auth=Bearer good.to.ken\x01\x01",
        b"n,,\x01auth=Bearer good.to.ken\x01",
        b"n,,\x01auth=Bearer good.to.ken\x01\x01\x01",
        b"n,,\x01auth=Bearer good.to.ken\x01\x01\n",
        b"n,,\x01\x01",
        b"n,,\x01host=example.org\x01\x01",
        b"n,,\x01Auth=Bearer good.to.ken\x01\x01",
        b"n,,\x01auth=Basic good.to.ken\x01\x01",
        b"n,,\x01auth=Bearer good to ken\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer g\xc3\xb6od.to.ken\x01\x01",
        b"n,,\x01auth=Bearer good.to.ken\x01port1=x\x01\x01",
        b"n,,\x01auth=Bearer good.to.ken\x01empty=\x01\x01",
    ],
)
def test_what_is_not_of_the_form_is_refused_at_once(message: bytes) -> None:
    exchange = begin()
    with pytest.raises(AuthenticationError) as refused:
        exchange.respond(message)
    assert (str(refused.value), exchange.is_done, exchange.user) == (GENERIC, False, None)
    assert "first message" in refused.value.reason


@pytest.mark.parametrize(("text", "claimed"), [("bad", None), ("known", "mallory")])
@pytest.mark.parametrize("end", [b"\x01", b"", first_message("good.to.ken")])
def test_a_refused_token_is_answered_in_json_and_then_fails(text: str, claimed: str | None, end: bytes) -> None:
    exchange = begin()
    assert exchange.respond(first_message(text)) == b'{"status":"invalid_token"}'
    assert not exchange.is_done
    with pytest.raises(AuthenticationError) as refused:
        exchange.respond(end)
    assert str(refused.value) == '{"status":"invalid_token"}'
    assert refused.value.reason == "the token is refused: it is not good"
    assert (exchange.is_done, exchange.user, exchange.claimed) == (False, None, claimed)


def test_a_client_cannot_be_another_than_its_token_says() -> None:
    exchange = begin()
    with pytest.raises(AuthenticationError, match=r"authorization id \(bob\) that is different .* \(ali=ce,\)"):
        exchange.respond(first_message("good.to.ken", name="bob"))
    assert (exchange.is_done, exchange.user) == (False, None)
