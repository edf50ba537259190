"""The broker's settings, under Kafka's names.

They come from `server.properties`, from variables (`HEADWATER_LOG_RETENTION_HOURS` is `log.retention.hours`; two underscores
stand for one) and from `--set key=value`; later ones win. Every value is checked before the start, as Kafka checks it, and
all problems are reported at once. `setting_classes.py` says what each of Kafka's keys does here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from headwater.broker.configs.catalog import (
    INT_MAX,
    ConfigError,
    ConfigType,
    Definition,
    definitions,
    shorten,
)
from headwater.broker.configs.contradictions import contradictions
from headwater.broker.configs.key_urls import TOKEN_SETTINGS
from headwater.broker.configs.setting_classes import (
    LISTENER_SETTINGS,
    reason_without_effect,
    refusal,
)

ENVIRONMENT_PREFIX = "HEADWATER_"
LISTENER_PREFIX = "listener.name."
# Options of other commands.
NOT_SETTINGS = frozenset({"HEADWATER_BOOTSTRAP_SERVER", "HEADWATER_CLIENT_CONFIG", "HEADWATER_PASSWORD"})
UNSET_ID = "-1"  # the default of broker.id


class SettingsError(ValueError):
    """Settings that are unknown or have invalid values. Each of `problems` names one, on one line."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(slots=True)
class Settings:
    """The settings that have their own field. A field's name is Kafka's key with underscores for dots."""

    node_id: int = 1
    listeners: str = "PLAINTEXT://127.0.0.1:9092"
    advertised_listeners: str = ""
    listener_security_protocol_map: str = ""
    sasl_enabled_mechanisms: str = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
    connections_max_reauth_ms: int = 0
    delegation_token_secret_key: str = field(default="", repr=False)
    delegation_token_max_lifetime_ms: int = 604_800_000
    delegation_token_expiry_time_ms: int = 86_400_000
    delegation_token_expiry_check_interval_ms: int = 3_600_000
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
    socket_send_buffer_bytes: int = 512 << 10
    socket_receive_buffer_bytes: int = -1
    socket_listen_backlog_size: int = 1024
    queued_max_request_bytes: int = 256 << 20
    connections_max_idle_ms: int = 600_000
    connection_failed_authentication_delay_ms: int = 100
    max_connections: int = 2_147_483_647
    max_connection_creation_rate: int = 2_147_483_647
    max_connections_per_ip: int = 2_147_483_647
    max_connections_per_ip_overrides: str = ""
    headwater_authentication_timeout_ms: int = 30_000
    headwater_progress_timeout_ms: int = 60_000
    headwater_queued_max_answer_bytes: int = 48 << 20
    message_max_bytes: int = 1_048_588
    fetch_max_bytes: int = 57_671_680
    max_incremental_fetch_session_cache_slots: int = 1000
    max_request_partition_size_limit: int = 2000
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
    group_consumer_assignment_interval_ms: int = 1_000
    group_consumer_min_assignment_interval_ms: int = 0
    group_consumer_max_assignment_interval_ms: int = 15_000
    group_consumer_regex_refresh_interval_ms: int = 600_000
    group_consumer_max_size: int = 2_147_483_647
    group_consumer_assignors: str = "uniform,range"
    group_consumer_migration_policy: str = "bidirectional"
    quota_window_num: int = 11
    quota_window_size_seconds: int = 1
    controller_quota_window_num: int = 11
    controller_quota_window_size_seconds: int = 1
    replication_factor_clamp: bool = False
    headwater_nodes: int = 1
    headwater_durability: str = "journal"
    headwater_journal_file_bytes: int = 128 << 20
    headwater_open_files_max: int = 0
    given: dict[str, str] = field(default_factory=dict, repr=False)  # it may contain secrets

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, str]) -> "Settings":
        """Settings from Kafka's keys. Raises SettingsError with every key that is unknown or has a wrong value."""
        found = problems(pairs)
        if found:
            raise SettingsError(*found.values())
        return cls.parsed(pairs)

    @classmethod
    def parsed(cls, pairs: Mapping[str, str]) -> "Settings":
        """Settings from pairs that `problems` has checked."""
        values: dict[str, Any] = {}
        for key, text in with_synonyms(pairs).items():
            if key in own_defaults():
                value = setting_definition(key).parse(text)
                values[key.replace(".", "_")] = ",".join(value) if isinstance(value, list) else value
        return cls(**values, given={key: text.strip() for key, text in pairs.items()})

    def sasl_mechanisms(self, listener: str = "") -> list[str]:
        """The mechanisms of a listener: its own, or else the general ones."""
        own = self.given.get(f"{LISTENER_PREFIX}{listener.lower()}.sasl.enabled.mechanisms")
        text = self.sasl_enabled_mechanisms if own is None else own
        return [name.strip() for name in text.split(",") if name.strip()]

    def effective_values(self) -> dict[str, str]:
        """The keys that have an effect, with their values as text."""
        return {key: value_text(getattr(self, key.replace(".", "_"))) for key in own_defaults()}


@cache
def own_defaults() -> dict[str, Any]:
    return {f.name.replace("_", "."): f.default for f in fields(Settings) if f.name != "given"}


def whole(name: str, default: int, low: int, high: int = INT_MAX) -> Definition:
    return Definition(name, ConfigType.LONG, str(default), low, high)


# Keys that Kafka's ConfigDefs do not have: Headwater's own, and those of Kafka's authorizer.
OWN_DEFINITIONS = {
    d.name: d
    for d in (
        Definition("super.users", ConfigType.STRING, ""),
        Definition("allow.everyone.if.no.acl.found", ConfigType.BOOLEAN, "false"),
        Definition("replication.factor.clamp", ConfigType.BOOLEAN, "false"),
        Definition("headwater.insecure", ConfigType.BOOLEAN, "false"),
        Definition("headwater.durability", ConfigType.STRING, "journal", values=("journal", "page-cache")),
        Definition("headwater.sasl.oauthbearer.allowed.files", ConfigType.LIST, ""),
        Definition("headwater.sasl.oauthbearer.allowed.urls", ConfigType.LIST, ""),
        Definition("headwater.sasl.oauthbearer.groups.claim.name", ConfigType.STRING, ""),
        whole("headwater.nodes", 1, 1, 1000),
        whole("headwater.journal.file.bytes", 128 << 20, 1 << 16),
        whole("headwater.open.files.max", 0, 0),
        whole("headwater.authentication.timeout.ms", 30_000, 1),
        whole("headwater.progress.timeout.ms", 60_000, 1),
        whole("headwater.queued.max.answer.bytes", 48 << 20, 1 << 20),
    )
}
# The lowest value that works, if it is higher than Kafka's. An interval of 0 would spin.
LOWEST = {
    "node.id": 0,
    "socket.request.max.bytes": 1024,
    "queued.max.request.bytes": 1 << 20,
    "max.connections": 1,
    "max.connection.creation.rate": 1,
    "default.replication.factor": 1,
    "group.max.size": 1,
    "log.cleaner.backoff.ms": 1,
    "log.flush.offset.checkpoint.interval.ms": 1,
    "log.cleaner.dedupe.buffer.size": 1 << 20,
    "log.cleaner.threads": 1,
    "log.roll.ms": 1,
    "log.roll.jitter.ms": 0,
    "sasl.oauthbearer.clock.skew.seconds": 0,
    "sasl.oauthbearer.jwks.endpoint.refresh.ms": 1000,
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": 1,
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms": 1,
}
# Keys, or prefixes of keys, that Kafka 4.0 removed: it has no ZooKeeper, and no older formats and protocols.
REMOVED = (
    "zookeeper.",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "delegation.token.master.key",
    "inter.broker.protocol.version",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "password.encoder.",
    "reserved.broker.max.id",
)
SECRET_ENDINGS = ("password", "secret", "passphrase", "jaas.config")


@cache
def setting_definition(key: str) -> Definition:
    """How a setting is checked. Raises KeyError if neither Kafka nor Headwater knows it."""
    found = OWN_DEFINITIONS.get(key) or definitions("broker")[key]
    if key in own_defaults() and not isinstance(own_defaults()[key], str):
        found = found._replace(default=value_text(own_defaults()[key]))
    return found._replace(low=LOWEST[key]) if key in LOWEST else found


@cache
def broker_keys() -> frozenset[str]:
    """All keys that can be set."""
    return frozenset(definitions("broker")) | frozenset(OWN_DEFINITIONS)


def split_listener_key(key: str) -> tuple[str, str]:
    """(listener, key) of `listener.name.LISTENER.key`; ("", key) for a general key."""
    if not key.startswith(LISTENER_PREFIX):
        return "", key
    name, _, own = key.removeprefix(LISTENER_PREFIX).partition(".")
    return name, own


def is_secret(key: str) -> bool:
    """Whether a setting's value must not be shown, whichever listener it is for."""
    _, own = split_listener_key(key)
    entry = definitions("broker").get(own)
    return (entry is not None and entry.is_sensitive) or own.endswith(SECRET_ENDINGS)


def with_synonyms(pairs: Mapping[str, str]) -> dict[str, str]:
    """The pairs with `broker.id` as `node.id`, and `log.dir` as `log.dirs`; the latter win if both are given."""
    merged = dict(pairs)
    for old, new in (("broker.id", "node.id"), ("log.dir", "log.dirs")):
        if old in merged and new not in merged and merged[old].strip() != UNSET_ID:
            merged[new] = merged[old]
    return merged


def problems(pairs: Mapping[str, str]) -> dict[str, str]:
    """The problem of each key, on one line; empty if there are none."""
    found = {}
    for key, text in pairs.items():
        try:
            check_setting(key, text)
        except (SettingsError, ConfigError) as error:
            found[key] = str(error)
    sound = {key: text for key, text in pairs.items() if key not in found}

    def value(name: str) -> Any:
        definition = setting_definition(name)
        return definition.parse(sound.get(name, definition.default or ""))

    found.update(contradictions(sound, value))
    return found


def check_setting(key: str, text: str) -> None:
    """Raises SettingsError or ConfigError if a key is unknown or not supported, or its value is wrong."""
    listener, own = split_listener_key(key)
    if own not in broker_keys():
        mechanism, _, rest = own.partition(".")
        if listener and mechanism == "oauthbearer" and rest in TOKEN_SETTINGS:
            return check_value(key, rest, text)
        if listener and rest in broker_keys():
            reason = refusal(rest, text, setting_definition(rest))
            raise SettingsError(f"{key}: {reason or f'it cannot be set for a single mechanism ({mechanism})'}")
        if own.startswith(REMOVED):
            raise SettingsError(f"{shorten(key)}: Kafka 4 removed it; leave it out")
        import difflib  # only needed after a mistake

        near = difflib.get_close_matches(key, broker_keys(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown setting {shorten(key)}{hint}")
    if listener and own not in LISTENER_SETTINGS:
        raise SettingsError(
            f"{key}: {own} cannot be set for a single listener; set it for all, without {LISTENER_PREFIX}…"
        )
    check_value(key, own, text)


def check_value(key: str, own: str, text: str) -> None:
    """Raises SettingsError or ConfigError if a value is wrong or refused. `own` is the key without what it is for."""
    setting_definition(own).parse(text)
    reason = refusal(own, text, setting_definition(own))
    if reason is not None:
        raise SettingsError(f"{key}: {reason}")


def without_effect(pairs: Mapping[str, str]) -> dict[str, list[str]]:
    """The keys that are set to something other than Kafka's default and have no effect, by the reason."""
    found: dict[str, list[str]] = {}
    for key, text in pairs.items():
        reason = reason_without_effect(key)
        if reason is not None and not setting_definition(key).is_default(text):
            found.setdefault(reason, []).append(key)
    return found


def value_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def environment_key(name: str) -> str:
    """Turns HEADWATER_NUM_PARTITIONS into `num.partitions`; two underscores stand for one."""
    parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    return "_".join(part.replace("_", ".") for part in parts)


def environment_variable(key: str) -> str:
    """The variable that sets a key."""
    return ENVIRONMENT_PREFIX + key.replace("_", "__").replace(".", "_").upper()


def environment_pairs(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings among environment variables."""
    return {
        environment_key(name): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS
    }


def assignment_pairs(assignments: Iterable[str]) -> dict[str, str]:
    """The settings in `key=value` texts. Raises SettingsError if there is no equals sign."""
    pairs = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{text!r} is not of the form key=value")
        pairs[key.strip()] = value.strip()
    return pairs
