"""Listeners with TLS and SASL on real sockets, with librdkafka as the client; and what the settings refuse."""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

import headwater as hw
from headwater.broker.configs.settings import Settings, SettingsError
from headwater.broker.shell.listeners import read_listeners
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.certificates import make_certificate

from .harness import NO_PAIRS, Harness
from .wire import Wire

PASSWORD = "water under the bridge"
TIMEOUT_S = 15


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    authority = make_certificate(directory, "authority")
    for name in ("broker", "client"):
        make_certificate(directory, name, authority)
    return directory


@pytest.fixture(scope="module")
def broker(pki: Path) -> Iterator[hw.Broker]:
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_SSL://127.0.0.1:0,SSL://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "ssl.keystore.location": pki / "broker.pem",
        "ssl.truststore.location": pki / "authority.crt",
        "listener.name.ssl.ssl.client.auth": "required",
        "super.users": "User:admin;User:CN=client,O=Headwater;User:ANONYMOUS",
    }
    with hw.Broker(settings=settings) as running:
        admin = AdminClient({"bootstrap.servers": running.address})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion("admin", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            admin.alter_user_scram_credentials([change])["admin"].result(TIMEOUT_S)
        other = UserScramCredentialUpsertion(
            "stranger", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), PASSWORD.encode()
        )
        admin.alter_user_scram_credentials([other])["stranger"].result(TIMEOUT_S)
        yield running


def client(broker: hw.Broker, pki: Path, protocol: str, **more: Any) -> dict[str, Any]:
    settings = {
        "bootstrap.servers": broker.addresses[protocol],
        "security.protocol": protocol,
        "ssl.ca.location": str(pki / "authority.crt"),
        "log_level": 0,
    }
    return settings | {key.replace("_", "."): value for key, value in more.items()}


def produce(settings: dict[str, Any]) -> str | None:
    """Produces a record; returns the error, None for none."""
    outcome: list[Any] = []
    producer = Producer({**settings, "message.timeout.ms": 6_000})
    producer.produce("t", b"v", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(TIMEOUT_S)
    return None if outcome[0] is None else outcome[0].name()


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_users_get_in_with_their_password(broker: hw.Broker, pki: Path, protocol: str, mechanism: str) -> None:
    user = {"sasl_mechanism": mechanism, "sasl_username": "admin", "sasl_password": PASSWORD}
    assert produce(client(broker, pki, protocol, **user)) is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_stays_out(broker: hw.Broker, pki: Path, mechanism: str) -> None:
    user = {"sasl_mechanism": mechanism, "sasl_username": "admin", "sasl_password": "guess"}
    errors: list[Any] = []
    admin = AdminClient({**client(broker, pki, "SASL_SSL", **user), "error_cb": errors.append})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=3)
    admin.poll(TIMEOUT_S)
    assert any(error.name() == "_AUTHENTICATION" for error in errors)


def test_a_client_that_is_let_in_may_only_do_what_is_allowed(broker: hw.Broker, pki: Path) -> None:
    user = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "stranger", "sasl_password": PASSWORD}
    assert produce(client(broker, pki, "SASL_SSL", **user)) == "TOPIC_AUTHORIZATION_FAILED"


def test_a_client_certificate_is_a_principal(broker: hw.Broker, pki: Path) -> None:
    certificate = {"ssl_certificate_location": str(pki / "client.crt"), "ssl_key_location": str(pki / "client.key")}
    assert produce(client(broker, pki, "SSL", **certificate)) is None
    errors: list[Any] = []
    nobody = AdminClient({**client(broker, pki, "SSL"), "error_cb": errors.append})
    with pytest.raises(KafkaException):
        nobody.list_topics(timeout=2)


def test_nothing_is_served_before_authentication(broker: hw.Broker) -> None:
    with Wire(broker.addresses["SASL_PLAINTEXT"]) as wire:
        assert wire.call(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("a", "1")).error_code == 0
        wire.send(ApiKey.METADATA, 9, MetadataRequest(None))
        assert wire.socket.recv(1) == b""


def test_the_exchange_may_come_in_bare_frames(broker: hw.Broker) -> None:
    with Wire(broker.addresses["SASL_PLAINTEXT"]) as wire:
        answer = wire.call(ApiKey.SASL_HANDSHAKE, 0, SaslHandshakeRequest("PLAIN"))
        assert (answer.error_code, "SCRAM-SHA-256" in answer.mechanisms) == (0, True)
        token = b"\0admin\0" + PASSWORD.encode()
        wire.socket.sendall(len(token).to_bytes(4, "big") + token)
        assert wire.read_frame() == b""
        assert wire.call(ApiKey.METADATA, 9, MetadataRequest(None)).topics is not None


def test_certificates_are_loaded_again_without_a_restart(pki: Path, tmp_path: Path) -> None:
    live = tmp_path / "live.pem"
    live.write_text((pki / "broker.pem").read_text())
    listeners = "SSL://127.0.0.1:0,PLAINTEXT://127.0.0.1:0"
    with hw.Broker(settings={"listeners": listeners, "ssl.keystore.location": live}) as running:

        def served() -> str:
            host, _, port = running.addresses["SSL"].rpartition(":")
            return ssl.get_server_certificate((host, int(port)), timeout=TIMEOUT_S)

        first = served()
        live.write_text((pki / "client.pem").read_text())
        running.reload_certificates()
        assert served() != first
        live.write_text("nonsense")
        running.reload_certificates()
        assert served() != first  # what was loaded before stays in force
        m = IncrementalAlterConfigsRequest
        body = m([m.AlterConfigsResource(4, "1", [m.AlterableConfig("ssl.keystore.location", 0, str(live))])])
        with Wire(running.addresses["PLAINTEXT"]) as wire:
            (refused,) = wire.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, body).responses
            assert (refused.error_code, "cannot be used" in refused.error_message) == (ErrorCode.INVALID_REQUEST, True)
            live.write_text((pki / "broker.pem").read_text())
            (loaded,) = wire.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, body).responses
        assert (loaded.error_code, served()) == (ErrorCode.NONE, first)


def sasl_harness(pairs: Mapping[str, object] = NO_PAIRS) -> Harness:
    from headwater.broker.cluster import Endpoint
    from headwater.broker.connection import UNAUTHENTICATED, Connection
    from headwater.security.scram import Mechanism, credential_of, salt_password

    broker = Harness(pairs=pairs)
    for user in ("admin", "other"):
        mechanism = Mechanism.SCRAM_SHA_256
        credential = credential_of(mechanism, salt_password(mechanism, PASSWORD, b"salt", 4096), b"salt", 4096)
        broker.core.append_metadata([broker.core.metadata.credential_record(user, mechanism, credential)])
    endpoint = Endpoint("SASL_PLAINTEXT", "SASL_PLAINTEXT", 1)
    broker.connection = Connection("/test", endpoint, UNAUTHENTICATED, is_restricted=True)
    return broker


def authenticate(broker: Harness, user: str = "admin") -> Any:
    handshake = broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN"))
    assert handshake.error_code == 0
    token = f"\0{user}\0{PASSWORD}".encode()
    pending = broker.send(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(token))
    broker.advance(100)  # a refusal comes late
    return pending.message


def test_sessions_end_and_clients_authenticate_again() -> None:
    from headwater.protocol.errors import ProtocolError

    broker = sasl_harness(pairs={"connections.max.reauth.ms": 10_000})
    answer = authenticate(broker)
    assert (answer.error_code, answer.session_lifetime_ms) == (0, 10_000)
    broker.clock.advance(9_000)
    assert broker.call(ApiKey.METADATA, 9, MetadataRequest([])).topics == []
    assert authenticate(broker).error_code == 0
    broker.clock.advance(9_000)
    assert broker.call(ApiKey.METADATA, 9, MetadataRequest([])).topics == []
    broker.clock.advance(2_000)
    with pytest.raises(ProtocolError, match="session's end"):
        broker.call(ApiKey.METADATA, 9, MetadataRequest([]))
    assert authenticate(broker).error_code == 0
    other = authenticate(broker, "other")
    assert other.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert "change principals" in other.error_message
    assert broker.connection.must_close


def test_the_order_of_sasl_is_kept() -> None:
    broker = sasl_harness()
    early = broker.call(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(b"x"))
    assert early.error_code == ErrorCode.ILLEGAL_SASL_STATE
    unknown = broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("GSSAPI"))
    assert unknown.error_code == ErrorCode.UNSUPPORTED_SASL_MECHANISM
    plain = Harness()
    refused = plain.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN"))
    assert refused.error_code == ErrorCode.ILLEGAL_SASL_STATE


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"listeners": "PLAINTEXT://0.0.0.0:1", "advertised.listeners": "PLAINTEXT://h:1"}, "--insecure"),
        ({"listeners": "SASL_PLAINTEXT://10.0.0.1:1"}, "--insecure"),
        ({"listeners": "SSL://127.0.0.1:1"}, "ssl.keystore.location"),
        ({"listeners": "SSL://127.0.0.1:1", "ssl.keystore.type": "JKS"}, "PEM"),
        ({"listeners": "SSL://127.0.0.1:1", "ssl.keystore.location": "/nowhere"}, "/nowhere"),
        ({"listeners": "A://127.0.0.1:1"}, "security protocol"),
        ({"listeners": "A://127.0.0.1:1", "listener.security.protocol.map": "A:TELNET"}, "security protocol"),
        ({"listeners": "PLAINTEXT://127.0.0.1:1,PLAINTEXT://127.0.0.1:2"}, "unique name"),
        ({"listeners": "PLAINTEXT://127.0.0.1:1", "advertised.listeners": "B://h:1"}, "not among listeners"),
        (
            {"listeners": "SSL://127.0.0.1:1", "ssl.keystore.location": "/x", "ssl.client.auth": "required "},
            "truststore",
        ),
        (
            {"listeners": "SSL://127.0.0.1:1", "ssl.keystore.type": " PEM ", "ssl.keystore.location": " /x "},
            "TLS: /x can",
        ),
        ({"listeners": "CONTROLLER://127.0.0.1:1"}, "at least one must be for clients"),
        ({"listeners": ""}, "must not be empty"),
        ({"sasl.enabled.mechanisms": "GSSAPI"}, "not supported"),
        ({"ssl.principal.mapping.rules": "nonsense"}, "RULE"),
    ],
)
def test_what_cannot_be_served_says_why(pairs: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_listeners(Settings.from_pairs(pairs))


def test_names_and_protocols_are_mapped() -> None:
    pairs = {
        "listeners": "INSIDE://127.0.0.1:1,CONTROLLER://127.0.0.1:3,OUTSIDE://0.0.0.0:2",
        "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "advertised.listeners": "OUTSIDE://example.org:9",
        "headwater.insecure": "true",
    }
    inside, outside = read_listeners(Settings.from_pairs(pairs))
    assert (inside.protocol, inside.advertised) == ("PLAINTEXT", None)
    assert (outside.protocol, outside.advertised) == ("SASL_PLAINTEXT", ("example.org", 9))
