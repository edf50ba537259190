"""DescribeConfigs: documentation and synonyms, as kafka-configs shows them."""

from typing import Any

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest
from tests.broker.harness import Harness

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
DYNAMIC_DEFAULT_BROKER, STATIC_BROKER, DEFAULT = 3, 4, 5


def describe(broker: Harness, kind: int, name: str, version: int = 4, documented: bool = False) -> Any:
    resource = DescribeConfigsRequest.DescribeConfigsResource(kind, name, None)
    return broker.call(ApiKey.DESCRIBE_CONFIGS, version, DescribeConfigsRequest([resource], True, documented)).results[
        0
    ]


@pytest.mark.parametrize(("kind", "name"), [(TOPIC, "t"), (BROKER, "1"), (BROKER, ""), (GROUP, "g")])
def test_documentation_is_given_where_it_is_asked_for(kind: int, name: str) -> None:
    broker = Harness()
    broker.create_topic("t")
    plain, documented = (describe(broker, kind, name, documented=asked).configs for asked in (False, True))
    assert not any(entry.documentation for entry in plain)
    of_kafka = [e for e in documented if not e.name.startswith("headwater.") and e.name not in NOT_KAFKAS]
    assert of_kafka
    assert all(entry.documentation for entry in of_kafka), [e.name for e in of_kafka if not e.documentation]


# Of Kafka's authorizer, of this broker, or without words of Kafka's.
NOT_KAFKAS = {
    "super.users",
    "allow.everyone.if.no.acl.found",
    "replication.factor.clamp",
    "producer.id.expiration.check.interval.ms",
    "group.consumer.regex.refresh.interval.ms",
}


def test_units_have_their_synonyms_after_the_key_itself() -> None:
    broker = Harness(pairs={"log.retention.ms": 60_000, "log.roll.hours": 2})
    broker.create_topic("t")
    of_topic = {entry.name: entry for entry in describe(broker, TOPIC, "t").configs}
    of_broker = {entry.name: entry for entry in describe(broker, BROKER, "1").configs}
    for entry in (of_topic["retention.ms"], of_broker["log.retention.ms"]):
        assert (entry.value, entry.config_source) == ("60000", STATIC_BROKER)
        assert [(s.name, s.value, s.source) for s in entry.synonyms] == [
            ("log.retention.ms", "60000", STATIC_BROKER),
            ("log.retention.hours", "168", DEFAULT),
        ]
    assert (of_topic["segment.ms"].value, of_topic["segment.ms"].synonyms) == ("7200000", [])
    assert (of_broker["log.roll.ms"].value, of_broker["log.roll.ms"].synonyms) == (None, [])


def test_what_has_no_default_has_no_synonym() -> None:
    entry = {e.name: e for e in describe(Harness(), BROKER, "1").configs}["create.topic.policy.class.name"]
    assert (entry.value, entry.config_source, entry.synonyms) == (None, DEFAULT, [])


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (TOPIC, "no such", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "x", ErrorCode.INVALID_REQUEST),
        (BROKER, "7", ErrorCode.INVALID_REQUEST),
        (LOGGER, "7", ErrorCode.INVALID_REQUEST),
        (GROUP, "", ErrorCode.INVALID_REQUEST),
        (CLIENT_METRICS, "", ErrorCode.INVALID_REQUEST),
        (99, "x", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_cannot_be_described_is_refused(kind: int, name: str, error: ErrorCode) -> None:
    assert describe(Harness(), kind, name).error_code == error
