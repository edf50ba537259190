"""Client settings as Kafka's tools have them, read for librdkafka."""

from pathlib import Path

import pytest

from headwater.cli.client_config import client_config
from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError

SCRAM = (
    'org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="say \\"hi\\"; a=b";'
)


def test_a_login_and_stores_are_translated() -> None:
    found = client_config(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": SCRAM,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "ca.pem",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "alice.pem",
            "ssl.key.password": "k",
            "ssl.endpoint.identification.algorithm": "",
            "max.request.size": "5",
        },
        "f",
    )
    assert found.without_effect == []
    assert found.settings == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": 'say "hi"; a=b',
        "ssl.ca.location": "ca.pem",
        "ssl.certificate.location": "alice.pem",
        "ssl.key.location": "alice.pem",
        "ssl.key.password": "k",
        "ssl.endpoint.identification.algorithm": "none",
        "message.max.bytes": "5",
    }


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ssl.truststore.location", "ca.jks", r"of type JKS; convert it to PEM"),
        ("ssl.protocol", "TLSv1.3", r"ssl\.protocol is not supported"),
        ("sasl.kerberos.service.name", "kafka", r"sasl\.kerberos\.service\.name is not supported"),
        (
            "sasl.jaas.config",
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;",
            "use PLAIN or SCRAM",
        ),
        ("sasl.jaas.config", "nothing", "not of the form"),
        ("sasl.jaas.config", SCRAM.replace("username", "user"), "user is not supported"),
        ("sasl.jaas.config", SCRAM.replace('username="alice"', ""), "has no username"),
        ("sasl.jaas.config", SCRAM.replace("password=", "password"), "not NAME=VALUE"),
    ],
)
def test_what_cannot_be_honoured_is_named_and_secrets_are_not(name: str, value: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        client_config({name: value}, "a.properties")
    assert str(caught.value).startswith("a.properties: ")
    assert "say" not in str(caught.value)


def test_what_has_no_effect_is_named_in_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "client.properties"
    path.write_text("bootstrap.servers=here:1\nkey.serializer=x.Y\nclient.id : app\nno.such = 1\n")
    settings = Connection(client_config=path).settings()
    assert (settings["bootstrap.servers"], settings["client.id"]) == ("here:1", "app")
    assert (
        capsys.readouterr().err == f"headwater: {path}: ignored, because they have no effect: key.serializer, no.such\n"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="none: cannot be read: No such file"):
        Connection(client_config=tmp_path / "none").settings()
