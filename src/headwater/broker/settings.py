"""The broker's settings, under Kafka's names.

They come, later ones over earlier ones, from `server.properties`, from variables (`HEADWATER_LOG_RETENTION_HOURS` is
`log.retention.hours`) and from `--set key=value`. A key that Kafka does not know either is an error that names it. One
that Kafka knows and that has no meaning here (replication, controllers, tiered storage) is taken, described as set, and
otherwise without effect.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

ENVIRONMENT_PREFIX = "HEADWATER_"
NOT_SETTINGS = frozenset({"HEADWATER_BOOTSTRAP_SERVER"})  # an option of the other commands
HOUR_MS = 3_600_000


class SettingsError(ValueError):
    """A setting that is unknown or has a value that it cannot have; the message names it."""


@dataclass(slots=True)
class Settings:
    """The settings that have an effect. A field's name is Kafka's key with underscores for dots."""

    node_id: int = 1
    listeners: str = "PLAINTEXT://127.0.0.1:9092"
    advertised_listeners: str = ""
    listener_security_protocol_map: str = ""
    sasl_enabled_mechanisms: str = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
    connections_max_reauth_ms: int = 0
    authorizer_class_name: str = ""
    super_users: str = ""
    allow_everyone_if_no_acl_found: bool = False
    headwater_insecure: bool = False
    log_dirs: str = "headwater-data"
    num_partitions: int = 1
    default_replication_factor: int = 1
    auto_create_topics_enable: bool = True
    delete_topic_enable: bool = True
    broker_rack: str = ""
    socket_request_max_bytes: int = 104_857_600
    queued_max_request_bytes: int = 512 << 20
    connections_max_idle_ms: int = 600_000
    max_connections: int = 2_147_483_647
    message_max_bytes: int = 1_048_588
    fetch_max_bytes: int = 57_671_680
    max_incremental_fetch_session_cache_slots: int = 1000
    log_retention_check_interval_ms: int = 300_000
    log_flush_offset_checkpoint_interval_ms: int = 60_000
    log_cleaner_enable: bool = True
    log_cleaner_backoff_ms: int = 15_000
    log_cleaner_dedupe_buffer_size: int = 134_217_728
    producer_id_expiration_ms: int = 86_400_000
    producer_id_expiration_check_interval_ms: int = 600_000
    offsets_topic_num_partitions: int = 50
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offset_metadata_max_bytes: int = 4096
    offsets_topic_segment_bytes: int = 104_857_600
    transaction_max_timeout_ms: int = 900_000
    transactional_id_expiration_ms: int = 604_800_000
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = 10_000
    transaction_remove_expired_transaction_cleanup_interval_ms: int = 3_600_000
    transaction_state_log_num_partitions: int = 50
    transaction_state_log_segment_bytes: int = 104_857_600
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3_000
    group_max_size: int = 2_147_483_647
    group_consumer_session_timeout_ms: int = 45_000
    group_consumer_heartbeat_interval_ms: int = 5_000
    group_consumer_min_session_timeout_ms: int = 45_000
    group_consumer_max_session_timeout_ms: int = 60_000
    group_consumer_min_heartbeat_interval_ms: int = 5_000
    group_consumer_max_heartbeat_interval_ms: int = 15_000
    group_consumer_max_size: int = 2_147_483_647
    group_consumer_assignors: str = "uniform,range"
    group_consumer_migration_policy: str = "bidirectional"
    replication_factor_clamp: bool = False
    headwater_nodes: int = 1
    headwater_durability: str = "journal"
    headwater_journal_file_bytes: int = 128 << 20
    headwater_open_files_max: int = 0
    given: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, str]) -> "Settings":
        """Settings from Kafka's keys; raises SettingsError for an unknown key or a wrong value."""
        values: dict[str, Any] = {}
        for key, text in pairs.items():
            default = own_defaults().get(key)
            if default is None:
                check_known(key)
                continue
            values[key.replace(".", "_")] = parse_value(key, text, default)
        return cls(**values, given=dict(pairs))

    def sasl_mechanisms(self) -> list[str]:
        return [name.strip() for name in self.sasl_enabled_mechanisms.split(",") if name.strip()]

    def described(self) -> dict[str, str]:
        """The keys that have an effect, with their values as text."""
        return {key: value_text(getattr(self, key.replace(".", "_"))) for key in own_defaults()}


def value_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def own_defaults() -> dict[str, Any]:
    return {f.name.replace("_", "."): f.default for f in fields(Settings) if f.name != "given"}


@cache
def kafka_configs() -> dict[str, Any]:
    """What Kafka knows of its configurations: lists of entries for `topic`, `broker` and `group`."""
    return dict(json.loads(files("headwater.broker").joinpath("data/configs.json").read_text()))


@cache
def broker_keys() -> frozenset[str]:
    """Every key that may be set."""
    hours = {"log.retention.hours", "log.retention.minutes", "log.retention.ms"}
    rolls = {"log.roll.hours", "log.roll.ms", "log.roll.jitter.hours", "log.roll.jitter.ms", "broker.rack"}
    known = {entry["name"] for entry in kafka_configs()["broker"]}
    return frozenset(known | hours | rolls | set(own_defaults()))


def check_known(key: str) -> None:
    _, _, own = key.removeprefix("listener.name.").partition(".")
    known = own if key.startswith("listener.name.") else key
    if known not in broker_keys():
        near = difflib.get_close_matches(key, broker_keys(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown setting {key}{hint}")


def parse_value(key: str, text: str, default: object) -> object:
    text = text.strip()
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{key} must be true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{key} must be a whole number, not {text!r}") from None
    return text


def check_settings(settings: Settings) -> None:
    if settings.headwater_durability not in ("journal", "page-cache"):
        raise SettingsError(
            f"headwater.durability must be journal or page-cache, not {settings.headwater_durability!r}"
        )
    assignors = {name.strip() for name in settings.group_consumer_assignors.split(",")}
    if not assignors or not assignors <= {"uniform", "range"}:
        raise SettingsError("group.consumer.assignors must be uniform, range or both")
    if settings.group_consumer_migration_policy not in ("disabled", "upgrade", "downgrade", "bidirectional"):
        raise SettingsError(
            "group.consumer.migration.policy must be disabled, upgrade, downgrade or bidirectional, not "
            f"{settings.group_consumer_migration_policy!r}"
        )
    for name, low in (
        ("num_partitions", 1),
        ("socket_request_max_bytes", 1024),
        ("queued_max_request_bytes", 1 << 20),
        ("headwater_journal_file_bytes", 1 << 16),
        ("offsets_topic_num_partitions", 1),
        ("transaction_state_log_num_partitions", 1),
        ("transaction_max_timeout_ms", 1),
        ("node_id", 0),
        ("fetch_max_bytes", 1024),
        ("max_connections", 1),
        ("headwater_nodes", 1),
        ("default_replication_factor", 1),
        ("group_consumer_session_timeout_ms", 1),
        ("group_consumer_heartbeat_interval_ms", 1),
        ("group_consumer_max_size", 1),
        ("group_max_size", 1),
    ):
        if getattr(settings, name) < low:
            raise SettingsError(f"{name.replace('_', '.')} must be at least {low}, not {getattr(settings, name)}")


def environment_pairs(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings among environment variables."""
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS
    }


def assignment_pairs(assignments: Iterable[str]) -> dict[str, str]:
    """The settings in `key=value` texts; raises SettingsError for one without a sign of equality."""
    pairs = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{text!r} is not of the form key=value")
        pairs[key.strip()] = value.strip()
    return pairs
