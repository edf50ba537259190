"""Clients that log in with tokens, over sockets: librdkafka's own OAuth, with a token server and a key server beside it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

import headwater as hw
from headwater.cli.app import run
from tests.identity_provider import IdentityProvider, serving
from tests.tokens import AUDIENCE, ISSUER, claims, token

TIMEOUT_S = 20
LEFT_OUT = {"log_level", "sasl.oauthbearer.extensions"}  # for librdkafka only


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with serving() as running:
        yield running


@pytest.fixture
def broker(provider: IdentityProvider) -> Iterator[hw.Broker]:
    settings = {
        "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "sasl.oauthbearer.jwks.endpoint.url": f"{provider.url}/keys",
        "sasl.oauthbearer.expected.issuer": ISSUER,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "headwater.sasl.oauthbearer.allowed.urls": f"{provider.url}/keys",
        "super.users": "User:alice",
    }
    with hw.Broker(settings=settings) as running:
        yield running


def oidc(broker: hw.Broker, provider: IdentityProvider, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": broker.address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "billing",
        "sasl.oauthbearer.client.secret": "secret",
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.extensions": "traceId=123",
        "sasl.oauthbearer.token.endpoint.url": f"{provider.url}/token",
        "log_level": 0,
        **{key.replace("_", "."): value for key, value in more.items()},
    }


def with_token(broker: hw.Broker, make: Any, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": broker.address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "OAUTHBEARER",
        "oauth_cb": lambda config: (make(), claims()["exp"]),
        "log_level": 0,
        **more,
    }


def produce(settings: dict[str, Any], *values: bytes) -> None:
    """Produces records; each must arrive."""
    failed: list[Any] = []
    producer = Producer(settings)
    producer.poll(0)
    for value in values:
        producer.produce("t", value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(TIMEOUT_S) == 0
    assert failed == []


def consume(settings: dict[str, Any], count: int) -> list[bytes]:
    consumer = Consumer({**settings, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe(["t"])
    values: list[bytes] = []
    while len(values) < count:
        message = consumer.poll(TIMEOUT_S)
        assert message is not None, values
        assert message.error() is None, message.error()
        values.append(message.value())
    consumer.close()
    return values


def refusal(settings: dict[str, Any]) -> str:
    """What a client says that is not let in."""
    errors: list[Any] = []
    admin = AdminClient({**settings, "error_cb": errors.append})
    admin.poll(0)
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    admin.poll(TIMEOUT_S)
    found = [error for error in errors if error.name() == "_AUTHENTICATION"]
    assert found, errors
    return str(found[0].str())


def test_librdkafka_gets_its_token_itself(broker: hw.Broker, provider: IdentityProvider) -> None:
    produce(oidc(broker, provider), b"1", b"2")
    assert consume(oidc(broker, provider), 2) == [b"1", b"2"]
    assert provider.granted[0] == {"grant_type": "client_credentials", "scope": "kafka"}


def test_the_command_line_logs_in_with_a_token(
    broker: hw.Broker, provider: IdentityProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = oidc(broker, provider)
    path = tmp_path / "client.properties"
    path.write_text("\n".join(f"{name}={value}" for name, value in settings.items() if name not in LEFT_OUT))
    assert run(["topic", "create", "orders", "--client-config", str(path)]) == 0
    assert run(["topic", "list", "--client-config", str(path)]) == 0
    assert "orders" in capsys.readouterr().out
    assert run(["acl", "add", "User:bob", "topic:orders", "read", "--client-config", str(path)]) == 0
    assert run(["acl", "list", "--client-config", str(path)]) == 0
    assert "User:bob" in capsys.readouterr().out


def test_librdkafka_gets_its_token_from_the_application(broker: hw.Broker, provider: IdentityProvider) -> None:
    produce(with_token(broker, provider.token), b"1")
    assert consume(with_token(broker, provider.token), 1) == [b"1"]


def test_a_token_that_is_not_for_this_broker_is_refused(broker: hw.Broker) -> None:
    assert "invalid_token" in refusal(with_token(broker, lambda: token(aud="another")))


def test_a_session_lasts_beyond_its_token(broker: hw.Broker, provider: IdentityProvider) -> None:
    """librdkafka gets another token after 80 % of the first one's time, and authenticates again."""
    provider.lifetime_s = 2
    values = [str(n).encode() for n in range(3)]
    producer = Producer(oidc(broker, provider))
    failed: list[Any] = []
    while len(provider.granted) < 3:
        producer.produce("t", b"x", on_delivery=lambda error, _: failed.append(error) if error else None)
        assert producer.flush(TIMEOUT_S) == 0
        producer.poll(0.2)
    assert failed == []
    produce(oidc(broker, provider), *values)


def test_a_provider_changes_its_keys(broker: hw.Broker, provider: IdentityProvider) -> None:
    produce(with_token(broker, provider.token), b"1")
    assert provider.keys_read == 1
    provider.signs_with, provider.published = "key-2", ["key-1", "key-2"]
    logins = broker.runner.call(lambda server: server.core.bearer_logins)  # type: ignore[union-attr]
    broker.runner.call(lambda server: setattr(next(iter(logins.rings.values())), "fetched_ms", None))  # type: ignore[union-attr]
    produce(with_token(broker, provider.token), b"2")
    assert provider.keys_read == 2


def test_a_provider_that_is_down_refuses_nobody_that_it_has_keys_for(
    broker: hw.Broker, provider: IdentityProvider
) -> None:
    produce(with_token(broker, provider.token), b"1")
    provider.server_close()
    produce(with_token(broker, provider.token), b"2")


def test_a_broker_stops_while_keys_are_fetched(provider: IdentityProvider) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = {
            "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "sasl.oauthbearer.jwks.endpoint.url": url,
            "sasl.oauthbearer.expected.issuer": ISSUER,
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "headwater.sasl.oauthbearer.allowed.urls": url,
        }
        with hw.Broker(settings=settings):
            connection, _ = silent.accept()
        connection.close()
        for thread in threading.enumerate():
            if thread.name == "headwater-fetch":
                thread.join(TIMEOUT_S)
