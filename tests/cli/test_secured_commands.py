"""Commands on a broker with TLS, logins and ACLs: they say which address let them in or did not, and why."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import headwater as hw
from tests.certificates import make_certificate
from tests.cli.test_commands import ENVIRONMENT, headwater

PASSWORD = "correct horse"


class Secured(NamedTuple):
    """A broker that knows `admin`, who may do everything, and `alice`, who may read `orders` and be in no group."""

    plain: str
    address: str
    directory: Path

    def config(self, **changes: str) -> str:
        """A file of client settings, as `-X @FILE`."""
        settings = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "alice",
            "sasl.password": PASSWORD,
            "ssl.ca.location": str(self.directory / "authority.crt"),
        }
        path = self.directory / "client.properties"
        lines = [f"{key.replace('__', '.')}={value}" for key, value in {**settings, **changes}.items()]
        path.write_text("\n".join(["# of a test", "", *lines]))
        return f"@{path}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("pki")
    authority = make_certificate(directory, "authority")
    make_certificate(directory, "stranger")
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_SSL://127.0.0.1:0",
        "ssl.keystore.location": str(make_certificate(directory, "broker", authority)),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "group.initial.rebalance.delay.ms": 0,
    }
    with hw.Broker(settings=settings) as broker:
        plain = broker.addresses["PLAINTEXT"]
        assert headwater("user", "create", "alice", "-b", plain, stdin=PASSWORD) == "Saved user alice\n"
        assert headwater("acl", "add", "User:alice", "topic:orders", "read", "-b", plain).startswith("Added 1 entry ")
        headwater("topic", "create", "orders", "-b", plain)
        headwater("produce", "orders", "-b", plain, stdin="hi\n")
        yield Secured(plain, broker.addresses["SASL_SSL"], directory)


def test_reading_without_a_group_needs_no_rights_on_one(secured: Secured) -> None:
    assert headwater("consume", "orders", "-b", secured.address, "-X", secured.config()) == "hi\n"


def test_a_group_that_may_not_be_used_is_named(secured: Secured) -> None:
    words = ("consume", "orders", "-g", "billing", "-b", secured.address, "-X", secured.config())
    assert "group billing" in headwater(*words, status=1)


def test_a_wrong_password_is_called_that(secured: Secured) -> None:
    wrong = secured.config(sasl__password="wrong")
    for words in (("topic", "list"), ("consume", "orders"), ("group", "list")):
        error = headwater(*words, "-b", secured.address, "-X", wrong, status=1)
        assert secured.address in error
        assert "authentication" in error.lower(), error


def test_an_authority_that_is_not_trusted_is_called_that(secured: Secured) -> None:
    config = secured.config(ssl__ca__location=str(secured.directory / "stranger.crt"))
    error = headwater("topic", "list", "-b", secured.address, "-X", config, status=1)
    assert secured.address in error
    assert "certificate verify failed" in error


def test_a_plain_client_of_a_listener_with_tls_gets_an_explanation(secured: Secured) -> None:
    error = headwater("topic", "list", "-b", secured.address, status=1)
    assert secured.address in error
    assert "security.protocol" in error


def test_settings_come_from_the_file_that_the_variable_names(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "HEADWATER_CLIENT_CONFIG", secured.config()[1:])
    assert headwater("consume", "orders", "-b", secured.address) == "hi\n"


def test_what_a_user_may_not_ask_is_refused_in_one_line(secured: Secured) -> None:
    """librdkafka ends the process if users are refused, and gives an empty list of entries."""
    for words, what in (
        (("user", "list"), "listing users"),
        (("user", "delete", "alice"), "deleting user alice"),
        (("user", "create", "bob", "--password-stdin"), "saving user bob"),
        (("acl", "list"), "listing entries"),
    ):
        error = headwater(*words, "-b", secured.address, "-X", secured.config(), stdin="secret\n", status=1)
        assert error.startswith(f"headwater: {what}: "), error
        assert "(CLUSTER_AUTHORIZATION_FAILED); an administrator can allow it" in error
        assert "(null)" not in error


def test_a_user_that_does_not_exist_cannot_be_deleted(secured: Secured) -> None:
    assert "user nobody does not exist" in headwater("user", "delete", "nobody", "-b", secured.plain, status=1)


def test_a_file_that_does_not_exist_is_named(secured: Secured) -> None:
    config = secured.config(ssl__ca__location="nowhere/ca.pem")
    error = headwater("topic", "list", "-b", secured.address, "-X", config, status=1)
    assert "ssl.ca.location: nowhere/ca.pem does not exist; a relative path starts in the working directory, /" in error
