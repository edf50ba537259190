"""The broker's configuration at run time, without a broker: which layer counts, and what may change."""

import logging

import pytest

from headwater.broker.configs.catalog import ConfigError
from headwater.broker.configs.dynamic import (
    ClusterConfigError,
    ConfigSource,
    DynamicConfigs,
    NotDynamicError,
    broker_synonyms,
    dynamic_keys,
    merge_layers,
)
from headwater.broker.configs.setting_classes import WITHOUT_EFFECT
from headwater.broker.configs.settings import Settings

Stored = dict[str, dict[str, str]]


def configs(stored: Stored, **given: str) -> DynamicConfigs:
    """What nodes 1 and 2 have in force; `log_retention_ms` gives log.retention.ms."""
    pairs = {key.replace("_", "."): text for key, text in given.items()}
    found = DynamicConfigs(Settings.from_pairs(pairs), [1, 2], stored)
    found.apply()
    return found


def test_the_nodes_own_value_counts_before_that_of_all_nodes_and_what_was_given() -> None:
    stored: Stored = {}
    found = configs(stored, message_max_bytes="1000")
    seen = [found.settings.message_max_bytes]
    for resource, value in (("", "2000"), ("1", "3000"), ("2", "4000")):
        stored[resource] = {"message.max.bytes": value}
        found.apply()
        seen.append(found.settings.message_max_bytes)
    del stored["1"], stored[""]
    found.apply()
    assert [*seen, found.settings.message_max_bytes] == [1000, 2000, 3000, 3000, 1000]


def test_what_is_stored_is_in_force_when_it_is_applied() -> None:
    stored: Stored = {}
    found = configs(stored)
    stored[""] = {"message.max.bytes": "2000"}
    assert found.settings.message_max_bytes == Settings().message_max_bytes
    assert "message.max.bytes" not in merge_layers(found.layers)


def test_what_cannot_be_served_is_ignored_and_named(caplog: pytest.LogCaptureFixture) -> None:
    stored = {"": {"num.partitions": "5", "message.max.bytes": "2000"}, "1": {"message.max.bytes": "many"}}
    with caplog.at_level(logging.WARNING):
        found = configs(stored, log_dir_failure_timeout_ms="5")
        assert caplog.text == ""
        found.warn_of_unserved()
    assert (found.settings.num_partitions, found.settings.message_max_bytes) == (1, 2000)
    assert [record.message.partition(": ")[0] for record in caplog.records] == [
        "settings without effect",
        "a stored configuration is ignored",
        "a stored configuration is ignored",
    ]
    assert "num.partitions can only be set before the start" in caplog.text
    assert "many" in caplog.text


def test_what_contradicts_this_start_is_ignored_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    stored = {"": {"log.flush.interval.messages": "1", "message.max.bytes": "2000"}}
    with caplog.at_level(logging.WARNING):
        found = configs(stored, headwater_durability="page-cache")
    assert "headwater.durability=page-cache" in caplog.text
    assert [source for _, source in found.layers] == [ConfigSource.STATIC_BROKER]
    assert found.settings.message_max_bytes == Settings().message_max_bytes


@pytest.mark.parametrize(
    ("resource", "changes", "error"),
    [
        ("x", {"message.max.bytes": "1"}, NotDynamicError),
        ("3", {"message.max.bytes": "1"}, NotDynamicError),
        ("", {"num.partitions": "1"}, NotDynamicError),
        ("", {"super.users": None}, NotDynamicError),
        ("", {"listener.name.a.no.such.key": "1"}, NotDynamicError),
        ("", {"message.max.bytes": "many"}, ConfigError),
        ("", {"log.flush.interval.messages": "1"}, ConfigError),
        ("", {"no.such.key": "x" * 10_000}, ConfigError),
        ("1", {"min.insync.replicas": "1"}, ClusterConfigError),
        ("", {"min.insync.replicas": None}, ClusterConfigError),
    ],
)
def test_what_must_not_change_is_refused(
    resource: str, changes: dict[str, str | None], error: type[ConfigError]
) -> None:
    stored = {"": {"super.users": "User:a"}}
    with pytest.raises(ConfigError) as raised:
        configs(stored, headwater_durability="page-cache").check_broker(resource, changes)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("resource", "changes"),
    [
        ("2", {"message.max.bytes": "1"}),
        ("", {"message.max.bytes": None}),
        ("", {"no.such.key": "x"}),
        ("", {"min.insync.replicas": "2"}),
        ("", {"num.partitions": None}),  # an earlier version stored it: it may be removed, not set
    ],
)
def test_what_may_change_is_let_through(resource: str, changes: dict[str, str | None]) -> None:
    configs({"": {"num.partitions": "5"}}).check_broker(resource, changes)


def test_a_groups_bounds_are_those_in_force() -> None:
    stored: Stored = {}
    found = configs(stored, group_consumer_max_session_timeout_ms="50000")
    found.check_group({"consumer.session.timeout.ms": "50000", "consumer.heartbeat.interval.ms": None})
    for wrong in ({"consumer.session.timeout.ms": "50001"}, {"consumer.session.timeout.ms": "1"}, {"no.such": None}):
        with pytest.raises(ConfigError):
            found.check_group(wrong)


def test_super_users_are_those_given_and_those_stored() -> None:
    found = configs({"": {"super.users": "User:b;User:c"}, "1": {}}, super_users="User:a; User:b;")
    assert found.super_users() == {"User:a", "User:b", "User:c"}


def test_synonyms_begin_with_the_key_itself() -> None:
    keys = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
    layers = (({"log.retention.hours": "2"}, ConfigSource.STATIC_BROKER),)
    assert broker_synonyms("log.retention.ms", keys, layers, {}) == []
    found = broker_synonyms("log.retention.hours", keys, layers, {})
    assert found == [
        ("log.retention.hours", "2", ConfigSource.STATIC_BROKER),
        ("log.retention.hours", "168", ConfigSource.DEFAULT),
    ]


def test_every_dynamic_key_takes_effect_at_once_or_has_none() -> None:
    """Those that are honoured are read when they are used; the list changes only with a look at where that is."""
    honoured = {
        name
        for name in dynamic_keys()
        if not any(
            name in keys or name.startswith(tuple(k for k in keys if k.endswith(".")))
            for keys in WITHOUT_EFFECT.values()
        )
    }
    assert honoured == {
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "group.consumer.assignment.interval.ms",
        "log.cleaner.dedupe.buffer.size",
        "log.cleaner.delete.retention.ms",
        "log.cleaner.max.compaction.lag.ms",
        "log.cleaner.min.cleanable.ratio",
        "log.cleaner.min.compaction.lag.ms",
        "log.cleanup.policy",
        "log.index.interval.bytes",
        "log.index.size.max.bytes",
        "log.message.timestamp.after.max.ms",
        "log.message.timestamp.before.max.ms",
        "log.message.timestamp.type",
        "log.retention.bytes",
        "log.retention.ms",
        "log.roll.jitter.ms",
        "log.roll.ms",
        "log.segment.bytes",
        "max.connection.creation.rate",
        "max.connections",
        "max.connections.per.ip",
        "max.connections.per.ip.overrides",
        "message.max.bytes",
        "producer.id.expiration.ms",
    }
