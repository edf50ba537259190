"""A topic's configuration in force."""

import pytest

from headwater.broker.configs import topic_configs
from headwater.broker.configs.dynamic import ConfigSource
from headwater.broker.configs.setting_classes import TOPIC_HONOURED


def test_what_topics_honour_is_what_their_logs_are_given() -> None:
    asked: list[str] = []

    class Own(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            asked.append(str(name))
            return False

    topic_configs.log_config(Own({"any": "thing"}), ())
    assert set(asked) == TOPIC_HONOURED


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"log.retention.ms": "7", "log.retention.minutes": "8", "log.retention.hours": "9"}, "7"),
        ({"log.retention.minutes": "8", "log.retention.hours": "9"}, "480000"),
        ({"log.retention.hours": "9"}, "32400000"),
        ({"log.retention.hours": "-1"}, "-1"),
        ({"log.retention.minutes": "-1"}, "-1"),
        ({"log.retention.ms": "-1"}, "-1"),
        ({}, "604800000"),
    ],
)
def test_the_smallest_unit_of_retention_counts(given: dict[str, str], expected: str) -> None:
    layers = ((given, ConfigSource.STATIC_BROKER),)
    assert topic_configs.effective("retention.ms", {}, layers).value == expected
