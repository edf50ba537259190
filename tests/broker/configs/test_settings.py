"""Every setting of Kafka 4.4 has one fate, and its values are checked as Kafka checks them."""

import json
import re
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.configs import topic_configs
from headwater.broker.configs.catalog import ConfigError, ConfigType, definitions
from headwater.broker.configs.setting_classes import REFUSED, SettingClass, classes_of
from headwater.broker.configs.settings import (
    Settings,
    SettingsError,
    environment_pairs,
    is_secret,
    own_defaults,
    problems,
)
from headwater.broker.shell.listeners import read_configuration

GOLDEN = Path(__file__).parents[2] / "golden" / "settings.jsonl"
OWN = frozenset(own_defaults())

# Where Headwater refuses values that Kafka accepts: they would stop it, or leave it without a bound.
STRICTER = {
    "authorizer.class.name",
    "default.replication.factor",
    "group.max.session.timeout.ms",
    "group.min.session.timeout.ms",
    "log.cleaner.backoff.ms",
    "log.dir",
    "log.dirs",
    "log.flush.offset.checkpoint.interval.ms",
    "max.decompressed.message.bytes",
    "max.connection.creation.rate",
    "max.connections",
    "queued.max.request.bytes",
    "remote.storage.enable",
    "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
    "sasl.oauthbearer.jwks.endpoint.url",
    "socket.request.max.bytes",
}
# What Kafka's controllers, replicas and share groups check of settings that have no effect here, and what is checked
# with the listeners, by `read_configuration`.
NOT_CHECKED_ALONE = re.compile(
    r"(advertised\.)?listeners|listener\.security\.protocol\.map|broker\.id|node\.id|controller\.(listener|quorum)\..*|"
    r"early\.start\.listeners|inter\.broker\.listener\.name|replica\..*|group\.(share|streams)\..*|"
    r"log\.cleaner\.threads|.*\.compression\.codec"
)


def golden() -> list[dict[str, object]]:
    return [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def refuses(scope: str, name: str, text: str) -> bool:
    if scope == "broker":
        return bool(problems({name: text}))
    try:
        topic_configs.validate({name: text})
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("row", golden(), ids=lambda row: f"{row['scope']}-{row['name']}")
def test_values_are_checked_as_kafka_checks_them(row: dict[str, list[str]]) -> None:
    """The rows are what Kafka 4.4.0's own classes answered."""
    scope, name = str(row["scope"]), str(row["name"])
    if scope == "topic" and name not in definitions("topic"):
        assert all(refuses(scope, name, text) for text in row["accepted"])  # new in 4.4, unknown here
        return
    is_refused_here = scope == "broker" and classes_of(name, OWN) == [SettingClass.REFUSED]
    if not is_refused_here and name not in STRICTER:
        assert [text for text in row["accepted"] if refuses(scope, name, text)] == []
    if not NOT_CHECKED_ALONE.fullmatch(name):
        assert [text for text in row["refused"] if not refuses(scope, name, text)] == []


def test_all_that_is_wrong_is_reported_at_once() -> None:
    pairs = {
        "log.retention.hours": "soon",
        "log.segment.bytes": "1k",
        "log.cleanup.policy": "bogus",
        "num.partitons": "3",
        "log.retention.ms": "0",
        "principal.builder.class": "org.example.Builder",
        "group.consumer.session.timeout.ms": "1",
        "listeners": "PLAINTEXT://10.0.0.1:9092,SSL://127.0.0.1:9093",
    }
    with pytest.raises(SettingsError) as caught:
        read_configuration(pairs)
    text = "\n".join(caught.value.problems)
    for word in (
        "log.retention.hours",
        "log.segment.bytes",
        "log.cleanup.policy",
        "did you mean num.partitions",
        "log.retention.ms",
        "principal.builder.class: no Java class",
        "group.consumer.session.timeout.ms",
        "--insecure",
        "ssl.keystore.location",
    ):
        assert word in text
    assert len(caught.value.problems) == 9
    assert all("\n" not in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    "pairs",
    [
        {"log.cleanup.policy": "bogus"},
        {"log.retention.hours": "1_000"},
        {"headwater.nodes": "0"},
        {"num.partitions": 0},
        {"broker.rack": None},
        {"log.index.interval.bytes": -1},
        {"transaction.two.phase.commit.enable": True},
        {"log.flush.interval.messages": 1, "headwater.durability": "page-cache"},
        {"log.dirs": "a,b"},
        {"node.id": 1, "broker.id": 2},
        {"listener.name.plaintext.log.retention.ms": "5"},
        {"listener.name.outside.ssl.client.auth": "required"},
        {"listener.name.plaintext.plain.sasl.jaas.config": "x"},
        {"listener.name.plaintext.scram-sha-256.connections.max.reauth.ms": "1"},
        {"super.users": "admin"},
        {"super.users": "User:"},
        {"super.users": "User:a,User:b"},
        {"advertised.listeners": "PLAINTEXT://0.0.0.0:1"},
        {"advertised.listeners": "PLAINTEXT://:1"},
        {"advertised.listeners": "PLAINTEXT://[0:0::0]:1"},
    ],
)
def test_a_broker_in_this_process_is_as_strict(pairs: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        hw.Broker(settings=pairs)


def test_what_says_only_what_is_so_is_never_refused() -> None:
    """A configuration that spells out Kafka's defaults starts, but for those that Headwater needs otherwise."""
    otherwise = {"listeners", "queued.max.request.bytes", "sasl.enabled.mechanisms"}
    pairs = {
        name: definition.default
        for name, definition in definitions("broker").items()
        if definition.default is not None and name not in otherwise
    }
    pairs["listeners"] = "PLAINTEXT://127.0.0.1:0"
    settings, _ = read_configuration(pairs)
    assert settings.num_partitions == 1


@pytest.mark.parametrize("key", ["zookeeper.connect", "inter.broker.protocol.version", "log.message.format.version"])
def test_what_kafka_4_has_no_more_is_named_as_such(key: str) -> None:
    assert "Kafka 4 removed it" in problems({key: "x"})[key]


@pytest.mark.parametrize("name", [key for refusal in REFUSED for key in refusal.keys if not key.endswith(".")])
def test_a_refused_setting_without_a_value_is_fine(name: str) -> None:
    if definitions("broker")[name].type in (ConfigType.STRING, ConfigType.CLASS, ConfigType.PASSWORD):
        assert problems({name: " "}) == {}


def test_older_names_count() -> None:
    settings = Settings.from_pairs({"broker.id": "7", "log.dir": "/somewhere"})
    assert (settings.node_id, settings.log_dirs) == (7, "/somewhere")
    assert Settings.from_pairs({"broker.id": "-1"}).node_id == 1
    assert Settings.from_pairs({"broker.id": "-1", "node.id": "3"}).node_id == 3
    assert Settings.from_pairs({"log.dir": "/a", "log.dirs": "/b"}).log_dirs == "/b"


def test_two_underscores_of_a_variable_are_one() -> None:
    variables = {
        "HEADWATER_LOG_RETENTION_HOURS": "1",
        "HEADWATER_LISTENER_NAME_SASL__SSL_SSL_KEY_PASSWORD": "secret",
        "HEADWATER_PASSWORD": "of another command",
        "PATH": "/bin",
    }
    assert environment_pairs(variables) == {
        "log.retention.hours": "1",
        "listener.name.sasl_ssl.ssl.key.password": "secret",
    }


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ssl.key.password", True),
        ("listener.name.x.ssl.key.password", True),
        ("sasl.jaas.config", True),
        ("delegation.token.secret.key", True),
        ("sasl.oauthbearer.client.credentials.client.secret", True),
        ("ssl.keystore.location", False),
    ],
)
def test_secrets_are_known(key: str, expected: bool) -> None:
    assert is_secret(key) is expected


def test_a_wrong_value_in_an_error_is_short_and_on_one_line() -> None:
    (problem,) = problems({"log.retention.hours": "x\n" * 5000}).values()
    assert len(problem) < 300
    assert "\n" not in problem
