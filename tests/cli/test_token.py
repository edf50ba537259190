"""`headwater token`: tokens made, listed, renewed and ended; and what keeps a user from it."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import headwater as hw
from tests.cli.test_commands import headwater


class Secured(NamedTuple):
    """A broker with tokens that knows `alice`, who has no rights, and `admin`, who may do everything."""

    plain: str
    address: str

    def as_user(self, name: str) -> list[str]:
        login = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": name,
            "sasl.password": "secret",
        }
        return ["-b", self.address, *(word for pair in login.items() for word in ("-X", "=".join(pair)))]

    def listed(self, name: str, *options: str) -> Any:
        return json.loads(headwater("token", "list", "-o", "json", *options, *self.as_user(name)))


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "delegation.token.secret.key": "a key that nobody knows",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    with hw.Broker(settings=settings) as broker:
        found = Secured(broker.addresses["PLAINTEXT"], broker.addresses["SASL_PLAINTEXT"])
        for name in ("alice", "admin"):
            headwater("user", "create", name, "-b", found.plain, stdin="secret\n")
        yield found


def test_a_token_from_its_start_to_its_end(secured: Secured) -> None:
    alice = secured.as_user("alice")
    made = json.loads(headwater("token", "create", "--renewer", "User:bob", "-o", "json", *alice))
    assert list(made) == ["token", "password", "owner", "expires", "maximum"]
    assert (made["owner"], len(made["password"])) == ("User:alice", 88)
    (row,) = secured.listed("alice")
    expected = {"token": made["token"], "owner": "User:alice", "requester": "User:alice", "renewers": "User:bob"}
    assert {key: row[key] for key in expected} == expected
    assert (row["expires"], row["maximum"]) == (made["expires"], made["maximum"])
    assert made["password"] not in headwater("token", "list", *alice)
    assert secured.listed("alice", "--owner", "User:bob") == [row]
    assert secured.listed("admin", "--owner", "User:eve") == []
    renewed = headwater("token", "renew", made["token"], "--period-ms", 172_800_000, *secured.as_user("alice"))
    assert renewed.startswith(f"Renewed token {made['token']}: it ends at ")
    soon = headwater("token", "expire", made["token"], "--after-ms", 60_000, *alice)
    assert soon.startswith(f"Token {made['token']} ends at ")
    assert secured.listed("alice")[0]["expires"] in soon
    assert headwater("token", "expire", made["token"], *alice) == f"Ended token {made['token']}\n"
    assert secured.listed("alice") == []


def test_a_token_is_shown_in_words(secured: Secured) -> None:
    said = headwater("token", "create", "--lifetime-ms", 60_000, *secured.as_user("alice")).splitlines()
    token_id = said[0].split()[2]
    assert said[0] == f"Created token {token_id} of User:alice"
    assert said[1].startswith("Password: ")
    (row,) = secured.listed("alice")
    assert said[2] == f"It ends at {row['expires']} unless it is renewed, and at {row['maximum']} in any case"
    assert row["expires"] == row["maximum"]
    headwater("token", "expire", token_id, *secured.as_user("alice"))


def test_a_right_to_a_user_makes_tokens_for_that_user(secured: Secured) -> None:
    scheduler, plain = secured.as_user("alice"), ["-b", secured.plain]
    refused = headwater("token", "create", "--owner", "User:bob", *scheduler, status=1)
    assert refused.startswith("headwater: making a token for User:bob: ")
    assert "DELEGATION_TOKEN_AUTHORIZATION_FAILED" in refused
    said = headwater("acl", "add", "User:alice", "user:bob", "create_tokens", "describe_tokens", *plain)
    assert said == "Added 2 entries for User:alice on user:bob\n"
    assert "user:bob" in headwater("acl", "list", *plain)
    made = json.loads(headwater("token", "create", "--owner", "User:bob", "-o", "json", *scheduler))
    assert made["owner"] == "User:bob"
    mismatch = headwater("token", "renew", made["token"], *scheduler, status=1)
    assert mismatch.startswith(f"headwater: renewing token {made['token']}: ")
    headwater("acl", "add", "User:eve", f"token:{made['token']}", "describe", *plain)
    assert f"token:{made['token']}" in headwater("acl", "list", *plain)
    for resource in ("user:bob", f"token:{made['token']}"):
        user = "User:alice" if resource == "user:bob" else "User:eve"
        assert headwater("acl", "remove", user, resource, *plain).startswith("Removed ")
    assert headwater("acl", "list", *plain) == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "--owner", "alice"), "'alice' is not a principal: User:NAME"),
        (("create", "--renewer", "User:"), "'User:' is not a principal: User:NAME"),
        (("list", "--owner", "alice"), "'alice' is not a principal: User:NAME"),
        (("renew", "none"), "there is no token none that you may see; headwater token list shows those"),
        (("expire", "none"), "there is no token none that you may see; headwater token list shows those"),
    ],
)
def test_what_cannot_be_done_is_explained(secured: Secured, words: tuple[str, ...], says: str) -> None:
    assert headwater("token", *words, *secured.as_user("alice"), status=1) == f"headwater: {says}\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [(("create",), "making a token for you"), (("list",), "listing tokens"), (("renew", "x"), "renewing token x")],
)
def test_in_the_clear_there_are_no_tokens(secured: Secured, words: tuple[str, ...], what: str) -> None:
    error = headwater("token", *words, "-b", secured.plain, status=1)
    assert error.startswith(f"headwater: {what}: ")
    assert "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" in error
