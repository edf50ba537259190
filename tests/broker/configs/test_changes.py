"""The changes that the two requests that alter configurations make, without a broker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headwater.broker.configs.changes import increments, own_configs, records_of, replacement
from headwater.broker.configs.dynamic import Changes, ConfigSource, DynamicConfigs
from headwater.broker.configs.settings import Settings
from headwater.protocol.config_resources import AlterConfigOp, ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError

TOPIC, BROKER, GROUP = ConfigResourceType.TOPIC, ConfigResourceType.BROKER, ConfigResourceType.GROUP
LAYERS = (({"log.cleanup.policy": "compact"}, ConfigSource.STATIC_BROKER),)


@dataclass
class Topic:
    configs: dict[str, str]


@dataclass
class Store:
    """Metadata with configurations only; a record is a tuple."""

    topics: dict[str, Topic] = field(default_factory=dict)
    broker_configs: dict[str, dict[str, str]] = field(default_factory=dict)
    group_configs: dict[str, dict[str, str]] = field(default_factory=dict)

    def change_configs(self, name: str, changes: Changes) -> list[Any]:
        return [("checked", name, dict(changes))]

    def config_records(self, resource: str, values: Changes, resource_type: int) -> list[Any]:
        return [(resource_type, resource, dict(values))]


def records(kind: int, name: str, changes: Changes) -> list[Any]:
    store = Store()
    return records_of(store, DynamicConfigs(Settings(), [1], store.broker_configs), kind, name, changes)


def test_a_change_comes_to_records() -> None:
    session = {"consumer.session.timeout.ms": "50000"}
    assert records(TOPIC, "t", {"retention.ms": "1"}) == [("checked", "t", {"retention.ms": "1"})]
    assert records(BROKER, "", {"message.max.bytes": "9"}) == [(BROKER, "", {"message.max.bytes": "9"})]
    assert records(GROUP, "g", session) == [(GROUP, "g", session)]


@pytest.mark.parametrize(
    ("kind", "name", "changes", "code"),
    [
        (TOPIC, "", {}, ErrorCode.INVALID_REQUEST),
        (GROUP, "", {}, ErrorCode.INVALID_REQUEST),
        (ConfigResourceType.BROKER_LOGGER, "1", {}, ErrorCode.INVALID_REQUEST),  # AlterConfigs has no loggers
        (ConfigResourceType.CLIENT_METRICS, "m", {}, ErrorCode.INVALID_REQUEST),
        (3, "x", {}, ErrorCode.INVALID_REQUEST),
        (BROKER, "7", {}, ErrorCode.INVALID_REQUEST),
        (BROKER, "", {"message.max.bytes": "many"}, ErrorCode.INVALID_REQUEST),
        (BROKER, "1", {"min.insync.replicas": "2"}, ErrorCode.INVALID_CONFIG),
        (GROUP, "g", {"no.such.key": "1"}, ErrorCode.INVALID_CONFIG),
    ],
)
def test_a_change_that_cannot_be_has_the_code_that_kafka_gives_it(
    kind: int, name: str, changes: Changes, code: ErrorCode
) -> None:
    with pytest.raises(ApiError) as raised:
        records(kind, name, changes)
    assert raised.value.code == code


def test_own_configurations_are_those_that_clients_may_change() -> None:
    store = Store(
        {"t": Topic({"retention.ms": "1"})},
        {"": {"super.users": "User:a", "message.max.bytes": "9"}},
        {"g": {"consumer.session.timeout.ms": "50000"}},
    )
    assert own_configs(store, TOPIC, "t") == {"retention.ms": "1"}
    assert own_configs(store, BROKER, "") == {"message.max.bytes": "9"}
    assert own_configs(store, GROUP, "g") == {"consumer.session.timeout.ms": "50000"}
    for kind, name in ((TOPIC, "u"), (BROKER, "1"), (GROUP, "h"), (ConfigResourceType.BROKER_LOGGER, "1")):
        assert own_configs(store, kind, name) == {}


def test_a_replacement_removes_what_it_does_not_name() -> None:
    own = {"retention.ms": "5", "cleanup.policy": "compact"}
    assert replacement(own, [("retention.ms", "7")]) == {"retention.ms": "7", "cleanup.policy": None}
    with pytest.raises(ApiError):
        replacement(own, [("retention.ms", None)])


@pytest.mark.parametrize(
    ("own", "kind", "key", "operation", "text", "expected"),
    [
        ({}, TOPIC, "retention.ms", AlterConfigOp.SET, "7", "7"),
        ({"retention.ms": "5"}, TOPIC, "retention.ms", AlterConfigOp.DELETE, None, None),
        ({}, TOPIC, "cleanup.policy", AlterConfigOp.APPEND, "delete,compact", "compact,delete"),  # the broker's first
        ({"cleanup.policy": "delete"}, TOPIC, "cleanup.policy", AlterConfigOp.APPEND, "compact", "delete,compact"),
        ({"cleanup.policy": "delete"}, TOPIC, "cleanup.policy", AlterConfigOp.SUBTRACT, "delete", ""),
        ({}, TOPIC, "cleanup.policy", AlterConfigOp.SUBTRACT, None, "compact"),
        ({}, BROKER, "log.cleanup.policy", AlterConfigOp.APPEND, "delete", "compact,delete"),
        ({"log.cleanup.policy": "delete"}, BROKER, "log.cleanup.policy", AlterConfigOp.SUBTRACT, "compact", "delete"),
    ],
)
def test_increments(
    own: Mapping[str, str], kind: int, key: str, operation: int, text: str | None, expected: str | None
) -> None:
    assert increments(own, LAYERS, kind, [(key, operation, text)]) == {key: expected}


@pytest.mark.parametrize(
    ("kind", "key", "operation", "text", "code"),
    [
        (TOPIC, "retention.ms", AlterConfigOp.SET, None, ErrorCode.INVALID_REQUEST),
        (TOPIC, "retention.ms", 9, "1", ErrorCode.INVALID_REQUEST),
        (TOPIC, "retention.ms", AlterConfigOp.APPEND, "1", ErrorCode.INVALID_CONFIG),
        (BROKER, "no.such.key", AlterConfigOp.SUBTRACT, "1", ErrorCode.INVALID_CONFIG),
        (ConfigResourceType.BROKER_LOGGER, "x", AlterConfigOp.APPEND, "1", ErrorCode.INVALID_CONFIG),
    ],
)
def test_an_operation_that_cannot_be_is_refused(
    kind: int, key: str, operation: int, text: str | None, code: ErrorCode
) -> None:
    with pytest.raises(ApiError) as raised:
        increments({}, LAYERS, kind, [(key, operation, text)])
    assert raised.value.code == code
