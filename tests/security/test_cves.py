"""What has gone wrong in Kafka about logins, TLS and configuration must not go wrong here. SECURITY.md has the list."""

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headwater.broker.cluster import Endpoint
from headwater.broker.configs.settings import Settings, SettingsError, problems
from headwater.broker.connection import UNAUTHENTICATED, Connection
from headwater.broker.shell.listeners import read_configuration
from headwater.protocol.apis import ApiKey
from headwater.protocol.compression import Compression, CompressionError, decompress
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from headwater.protocol.records import Record, build_batch
from headwater.security import scram
from headwater.security.acls import Acl, Acls, Operation, PatternType, Permission, ResourceType
from headwater.security.sasl import PlainExchange
from headwater.security.scram import AuthenticationError, Mechanism, ScramExchange, credential_of, salt_password
from tests.broker.harness import Harness

BROKER = 4
SECRET = "correct-horse-battery"


def credentials(*users: str) -> dict[tuple[str, Mechanism], scram.Credential]:
    mechanism = Mechanism.SCRAM_SHA_256
    salted = salt_password(mechanism, SECRET, b"salt", 4096)
    return {(user, mechanism): credential_of(mechanism, salted, b"salt", 4096) for user in users}


def alter(broker: Harness, name: str, value: str, resource: str = "1") -> Any:
    m = IncrementalAlterConfigsRequest
    wanted = m.AlterConfigsResource(BROKER, resource, [m.AlterableConfig(name, 0, value)])
    return broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m([wanted])).responses[0]


# CVE-2017-12610: a client that is logged in as one user speaks for another.


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_nobody_speaks_for_another_with_plain(user: str) -> None:
    exchange = PlainExchange(credentials("alice", "bob"))
    with pytest.raises(AuthenticationError, match="authorization id"):
        exchange.respond(f"admin\0{user}\0{SECRET}".encode())
    assert exchange.user is None


def test_nobody_speaks_for_another_with_scram() -> None:
    found = credentials("alice", "bob")
    exchange = ScramExchange(Mechanism.SCRAM_SHA_256, lambda user: found.get((user, Mechanism.SCRAM_SHA_256)), "nonce")
    with pytest.raises(AuthenticationError, match="authorization id"):
        exchange.respond(b"n,a=bob,n=alice,r=abc")
    assert exchange.user is None


# CVE-2021-38153: comparing secrets takes longer the more of them is right.


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    compare = hmac.compare_digest

    def record(a: Any, b: Any) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", record)
    with pytest.raises(AuthenticationError):
        PlainExchange(credentials("alice")).respond(b"\0alice\0guess")
    assert compared


# CVE-2018-1288: a client says that it is a replica, and reads what is not durable yet.


@pytest.mark.parametrize("replica_id", [0, 1, 7])
def test_nobody_reads_ahead_as_a_replica(replica_id: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.hold_syncs = True
    broker.produce_batch("t", build_batch([Record(b"k", b"v", (), 1)]))
    pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, replica_id=replica_id))
    partition = pending.message.responses[0].partitions[0]
    assert (partition.high_watermark, bytes(partition.records or b"")) == (0, b"")


# CVE-2024-56128: the nonce of the client's last message is not compared with the server's.


def test_the_last_message_has_the_nonce_of_the_first_answer() -> None:
    mechanism, found = Mechanism.SCRAM_SHA_256, credentials("alice")
    salted = salt_password(mechanism, SECRET, b"salt", 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()

    def outcome(nonce_of: Callable[[str], str]) -> bool:
        exchange = ScramExchange(mechanism, lambda user: found.get((user, mechanism)), "server")
        answer = exchange.respond(b"n,,n=alice,r=client").decode()
        unsigned = f"c=biws,r={nonce_of(answer.partition(',')[0][2:])}"
        signature = hmac.digest(stored_key, f"n=alice,r=client,{answer},{unsigned}".encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        try:
            exchange.respond(f"{unsigned},p={base64.b64encode(proof).decode()}".encode())
        except AuthenticationError:
            return False
        return exchange.is_done

    assert outcome(lambda nonce: nonce)
    assert not outcome(lambda nonce: "client")
    assert not outcome(lambda nonce: nonce + "x")
    assert not outcome(lambda nonce: "")


# CVE-2023-25194, CVE-2025-27818, CVE-2025-27819: a login module that is named in a configuration is loaded and asks
# a stranger's LDAP server. CVE-2024-31141: a value names a file or a variable whose content is put in its place.
# CVE-2025-27817: a URL in a configuration is opened. CVE-2026-33557: tokens are taken without being checked.


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sasl.jaas.config", "com.sun.security.auth.module.JndiLoginModule required user.provider.url=ldap://x;"),
        ("sasl.jaas.config", "com.sun.security.auth.module.LdapLoginModule required;"),
        ("sasl.login.class", "org.example.Login"),
        ("sasl.login.callback.handler.class", "org.example.Handler"),
        ("sasl.server.callback.handler.class", "org.example.Handler"),
        ("sasl.client.callback.handler.class", "org.example.Handler"),
        ("security.providers", "org.example.Provider"),
        ("principal.builder.class", "org.example.Builder"),
        ("ssl.engine.factory.class", "org.example.Factory"),
        ("metric.reporters", "org.example.Reporter"),
        ("config.providers", "file,env"),
        ("sasl.oauthbearer.token.endpoint.url", "file:///etc/passwd"),
        ("sasl.oauthbearer.jwks.endpoint.url", "http://169.254.169.254/"),
        ("sasl.oauthbearer.assertion.file", "/etc/passwd"),
        ("sasl.oauthbearer.jwt.validator.class", "org.example.Anything"),
    ],
)
def test_what_would_load_a_class_read_a_file_or_open_a_url_is_refused(key: str, value: str) -> None:
    pairs = {"listeners": "SASL_PLAINTEXT://127.0.0.1:0"}
    with pytest.raises(SettingsError, match=key.replace(".", r"\.")):
        read_configuration({**pairs, key: value})
    with pytest.raises(SettingsError):
        read_configuration({**pairs, f"listener.name.sasl_plaintext.{key}": value})
    with pytest.raises(SettingsError):
        read_configuration({**pairs, f"listener.name.sasl_plaintext.plain.{key}": value})
    broker = Harness()
    for resource in ("", "1"):
        assert alter(broker, key, value, resource).error_code == ErrorCode.INVALID_REQUEST
        assert alter(broker, f"listener.name.a.{key}", value, resource).error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("value", ["${env:HOME}", "${file:/etc/passwd:root}", "${directory:/etc:passwd}"])
def test_a_value_is_never_looked_up_elsewhere(value: str, tmp_path: Path) -> None:
    assert Settings.from_pairs({"broker.rack": value}).broker_rack == value
    assert "log.retention.ms" in problems({"log.retention.ms": value})


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "GSSAPI", "", "plain"])
def test_no_other_mechanism_can_be_chosen(mechanism: str) -> None:
    broker = Harness()
    broker.connection = Connection("/test", Endpoint("A", "SASL_PLAINTEXT", 1), UNAUTHENTICATED, is_restricted=True)
    answer = broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest(mechanism))
    assert answer.error_code == ErrorCode.UNSUPPORTED_SASL_MECHANISM


def test_a_listener_has_its_own_mechanisms() -> None:
    broker = Harness(pairs={"listener.name.a.sasl.enabled.mechanisms": "SCRAM-SHA-512"})

    def choose(listener: str) -> int:
        endpoint = Endpoint(listener, "SASL_PLAINTEXT", 1)
        broker.connection = Connection("/test", endpoint, UNAUTHENTICATED, is_restricted=True)
        return int(broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN")).error_code)

    assert choose("A") == ErrorCode.UNSUPPORTED_SASL_MECHANISM
    assert choose("B") == 0


def test_a_listener_without_a_mechanism_is_refused() -> None:
    pairs = {"listeners": "SASL_PLAINTEXT://127.0.0.1:0", "listener.name.sasl_plaintext.sasl.enabled.mechanisms": ""}
    with pytest.raises(SettingsError, match="nobody could log in"):
        read_configuration(pairs)


# CVE-2023-34455: a few bytes of snappy say that they are gigabytes.


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x07",
        b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01" + (5).to_bytes(4, "big") + b"\xff\xff\xff\xff\x07",
        b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff",
        b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff",
    ],
)
def test_snappy_is_not_believed(data: bytes) -> None:
    with pytest.raises(CompressionError):
        decompress(Compression.SNAPPY, data, 1 << 20)


# CVE-2024-27309: with one ACL of a resource its others go too.


def test_removing_one_entry_leaves_the_others() -> None:
    acls = Acls()
    topic = (ResourceType.TOPIC, "t", PatternType.LITERAL)
    entries = (("User:a", Permission.ALLOW), ("User:b", Permission.ALLOW), ("User:b", Permission.DENY))
    for number, (who, permission) in enumerate(entries):
        acls.add(bytes([number]) * 16, Acl(*topic, who, "*", Operation.READ, permission))
    acls.remove(bytes([0]) * 16)
    assert not acls.allows("User:a", "10.0.0.1", Operation.READ, ResourceType.TOPIC, "t")
    assert not acls.allows("User:b", "10.0.0.1", Operation.READ, ResourceType.TOPIC, "t")  # the DENY still counts
    acls.remove(bytes([2]) * 16)
    assert acls.allows("User:b", "10.0.0.1", Operation.READ, ResourceType.TOPIC, "t")


# CVE-2026-33558: secrets stand in the log at DEBUG; and CVE-2019-12399's kin: they can be read back.


def test_no_secret_is_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        broker = Harness(pairs={"ssl.key.password": SECRET, "listener.name.a.ssl.key.password": SECRET})
        stored = {"ssl.key.password": SECRET, "sasl.jaas.config": SECRET}  # as an earlier version may have
        broker.core.append_metadata(broker.core.metadata.config_records("", dict(stored), BROKER))
        broker.sync()
        broker.restart()
        m = AlterUserScramCredentialsRequest
        salted = salt_password(Mechanism.SCRAM_SHA_256, SECRET, b"salt", 4096)
        change = m.ScramCredentialUpsertion("alice", 1, 4096, b"salt", salted)
        broker.call(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, m([], [change]))
        refused = alter(broker, "sasl.jaas.config", SECRET)
        assert refused.error_code
        assert SECRET not in refused.error_message
        resource = DescribeConfigsRequest.DescribeConfigsResource
        told = [
            repr(broker.call(ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([resource(BROKER, name, None)], True)))
            for name in ("", "1")
        ]
        assert all(SECRET not in text for text in told)
        assert "ssl.key.password" in told[1]
        for password in (SECRET, SECRET + "-guess"):
            endpoint = Endpoint("A", "SASL_PLAINTEXT", 1)
            broker.connection = Connection("/test", endpoint, UNAUTHENTICATED, is_restricted=True)
            broker.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN"))
            broker.send(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(f"\0alice\0{password}".encode()))
    assert SECRET not in caplog.text
    assert salted.hex() not in caplog.text
    assert SECRET not in repr(broker.core.settings)
