"""The same clients over TLS with SCRAM and ACLs, as on a cluster; and what they say when they are not let in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

import headwater as hw
from headwater.client.errors import AuthenticationError, AuthorizationError
from tests.certificates import make_certificate

PASSWORD = "water under the bridge"
WAIT_MS = 20_000.0


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A broker that lets in `admin`, and `guest` who may do nothing; its address and its authority."""
    directory = tmp_path_factory.mktemp("pki")
    authority = make_certificate(directory, "authority")
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_SSL://127.0.0.1:0",
        "ssl.keystore.location": make_certificate(directory, "broker", authority),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    with hw.Broker(settings=settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.addresses["PLAINTEXT"]})
        for user in ("admin", "guest"):
            change = UserScramCredentialUpsertion(
                user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
            )
            admin.alter_user_scram_credentials([change])[user].result(WAIT_MS / 1000)
        yield broker.addresses["SASL_SSL"], directory / "authority.crt"


def settings(authority: Path, user: str, password: str = PASSWORD) -> dict[str, Any]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        "ssl.ca.location": str(authority),
    }


def test_everything_works_over_tls_and_scram(secured: tuple[str, Path]) -> None:
    address, authority = secured
    own = settings(authority, "admin")
    with hw.Admin(address, settings=own) as admin:
        admin.create_topic("orders")
    with hw.Producer(address, settings=own) as producer:
        producer.send("orders", {"id": 1}).result(WAIT_MS)
    with hw.Consumer(address, "orders", group="billing", settings=own) as events:
        assert events.take(1, WAIT_MS)[0].value == {"id": 1}

    def fail(event: hw.Event[Any]) -> None:
        raise ValueError("no")

    # Dead letters go the same secured way.
    with hw.Consumer(address, "orders", group="other", settings=own, idle_timeout_ms=500) as events:
        events.handle(fail, on_error=hw.DeadLetter())
    with hw.Consumer(address, "orders.dead", group="support", settings=own) as letters:
        assert letters.take(1, WAIT_MS)[0].headers["hw_error"] == "ValueError: no"


def test_a_client_without_the_right_gets_an_error_that_says_so(secured: tuple[str, Path]) -> None:
    address, authority = secured
    own = settings(authority, "guest")
    with hw.Admin(address, settings=own) as admin, pytest.raises(AuthorizationError, match="headwater acl"):
        admin.create_topic("mine")
    quick = {**own, "enable.idempotence": False}
    with hw.Producer(address, settings=quick) as producer, pytest.raises(AuthorizationError):
        producer.send("orders", 1).result(WAIT_MS)
    with hw.Consumer(address, "orders", group="billing", settings=own) as events, pytest.raises(AuthorizationError):
        events.take(1, WAIT_MS)


def test_a_wrong_password_is_reported_and_not_only_waited_for(secured: tuple[str, Path]) -> None:
    address, authority = secured
    own = settings(authority, "admin", "wrong")
    with hw.Admin(address, timeout_ms=2000, settings=own) as admin, pytest.raises(AuthenticationError, match="sasl"):
        admin.topics()
    quick = {**own, "message.timeout.ms": 2000, "enable.idempotence": False}
    with hw.Producer(address, settings=quick) as producer, pytest.raises(AuthenticationError):
        producer.send("orders", 1).result(WAIT_MS)
    with hw.Consumer(address, "orders", group="billing", settings=own) as events, pytest.raises(AuthenticationError):
        events.take(1, WAIT_MS)
