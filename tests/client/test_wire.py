"""The wire client against real brokers, and against listeners that are silent, slow, gone or something else."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

import headwater as hw
from headwater.client.errors import (
    AuthenticationError,
    BrokerUnavailableError,
    ClientTimeoutError,
    ConfigurationError,
    UnreadableAnswerError,
    WireClosedError,
)
from headwater.client.wire import Wire
from headwater.client.wire_settings import Address, parsed_address, wire_settings
from headwater.effects.clock import ManualClock
from headwater.protocol.apis import APIS
from headwater.protocol.frames import response_frame
from headwater.protocol.messages.api_versions import ApiVersionsResponse
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.testing import TestBroker
from tests.certificates import make_certificate

PASSWORD = "water, under=the bridge"
OIDC = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "OIDC"}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
DEAD = "127.0.0.1:1"


def wire(address: str | list[str], settings: dict[str, Any] | None = None, **options: Any) -> Wire:
    return Wire(wire_settings(address, settings), **options)


@contextmanager
def listener(*serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a listener that serves one connection with each function, in turn."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            for each in serve:
                stream, _ = listening.accept()
                with stream:
                    each(stream)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(20)
        assert not thread.is_alive()


def hear(stream: socket.socket) -> int:
    """Reads a request; returns its correlation id."""
    size = int.from_bytes(stream.recv(4, socket.MSG_WAITALL), "big")
    return int.from_bytes(stream.recv(size, socket.MSG_WAITALL)[4:8], "big")


def say_versions(stream: socket.socket) -> None:
    found = ApiVersionsResponse(0, [ApiVersionsResponse.ApiVersion(key, 0, api.high) for key, api in APIS.items()])
    stream.sendall(b"".join(response_frame(APIS[18], 4, hear(stream), found)))


def say_nothing(stream: socket.socket) -> None:
    while stream.recv(4096):
        pass


def test_asks_a_broker_and_keeps_its_connection() -> None:
    with TestBroker() as broker, wire(broker.address) as client:
        assert client.ask(MetadataRequest([])).brokers
        first = client.stream
        assert client.ask(ListGroupsRequest()).groups == []
        assert client.stream is first
        assert repr(client) == f"<Wire to {broker.address}>"
        with client.at(Address("localhost", parsed_address(broker.address).port)) as other:
            assert other.ask(MetadataRequest([])).brokers


def test_a_connection_that_the_broker_closed_is_made_again() -> None:
    def hang_up(stream: socket.socket) -> None:
        say_versions(stream)

    def answer(stream: socket.socket) -> None:
        say_versions(stream)
        stream.sendall(b"\0\0\0\x0e" + hear(stream).to_bytes(4, "big") + bytes(10))
        say_nothing(stream)

    with listener(hang_up, answer) as address, wire(address) as client:
        client.open()
        assert client.stream is not None
        assert client.stream.recv(1, socket.MSG_PEEK) == b""  # it is closed by now
        assert client.ask(ListGroupsRequest(), 1).groups == []


def test_of_several_addresses_the_first_that_answers_is_used() -> None:
    with TestBroker() as broker, wire([DEAD, broker.address]) as client:
        assert client.ask(MetadataRequest([])).brokers
        assert str(client.address) == broker.address


def test_no_broker_is_named_with_every_address() -> None:
    with wire([DEAD, "nowhere.invalid:9092"]) as client, pytest.raises(BrokerUnavailableError) as caught:
        client.ask(MetadataRequest([]))
    assert f"{DEAD} (Connection refused)" in str(caught.value)
    assert "nowhere.invalid:9092 (" in str(caught.value)


def test_a_patient_client_tries_again_with_pauses_until_its_time_is_up() -> None:
    class Pauses(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.advance((timeout or 0) * 1000)
            return False

    clock = ManualClock()
    client = wire(DEAD, patience_ms=3000.0, clock=clock)
    client.interrupted = Pauses()
    with pytest.raises(BrokerUnavailableError):
        client.ask(MetadataRequest([]))
    assert 4 <= client.backoff.failures <= 10
    assert 1500 < clock.steady_ms() <= 3000


def test_a_patient_client_finds_a_broker_that_starts_later() -> None:
    with TestBroker() as broker:
        places = iter([Address("127.0.0.1", 1), Address("127.0.0.1", 1), parsed_address(broker.address)])

        class Moving(Wire):
            def connect_to_any(self, deadline_ms: float) -> Any:
                self.settings = self.settings._replace(addresses=(next(places),))
                return super().connect_to_any(deadline_ms)

        with Moving(wire_settings(DEAD), patience_ms=10_000.0) as client:
            assert client.ask(MetadataRequest([])).brokers
            assert client.backoff.failures == 0


def test_a_broker_that_breaks_the_connection_in_an_answer_is_named_and_nothing_is_sent_again() -> None:
    def half(stream: socket.socket) -> None:
        say_versions(stream)
        hear(stream)
        stream.sendall(b"\0\0\0\x0b\0\0")

    with listener(half) as address, wire(address) as client:
        with pytest.raises(BrokerUnavailableError, match=f"ListGroups of {address}: the connection broke: the broker"):
            client.ask(ListGroupsRequest())
        assert client.stream is None


def test_a_broker_that_says_nothing_is_named_after_the_time_limit() -> None:
    def silent(stream: socket.socket) -> None:
        say_versions(stream)
        say_nothing(stream)

    with listener(silent) as address, wire(address) as client:
        client.open()
        with pytest.raises(ClientTimeoutError, match=f"ListGroups of {address}: no answer in time"):
            client.ask(ListGroupsRequest(), timeout_ms=20)
        assert client.stream is None


def test_a_broker_that_drips_is_given_no_more_time_than_one_that_is_silent() -> None:
    clock = ManualClock()

    def drip(stream: socket.socket) -> None:
        say_versions(stream)
        hear(stream)
        try:
            for byte in b"\0\0\xff\0" + bytes(60_000):
                clock.advance(1)
                stream.sendall(bytes((byte,)))
        except OSError:
            return  # it is closed: the time was up
        raise AssertionError("it read everything")

    with listener(drip) as address, wire(address, clock=clock) as client:
        client.open()
        with pytest.raises(ClientTimeoutError):
            client.ask(ListGroupsRequest(), timeout_ms=100)


def test_a_server_that_is_not_a_broker_is_named() -> None:
    def web(stream: socket.socket) -> None:
        stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        say_nothing(stream)

    with listener(web) as address, wire(address) as client:
        with pytest.raises(UnreadableAnswerError, match=f"{address} sent an answer of 1213486160 bytes.*Kafka broker"):
            client.ask(ListGroupsRequest())
        assert client.stream is None


def test_a_login_is_renewed_by_a_new_connection_before_it_expires() -> None:
    clock = ManualClock()
    with TestBroker() as broker, wire(broker.address, clock=clock) as client:
        client.open()
        first, client.renew_ms = client.stream, 100.0
        clock.advance(99)
        client.ask(ListGroupsRequest())
        assert client.stream is first
        clock.advance(1)
        client.ask(ListGroupsRequest())
        assert client.stream is not first
        assert client.renew_ms == float("inf")


def test_interrupt_ends_a_call_that_waits_and_all_later_ones() -> None:
    def interrupt(stream: socket.socket) -> None:
        say_versions(stream)
        hear(stream)
        client.interrupt()
        say_nothing(stream)

    with listener(interrupt) as address:
        client = wire(address)
        with pytest.raises(WireClosedError, match=address):
            client.ask(ListGroupsRequest())
        with pytest.raises(WireClosedError, match=address):
            client.ask(ListGroupsRequest())
    client.interrupt()


# -- TLS and logins


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[hw.Broker, Path]]:
    directory = tmp_path_factory.mktemp("pki")
    authority = make_certificate(directory, "authority")
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_SSL://127.0.0.1:0",
        "ssl.keystore.location": make_certificate(directory, "broker", authority),
        "connections.max.reauth.ms": 60_000,
    }
    with hw.Broker(settings=settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.addresses["PLAINTEXT"]})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion("a=b,c", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            admin.alter_user_scram_credentials([change])["a=b,c"].result(20)
        yield broker, directory / "authority.crt"


def login(authority: Path | None, **more: str) -> dict[str, Any]:
    settings = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "a=b,c",
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(authority or ""),
    }
    return settings | {name.replace("_", "."): value for name, value in more.items()}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_logs_in_over_tls(secured: tuple[hw.Broker, Path], mechanism: str) -> None:
    broker, authority = secured
    address = broker.addresses["SASL_SSL"]
    with wire(address, login(authority, sasl_mechanism=mechanism)) as client:
        assert client.ask(MetadataRequest([])).brokers
        first = client.stream
        assert client.ask(MetadataRequest([])).brokers  # a session ticket that came does not end it
        assert client.stream is first
        assert 0 < client.renew_ms - client.clock.steady_ms() <= 48_000
    with (
        wire(address, login(authority, sasl_mechanism=mechanism, sasl_password="guess")) as client,
        pytest.raises(AuthenticationError, match=f"{address}.*Invalid|{address}.*invalid"),
    ):
        client.ask(MetadataRequest([]))


def test_certificates_that_are_not_trusted_are_named(secured: tuple[hw.Broker, Path], tmp_path: Path) -> None:
    broker, _authority = secured
    address = broker.addresses["SASL_SSL"]
    with (
        wire(address, login(None)) as client,
        pytest.raises(AuthenticationError, match=f"{address}: its certificate is not accepted.*unable to get local"),
    ):
        client.ask(MetadataRequest([]))
    with wire(address, login(None) | {"enable.ssl.certificate.verification": "false"}) as client:
        assert client.ask(MetadataRequest([])).brokers
    with pytest.raises(AuthenticationError, match=r"missing\.pem cannot be used: No such file"):
        wire(address, login(tmp_path / "missing.pem"))


def test_the_wrong_protocol_is_hinted_at(secured: tuple[hw.Broker, Path]) -> None:
    broker, authority = secured
    with (
        wire(broker.addresses["SASL_SSL"]) as client,
        pytest.raises(BrokerUnavailableError, match="want TLS or a login"),
    ):
        client.ask(MetadataRequest([]))
    plain = broker.addresses["PLAINTEXT"]
    with (
        wire(plain, login(authority)) as client,
        pytest.raises((AuthenticationError, BrokerUnavailableError), match=plain),
    ):
        client.ask(MetadataRequest([]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"security.protocol": "TLS"}, "one of PLAINTEXT, SSL"),
        ({"security.protocol": "SASL_SSL"}, "sasl.mechanism is GSSAPI; it is one of PLAIN"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "needs sasl.oauthbearer.method=oidc"),
        (OIDC, "needs sasl.oauthbearer.token.endpoint.url"),
        ({**OIDC, "sasl.oauthbearer.token.endpoint.url": "http://a", "sasl.oauthbearer.client.id": "a"}, "needs sasl"),
        (
            {
                **OIDC,
                "sasl.oauthbearer.token.endpoint.url": "file:///etc/passwd",
                "sasl.oauthbearer.client.id": "a",
                "sasl.oauthbearer.client.secret": "b",
            },
            "must begin with https://",
        ),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "needs sasl.username"),
        ({"security.protocol": "SSL", "ssl.keystore.location": "a.p12"}, "ssl.keystore.location is not possible here"),
        ({"security.protocol": "SASL_PLAINTEXT", "sasl.oauthbearer.config": "x"}, "sasl.oauthbearer.config is not"),
        ({"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "dns"}, "https or none"),
        ({"client.id": "a\0b"}, "NUL"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        wire_settings("localhost", settings)


def test_settings_of_librdkafka_itself_are_left_alone() -> None:
    found = wire_settings("a:1", {"linger.ms": 5, "bootstrap.servers": "PLAINTEXT://b:2,[::1]:3,c", "client.id": "me"})
    assert found.addresses == (Address("b", 2), Address("::1", 3), Address("c", 9092))
    assert found.client_id == "me"
    assert str(found.addresses[1]) == "[::1]:3"
