"""Kafka's configurations, and how a value is checked: its type, range and allowed values.

The data is Kafka's own (`data/configs.json`, read from its ConfigDefs), so a value is accepted here if Kafka accepts it.
Settings that only Headwater has are defined elsewhere. Numbers are in Java's format: ASCII digits with a sign, no
underscores.
"""

import json
import math
import pkgutil
import re
from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

from headwater.protocol.config_resources import ConfigResourceType

HOUR_MS = 3_600_000
SHORT_MAX = 2**15 - 1
INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?"  # compiled when the first number is read
SHOWN_CHARACTERS_MAX = 100


class ConfigError(ValueError):
    """A configuration that is unknown or has an invalid value: INVALID_CONFIG."""


class ConfigType(IntEnum):
    """As DescribeConfigs numbers them."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


SCOPES: dict[int, str] = {
    ConfigResourceType.TOPIC: "topic",
    ConfigResourceType.BROKER: "broker",
    ConfigResourceType.GROUP: "group",
}
BOUNDS = {ConfigType.INT: INT_MAX, ConfigType.SHORT: SHORT_MAX, ConfigType.LONG: LONG_MAX}


class Definition(NamedTuple):
    """One configuration. `low` and `high` are inclusive; `also` is allowed in addition."""

    name: str
    type: ConfigType
    default: str | None = None
    low: float | None = None
    high: float | None = None
    also: int | None = None
    values: tuple[str, ...] = ()
    is_case_ignored: bool = False
    is_strict_list: bool = False
    must_not_be_empty: bool = False
    is_sensitive: bool = False
    is_dynamic: bool = False

    def parse(self, text: str) -> Any:
        """Parses a value. Raises ConfigError if Kafka would refuse it."""
        value = parse_as(self.type, self.name, text)
        if self.type == ConfigType.LIST:
            self.check_list(value)
        elif isinstance(value, str):
            self.check_text(value)
        elif not isinstance(value, bool) and value != self.also:
            self.check_range(value)
        return value

    def check_range(self, value: float) -> None:
        what = f"Invalid value {value} for configuration {self.name}"
        if self.low is not None and value < self.low:
            raise ConfigError(f"{what}: Value must be at least {self.low}")
        if self.high is not None and value > self.high:
            raise ConfigError(f"{what}: Value must be no more than {self.high}")

    def check_text(self, value: str) -> None:
        allowed = {v.upper() for v in self.values} if self.is_case_ignored else set(self.values)
        if self.values and (value.upper() if self.is_case_ignored else value) not in allowed:
            raise ConfigError(
                f"Invalid value {shorten(value)} for configuration {self.name}: "
                f"String must be one of: {', '.join(self.values)}"
            )
        if self.must_not_be_empty and not value:
            raise ConfigError(f"Invalid value  for configuration {self.name}: String must be non-empty")

    def check_list(self, items: list[str]) -> None:
        if self.must_not_be_empty and not items:
            raise ConfigError(f"Configuration '{self.name}' must not be empty.")
        if self.is_strict_list and "" in items:
            raise ConfigError(f"Configuration '{self.name}' values must not be empty.")
        for item in items:
            if self.values and item not in self.values:
                raise ConfigError(
                    f"Invalid value {shorten(item)} for configuration {self.name}: "
                    f"String must be one of: {', '.join(self.values)}"
                )

    def is_default(self, text: str) -> bool:
        """Whether a valid value is the same as the default."""
        if self.default is None:
            return not text.strip()
        return bool(parse_as(self.type, self.name, text) == parse_as(self.type, self.name, self.default))


def shorten(text: str) -> str:
    """A wrong value for an error message: of bounded length, on one line."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def parse_as(type_: int, name: str, text: str) -> Any:
    """A value of that type. Raises ConfigError. Repeated items of a list are removed."""
    text = text.strip()
    if type_ == ConfigType.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise ConfigError(
                f"Invalid value {shorten(text)} for configuration {name}: Expected value to be either true or false"
            )
        return text.lower() == "true"
    if type_ in BOUNDS:
        bound = BOUNDS[ConfigType(type_)]
        if WHOLE_NUMBER.fullmatch(text) and -bound - 1 <= int(text) <= bound:
            return int(text)
    elif type_ == ConfigType.DOUBLE:
        if re.fullmatch(NUMBER, text, re.ASCII) and math.isfinite(float(text)):
            return float(text)
    elif type_ == ConfigType.LIST:
        return list(dict.fromkeys(item.strip() for item in text.split(","))) if text else []
    else:
        return text
    kind = ConfigType(type_).name
    raise ConfigError(f"Invalid value {shorten(text)} for configuration {name}: Not a number of type {kind}")


def read_data(name: str) -> Any:
    """A file of this package's data."""
    content = pkgutil.get_data("headwater.broker.configs", f"data/{name}")  # importlib.resources takes 4 ms to import
    assert content is not None
    return json.loads(content)


@cache
def kafka_configs() -> dict[str, Any]:
    """Kafka's configurations: lists of entries for `topic`, `broker` and `group`."""
    return dict(read_data("configs.json"))


@cache
def definitions(scope: str) -> dict[str, Definition]:
    """Kafka's definitions for `topic`, `broker` or `group`, by name."""
    return {entry["name"]: definition_of(entry) for entry in kafka_configs()[scope]}


def definition_of(entry: dict[str, Any]) -> Definition:
    low, high = entry.get("range", (None, None))
    return Definition(
        entry["name"],
        ConfigType(entry["type"]),
        entry["default"],
        low,
        high,
        entry.get("or"),
        tuple(entry.get("values", ())),
        entry.get("any_case", False),
        entry.get("is_strict", False),
        entry.get("not_empty", False),
        entry.get("sensitive", False),
        entry.get("dynamic", False),
    )


@cache
def topic_entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in kafka_configs()["topic"]}


@cache
def documentation(resource_type: int) -> Mapping[str, str]:
    """Kafka's own documentation of the configurations of a topic (2), a broker (4) or a group (32); none for other resources."""
    kind = SCOPES.get(resource_type)
    texts = read_data("config_docs.json")
    return dict(texts[kind]) if kind is not None else {}


# The broker's keys that set a topic's default in other units.
UNIT_SYNONYMS: dict[str, tuple[tuple[str, int], ...]] = {
    "retention.ms": (("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", HOUR_MS)),
    "segment.ms": (("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)),
    "segment.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)),
    "flush.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
}


def units_of(name: str) -> tuple[tuple[str, int], ...]:
    """The broker's keys that set a topic's default, each with the factor to the topic's unit."""
    return UNIT_SYNONYMS.get(name) or tuple((key, 1) for key in topic_entries()[name]["synonyms"])


def broker_family(name: str) -> tuple[str, ...]:
    """The broker's keys that set the same value in different units, in order of precedence, or the key alone."""
    families = (tuple(key for key, _ in units) for units in UNIT_SYNONYMS.values())
    return next((family for family in families if name in family), (name,))
