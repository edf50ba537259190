"""What AlterConfigs may change while the broker runs, and what becomes of what an earlier version stored."""

import logging
from typing import Any

import pytest

from headwater.broker.configs.dynamic import ConfigSource
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_configs import AlterConfigsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.security.cipher_suites import TlsError
from tests.broker.harness import Harness

TOPIC, BROKER, LOGGER, GROUP = 2, 4, 8, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


def alter(broker: Harness, kind: int, resource: str, name: str, value: str | None, operation: int = SET) -> int:
    m = IncrementalAlterConfigsRequest
    wanted = m.AlterConfigsResource(kind, resource, [m.AlterableConfig(name, operation, value)])
    return int(broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m([wanted])).responses[0].error_code)


def replace(broker: Harness, kind: int, resource: str, **pairs: str) -> int:
    m = AlterConfigsRequest
    named = [m.AlterableConfig(name.replace("_", "."), value) for name, value in pairs.items()]
    return int(
        broker.call(ApiKey.ALTER_CONFIGS, 2, m([m.AlterConfigsResource(kind, resource, named)])).responses[0].error_code
    )


def described(broker: Harness, kind: int, name: str) -> list[Any]:
    resource = DescribeConfigsRequest.DescribeConfigsResource(kind, name, None)
    result = broker.call(ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([resource], True)).results[0]
    assert (result.error_code, result.error_message) == (0, "")
    return list(result.configs)


@pytest.mark.parametrize("key", ["ssl.keystore.location", "listener.name.ssl.ssl.truststore.location"])
def test_naming_a_tls_file_as_it_is_reads_it_again_and_stores_nothing(key: str) -> None:
    broker, reloads = Harness(pairs={key: "/etc/some.pem"}), list[str]()
    broker.core.reload_certificates = lambda: reloads.append(key)
    assert alter(broker, BROKER, "1", key, " /etc/some.pem") == ErrorCode.NONE
    assert replace(broker, BROKER, "1", **{key: "/etc/some.pem"}) == ErrorCode.NONE
    assert reloads == [key, key]
    assert not broker.core.metadata.broker_configs.get("1")
    for resource, other in (("", "/etc/some.pem"), ("1", "/etc/other.pem"), ("1", "")):
        assert alter(broker, BROKER, resource, key, other) == ErrorCode.INVALID_REQUEST
    assert alter(broker, BROKER, "1", key, None, DELETE) == ErrorCode.INVALID_REQUEST
    m = IncrementalAlterConfigsRequest
    wanted = m.AlterConfigsResource(BROKER, "1", [m.AlterableConfig(key, SET, "/etc/some.pem")])
    checked = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m([wanted], validate_only=True))
    assert checked.responses[0].error_code == ErrorCode.NONE
    assert len(reloads) == 2


def test_a_tls_file_that_cannot_be_read_again_is_named() -> None:
    def fail() -> None:
        raise TlsError("TLS: /etc/some.pem cannot be used")

    broker = Harness(pairs={"ssl.keystore.location": "/etc/some.pem"})
    broker.core.reload_certificates = fail
    assert alter(broker, BROKER, "1", "ssl.keystore.location", "/etc/some.pem") == ErrorCode.INVALID_REQUEST


def test_other_changes_are_made_together_with_the_reading_of_a_file() -> None:
    broker, key = Harness(pairs={"ssl.keystore.location": "/etc/some.pem"}), "ssl.keystore.location"
    assert alter(broker, BROKER, "1", "message.max.bytes", "5") == ErrorCode.NONE
    assert replace(broker, BROKER, "1", **{key: "/etc/some.pem", "log_retention_ms": "7"}) == ErrorCode.NONE
    assert broker.core.metadata.broker_configs["1"] == {"log.retention.ms": "7"}


def test_levels_of_loggers_are_shown_and_changed_until_the_broker_ends() -> None:
    broker, name = Harness(), "headwater.broker.handlers"
    logger = logging.getLogger(name)
    before = {entry.name: entry.value for entry in described(broker, LOGGER, "1")}
    assert alter(broker, LOGGER, "1", name, "FATAL") == ErrorCode.NONE
    try:
        (entry,) = [entry for entry in described(broker, LOGGER, "1") if entry.name == name]
        assert (entry.value, entry.config_source, entry.read_only) == (
            "FATAL",
            ConfigSource.DYNAMIC_BROKER_LOGGER,
            False,
        )
        assert (entry.documentation, entry.synonyms) == ("", [])
        assert not broker.core.metadata.broker_configs
        assert alter(broker, LOGGER, "1", name, None, DELETE) == ErrorCode.NONE
        assert {entry.name: entry.value for entry in described(broker, LOGGER, "1")} == before
    finally:
        logger.setLevel(logging.NOTSET)
    for resource in ("", "7", "x"):
        assert alter(broker, LOGGER, resource, name, "INFO") == ErrorCode.INVALID_REQUEST
    assert replace(broker, LOGGER, "1", **{name: "INFO"}) == ErrorCode.INVALID_REQUEST


def test_levels_of_loggers_are_only_checked_where_that_is_asked() -> None:
    broker, m = Harness(), IncrementalAlterConfigsRequest
    wanted = m.AlterConfigsResource(LOGGER, "1", [m.AlterableConfig("headwater.broker.handlers", SET, "FATAL")])
    answer = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m([wanted], validate_only=True))
    assert answer.responses[0].error_code == ErrorCode.NONE
    assert logging.getLogger("headwater.broker.handlers").level == logging.NOTSET


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl.enabled.mechanisms", "x"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("listener.name.sasl_ssl.sasl.enabled.mechanisms", "x"),
        ("sasl.jaas.config", "org.example.JndiLoginModule required;"),
        ("listeners", "PLAINTEXT://0.0.0.0:1"),
        ("listener.security.protocol.map", "SASL_SSL:PLAINTEXT"),
        ("ssl.keystore.location", "/nowhere"),
        ("listener.name.ssl.ssl.keystore.location", "/nowhere"),
        ("ssl.client.auth", "none"),
        ("principal.builder.class", "org.example.Builder"),
        ("config.providers", "file"),
        ("super.users", "User:mallory"),
        ("authorizer.class.name", ""),
        ("num.partitions", "3"),
        ("listener.name.ssl.no.such.key", "1"),
    ],
)
@pytest.mark.parametrize("resource", ["", "1"])
def test_nothing_that_decides_who_may_connect_changes_at_run_time(resource: str, name: str, value: str) -> None:
    broker = Harness()
    assert alter(broker, BROKER, resource, name, value) == ErrorCode.INVALID_REQUEST
    assert replace(broker, BROKER, resource, **{name: value}) == ErrorCode.INVALID_REQUEST
    assert broker.core.metadata.broker_configs.get(resource, {}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.retention.ms", "soon"),
        ("log.retention.ms", "0"),
        ("log.segment.bytes", "1"),
        ("log.cleanup.policy", "bogus"),
        ("log.cleaner.dedupe.buffer.size", "1"),
        ("max.connections", "0"),
        ("num.io.threads", "0"),
        ("compression.type", "GZIP"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str) -> None:
    broker = Harness()
    assert alter(broker, BROKER, "", name, value) == ErrorCode.INVALID_REQUEST
    broker.create_topic("t")


@pytest.mark.parametrize(
    ("name", "value"), [("retention.ms", "1_000"), ("cleanup.policy", "delete,bogus"), ("segment.bytes", "1k")]
)
def test_a_wrong_value_of_a_topic_is_refused(name: str, value: str) -> None:
    broker = Harness()
    broker.create_topic("t")
    assert alter(broker, TOPIC, "t", name, value) == ErrorCode.INVALID_CONFIG
    assert replace(broker, TOPIC, "t", **{name: value}) == ErrorCode.INVALID_CONFIG
    m = CreateTopicsRequest
    wanted = m.CreatableTopic("u", 1, 1, configs=[m.CreatableTopicConfig(name, value)])
    assert broker.call(ApiKey.CREATE_TOPICS, 7, m([wanted])).topics[0].error_code == ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize("name", ["flush.messages", "flush.ms"])
def test_flushes_are_refused_where_nothing_would_make_them(name: str) -> None:
    m = CreateTopicsRequest
    wanted = m([m.CreatableTopic("t", 1, 1, configs=[m.CreatableTopicConfig(name, "1")])])
    fast = Harness(pairs={"headwater.durability": "page-cache"})
    assert fast.call(ApiKey.CREATE_TOPICS, 7, wanted).topics[0].error_code == ErrorCode.INVALID_CONFIG
    assert Harness().call(ApiKey.CREATE_TOPICS, 7, wanted).topics[0].error_code == 0


def test_a_compaction_lag_range_must_not_be_empty() -> None:
    broker = Harness()
    broker.create_topic("t", min_compaction_lag_ms="100")
    assert alter(broker, TOPIC, "t", "max.compaction.lag.ms", "99") == ErrorCode.INVALID_CONFIG
    assert alter(broker, TOPIC, "t", "max.compaction.lag.ms", "100") == 0


@pytest.mark.parametrize("value", ["-1", "x", "0"])
def test_a_wrong_value_of_a_group_is_refused(value: str) -> None:
    assert alter(Harness(), GROUP, "g", "consumer.session.timeout.ms", value) == ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize("resource", ["", "1"])
def test_a_key_that_nobody_knows_is_kept_as_kafka_keeps_it_for_plug_ins(resource: str) -> None:
    broker = Harness()
    assert alter(broker, BROKER, resource, "no.such.key", "secret") == 0
    broker.kill()
    found = {entry.name: entry for entry in described(broker, BROKER, resource or "")}["no.such.key"]
    assert (found.value, found.is_sensitive, found.read_only, found.config_type) == (None, True, True, 0)
    source = ConfigSource.DYNAMIC_BROKER if resource else ConfigSource.DYNAMIC_DEFAULT_BROKER
    assert [(s.name, s.value, s.source) for s in found.synonyms] == [("no.such.key", None, source)]
    assert alter(broker, BROKER, resource, "log.retention.ms", "7") == 0  # it is in nothing's way
    assert alter(broker, BROKER, resource, "no.such.key", None, DELETE) == 0
    assert replace(broker, BROKER, resource, other="1") == 0
    assert broker.core.metadata.broker_configs[resource] == {"other": "1"}
    assert alter(broker, BROKER, resource, "other", "x", APPEND) == ErrorCode.INVALID_CONFIG


def test_keys_that_nobody_knows_have_a_limit() -> None:
    broker = Harness()
    assert alter(broker, BROKER, "1", "long", "x" * 20_000) == ErrorCode.INVALID_REQUEST
    for number in range(100):
        assert alter(broker, BROKER, "1", f"custom.{number}", "x") == 0
    assert alter(broker, BROKER, "1", "one.more", "x") == ErrorCode.INVALID_REQUEST
    assert alter(broker, BROKER, "1", "custom.0", "y") == 0
    assert alter(broker, BROKER, "1", "custom.0", None, DELETE) == 0
    assert alter(broker, BROKER, "1", "one.more", "x") == 0


@pytest.mark.parametrize(("resource", "value", "operation"), [("1", "1", SET), ("1", None, DELETE), ("", None, DELETE)])
def test_the_least_in_sync_replicas_are_the_clusters(resource: str, value: str | None, operation: int) -> None:
    broker = Harness(pairs={"min.insync.replicas": 2})
    assert alter(broker, BROKER, resource, "min.insync.replicas", value, operation) == ErrorCode.INVALID_CONFIG
    assert alter(broker, BROKER, "", "min.insync.replicas", "0") == ErrorCode.INVALID_REQUEST
    broker.create_topic("t")
    for kind, name in ((TOPIC, "t"), (BROKER, "1"), (BROKER, "")):
        found = {entry.name: entry for entry in described(broker, kind, name)}["min.insync.replicas"]
        assert (found.value, found.config_source) == ("2", ConfigSource.DYNAMIC_DEFAULT_BROKER)
    assert alter(broker, BROKER, "", "min.insync.replicas", "3") == 0
    assert {e.name: e.value for e in described(broker, TOPIC, "t")}["min.insync.replicas"] == "3"


@pytest.mark.parametrize(
    ("kind", "resource", "error"),
    [
        (TOPIC, "", ErrorCode.INVALID_REQUEST),
        (TOPIC, "no such", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "x", ErrorCode.INVALID_REQUEST),
        (BROKER, "7", ErrorCode.INVALID_REQUEST),
        (GROUP, "", ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_resource_that_is_not_there_is_refused(kind: int, resource: str, error: ErrorCode) -> None:
    name = {TOPIC: "retention.ms", BROKER: "log.retention.ms", GROUP: "consumer.session.timeout.ms"}[kind]
    assert alter(Harness(), kind, resource, name, "50000") == error


@pytest.mark.parametrize(("kind", "resource", "name"), [(TOPIC, "t", "retention.ms"), (BROKER, "", "log.retention.ms")])
def test_nothing_is_set_to_nothing(kind: int, resource: str, name: str) -> None:
    broker = Harness()
    broker.create_topic("t")
    assert alter(broker, kind, resource, name, None, SET) == ErrorCode.INVALID_REQUEST
    m = AlterConfigsRequest
    wanted = m.AlterConfigsResource(kind, resource, [m.AlterableConfig(name, None)])
    answer = broker.call(ApiKey.ALTER_CONFIGS, 2, m([wanted]))
    assert answer.responses[0].error_code == ErrorCode.INVALID_REQUEST


def test_a_resource_is_named_once() -> None:
    broker = Harness()
    broker.create_topic("t")
    m = IncrementalAlterConfigsRequest
    wanted = [m.AlterConfigsResource(TOPIC, "t", [m.AlterableConfig("retention.ms", SET, str(n))]) for n in (1, 2)]
    answer = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, m(wanted))
    assert [r.error_code for r in answer.responses] == [ErrorCode.INVALID_REQUEST] * 2
    assert broker.core.metadata.topics["t"].configs == {}


@pytest.mark.parametrize(
    ("name", "value"), [("num.io.threads", "16"), ("sasl.kerberos.min.time.before.relogin", "58000")]
)
def test_what_has_no_effect_here_may_change_as_in_kafka(name: str, value: str) -> None:
    assert alter(Harness(), BROKER, "1", name, value) == 0


def test_lists_of_the_broker_are_added_to() -> None:
    broker = Harness()
    assert alter(broker, BROKER, "", "log.cleanup.policy", "compact", APPEND) == 0
    assert broker.core.metadata.broker_configs[""]["log.cleanup.policy"] == "delete,compact"
    assert alter(broker, BROKER, "", "log.cleanup.policy", "delete", SUBTRACT) == 0
    assert broker.core.metadata.broker_configs[""]["log.cleanup.policy"] == "compact"
    assert alter(broker, BROKER, "", "log.retention.ms", "1", APPEND) == ErrorCode.INVALID_CONFIG


def test_what_an_earlier_version_stored_is_named_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness(pairs={"log.retention.hours": "5"})
    stored = {"sasl.enabled.mechanisms": "x", "log.retention.ms": "soon", "log.segment.bytes": "2097152"}
    broker.core.append_metadata(broker.core.metadata.config_records("", dict(stored), BROKER))
    broker.sync()
    with caplog.at_level(logging.WARNING):
        broker.restart()
    assert "sasl.enabled.mechanisms can only be set before the start" in caplog.text
    assert "log.retention.ms" in caplog.text
    assert broker.core.settings.sasl_mechanisms() == ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    broker.create_topic("t")
    config = broker.core.partitions.log_config(broker.core.metadata.topics["t"])
    assert (config.retention_ms, config.segment_bytes) == (5 * 3_600_000, 2097152)
    # What is stored can be removed, and what is sound can be changed beside it.
    assert alter(broker, BROKER, "", "log.segment.bytes", "1048576") == 0
    assert alter(broker, BROKER, "", "sasl.enabled.mechanisms", None, DELETE) == 0
    assert "sasl.enabled.mechanisms" not in broker.core.metadata.broker_configs[""]


def test_nobody_removes_the_super_users_from_outside() -> None:
    broker = Harness()
    core = broker.core
    core.append_metadata(core.metadata.config_records("", {"super.users": "User:admin"}, BROKER))
    broker.sync()
    broker.connection.principal = "User:admin"
    broker.restart()
    # AlterConfigs removes whatever it does not name, but not these.
    assert replace(broker, BROKER, "", log_retention_ms="5000") == 0
    assert replace(broker, BROKER, "") == 0
    assert alter(broker, BROKER, "", "super.users", None, DELETE) == ErrorCode.INVALID_REQUEST
    assert alter(broker, BROKER, "", "super.users", "User:mallory") == ErrorCode.INVALID_REQUEST
    assert broker.core.acls is not None
    assert broker.core.acls.super_users == {"User:admin"}


def test_stored_values_that_contradict_this_start_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness()
    assert alter(broker, BROKER, "", "log.flush.interval.messages", "1") == 0
    broker.core.close()
    broker.pairs["headwater.durability"] = "page-cache"
    with caplog.at_level(logging.WARNING):
        broker.core = broker.open()
    assert "headwater.durability=page-cache" in caplog.text
    assert [source for _, source in broker.core.dynamic_configs.layers] == [ConfigSource.STATIC_BROKER]
