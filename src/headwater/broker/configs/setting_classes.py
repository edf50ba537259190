"""What each of Kafka's settings does in Headwater: settings of brokers, topics and groups. Each is in exactly one of three classes.

Honoured: it does what it does in Kafka. Without effect: it is accepted and described, and logged at the start; the reason
says why nothing is lost. Refused: the broker does not start with it, because ignoring it would be a surprise for security or
durability. A value that changes nothing is never refused.

`docs/reference/settings.md` has these tables too; a test compares them, and checks all keys of Kafka 4.4.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from headwater.broker.configs.catalog import Definition
from headwater.broker.configs.key_urls import TOKEN_SETTINGS

AUTHORIZERS = (
    "",
    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "kafka.security.authorizer.AclAuthorizer",
)
# Settings that may also be set for a single listener, as `listener.name.NAME.key`.
LISTENER_SETTINGS = frozenset(
    {
        "max.connection.creation.rate",
        "max.connections",
        "sasl.enabled.mechanisms",
        "ssl.cipher.suites",
        "ssl.client.auth",
        "ssl.enabled.protocols",
        "ssl.key.password",
        "ssl.keystore.location",
        "ssl.keystore.type",
        "ssl.principal.mapping.rules",
        "ssl.truststore.location",
        "ssl.truststore.type",
        *TOKEN_SETTINGS,
    }
)
# Honoured settings that have no field in Settings: fields with other names, and defaults of topics.
HONOURED = LISTENER_SETTINGS | {
    "broker.id",
    "controller.listener.names",
    "headwater.sasl.oauthbearer.allowed.files",
    "headwater.sasl.oauthbearer.allowed.urls",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.dir",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.jitter.hours",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
}
# By reason: keys, or prefixes of keys, which end with a dot.
WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "there is one broker: nothing is replicated, elected or moved": (
        "add.partitions.to.txn.retry.",
        "alter.log.dirs.replication.quota.",
        "auto.leader.rebalance.enable",
        "broker.heartbeat.interval.ms",
        "broker.session.timeout.ms",
        "controlled.shutdown.enable",
        "controller.performance.",
        "controller.quorum.",
        "controller.socket.timeout.ms",
        "early.start.listeners",
        "initial.broker.registration.timeout.ms",
        "inter.broker.listener.name",
        "internal.metadata.",
        "leader.imbalance.check.interval.seconds",
        "log.dir.failure.timeout.ms",
        "metadata.log.max.",
        "metadata.log.segment.",
        "metadata.max.",
        "min.insync.replicas",
        "num.replica.",
        "offsets.topic.replication.factor",
        "replica.fetch.",
        "replica.high.watermark.checkpoint.interval.ms",
        "replica.lag.time.max.ms",
        "replica.socket.",
        "replication.quota.",
        "request.timeout.ms",
        "sasl.mechanism.controller.protocol",
        "sasl.mechanism.inter.broker.protocol",
        "security.inter.broker.protocol",
        "server.max.startup.time.ms",
        "socket.connection.setup.timeout.",
        "ssl.endpoint.identification.algorithm",
        "transaction.state.log.min.isr",
        "transaction.state.log.replication.factor",
        "unclean.leader.election.",
    ),
    "one thread serves all requests, and memory is bounded by queued.max.request.bytes": (
        "background.threads",
        "delete.records.purgatory.purge.interval.requests",
        "fetch.purgatory.purge.interval.requests",
        "group.consumer.assignor.offload.enable",
        "group.coordinator.append.linger.ms",
        "group.coordinator.background.threads",
        "group.coordinator.cached.buffer.max.bytes",
        "group.coordinator.threads",
        "num.io.threads",
        "num.network.threads",
        "num.recovery.threads.per.data.dir",
        "offsets.commit.timeout.ms",
        "offsets.load.buffer.size",
        "producer.purgatory.purge.interval.requests",
        "queued.max.requests",
        "transaction.state.log.load.buffer.size",
    ),
    "one process compacts one log at a time, at low priority": (
        "log.cleaner.io.",
        "log.cleaner.threads",
    ),
    "the journal syncs every write before it is acknowledged": (
        "log.flush.interval.messages",
        "log.flush.interval.ms",
        "log.flush.scheduler.interval.ms",
        "log.flush.start.offset.checkpoint.interval.ms",
    ),
    "files grow as they are written, roll on time and are removed at once": (
        "log.initial.task.delay.ms",
        "log.preallocate",
        "log.segment.delete.delay.ms",
    ),
    "the records of groups are not compressed": ("offsets.topic.compression.codec",),
    "there are no share groups and no streams groups": (
        "errors.deadletterqueue.",
        "group.share.",
        "group.streams.",
        "share.coordinator.",
        "share.fetch.",
    ),
    "there is no tiered storage": (
        "follower.fetch.last.tiered.offset.enable",
        "log.local.retention.",
        "log.remote.copy.lag.",
        "remote.fetch.",
        "remote.list.",
        "remote.log.index.",
        "remote.log.manager.",
        "remote.log.metadata.",
        "remote.log.reader.",
        "remote.log.storage.manager.",
    ),
    "metrics are Prometheus's (--metrics); clients' telemetry is not offered": (
        "kafka.metrics.polling.interval.secs",
        "metrics.",
        "telemetry.max.bytes",
    ),
    "the broker does not log in to other servers": (
        "sasl.kerberos.min.time.before.relogin",
        "sasl.kerberos.ticket.renew.",
        "sasl.login.connect.timeout.ms",
        "sasl.login.read.timeout.ms",
        "sasl.login.refresh.",
        "sasl.login.retry.",
    ),
    "a certificate that changes on disk may have another subject": (
        "ssl.allow.dn.changes",
        "ssl.allow.san.changes",
    ),
    "partitions are always verified": ("transaction.partition.verification.enable",),
}


def items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


class Refusal(NamedTuple):
    """Keys that are refused, or prefixes of keys, which end with a dot. `allows` tells which values are accepted nevertheless."""

    reason: str
    keys: tuple[str, ...]
    allows: Callable[[str], bool] = lambda text: False


REFUSED = (
    Refusal(
        "no Java class can be loaded here; leave it out",
        (
            "alter.config.policy.class.name",
            "client.quota.callback.class",
            "create.topic.policy.class.name",
            "kafka.metrics.reporters",
            "metric.reporters",
            "principal.builder.class",
            "replica.selector.class",
            "sasl.client.callback.handler.class",
            "sasl.server.callback.handler.class",
            "security.providers",
            "ssl.engine.factory.class",
            "ssl.keymanager.algorithm",
            "ssl.provider",
            "ssl.secure.random.implementation",
            "ssl.trustmanager.algorithm",
        ),
    ),
    Refusal("values are not fetched from elsewhere; use variables or a separate file", ("config.providers",)),
    Refusal(
        "users are kept in the broker, not in a JAAS configuration; `headwater user create NAME` makes one",
        ("sasl.jaas.config",),
    ),
    Refusal(
        "PLAIN, SCRAM and OAUTHBEARER are served, without Kerberos and classes of one's own",
        (
            "sasl.kerberos.kinit.cmd",
            "sasl.kerberos.principal.to.local.rules",
            "sasl.kerberos.service.name",
            "sasl.login.callback.handler.class",
            "sasl.login.class",
            "sasl.oauthbearer.jwt.validator.class",
        ),
    ),
    Refusal(
        "a token is only accepted from the issuer and for the audience that are set",
        ("sasl.oauthbearer.allow.unverified.audience", "sasl.oauthbearer.allow.unverified.issuer"),
    ),
    Refusal(
        "the broker does not log in to other servers; leave it out",
        (
            "sasl.oauthbearer.assertion.",
            "sasl.oauthbearer.client.credentials.",
            "sasl.oauthbearer.jwt.retriever.class",
            "sasl.oauthbearer.scope",
            "sasl.oauthbearer.token.endpoint.url",
        ),
    ),
    Refusal(
        "a certificate and its key come from PEM files: ssl.keystore.location and ssl.truststore.location",
        ("ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.truststore.certificates"),
    ),
    Refusal(
        "a PEM file has no password of its own; the key's password is ssl.key.password",
        ("ssl.keystore.password", "ssl.truststore.password"),
    ),
    Refusal(
        "the TLS versions are set by ssl.enabled.protocols",
        ("ssl.protocol",),
        lambda text: text.strip() in ("TLS", "TLSv1.2"),
    ),
    Refusal("there is no tiered storage", ("remote.log.storage.system.enable",)),
    Refusal("two-phase commit is not served", ("transaction.two.phase.commit.enable",)),
    Refusal("no unstable version is served", ("unstable.api.versions.enable", "unstable.feature.versions.enable")),
    Refusal("metadata are stored in log.dirs", ("metadata.log.dir",)),
    Refusal("there is one directory, which cannot be cordoned", ("cordoned.log.dirs",)),
    Refusal("this process is both broker and controller", ("process.roles",), lambda text: "broker" in items(text)),
    Refusal(
        "classic groups and those of KIP-848 are always served",
        ("group.coordinator.rebalance.protocols",),
        lambda text: {"classic", "consumer"} <= set(items(text)),
    ),
    Refusal(
        "a frame before the login is limited to 64 KiB, which cannot be changed",
        ("sasl.server.max.receive.size",),
        lambda text: int(text) >= 64 << 10,
    ),
    Refusal(
        "max.message.bytes limits what a batch decompresses to; there is no limit for one record",
        ("max.decompressed.message.bytes",),
    ),
)


# The same for the configurations of topics and of groups. Those without effect are kept and described.
TOPIC_HONOURED = frozenset(
    {
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "index.interval.bytes",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
    }
)
TOPIC_WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "there is one broker: nothing is replicated or elected": (
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "min.insync.replicas",
        "unclean.leader.election.enable",
    ),
    "the journal syncs every write before it is acknowledged; refused without it (headwater.durability=page-cache)": (
        "flush.messages",
        "flush.ms",
    ),
    "files grow as they are written, roll on time and are removed at once": (
        "file.delete.delay.ms",
        "preallocate",
    ),
    "there is no tiered storage": ("local.retention.", "remote.copy.lag.", "remote.log."),
    "there are no share groups": ("errors.deadletterqueue.",),
}
TOPIC_REFUSED: dict[str, tuple[str, ...]] = {
    "there is no tiered storage": ("remote.storage.enable",),
    "max.message.bytes limits what a batch decompresses to; there is no limit for one record": (
        "max.decompressed.message.bytes",
    ),
}
GROUP_HONOURED = frozenset(
    {"consumer.assignment.interval.ms", "consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"}
)
GROUP_WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "one thread serves all requests": ("consumer.assignor.offload.enable",),
    "there are no share groups and no streams groups": ("errors.deadletterqueue.", "share.", "streams."),
}


class SettingClass(Enum):
    """What happens to a setting."""

    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


def matches(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == each or (each.endswith(".") and key.startswith(each)) for each in keys)


def reason_without_effect(key: str) -> str | None:
    return next((reason for reason, keys in WITHOUT_EFFECT.items() if matches(key, keys)), None)


def refusal(key: str, text: str, definition: Definition) -> str | None:
    """Why a valid value is refused; None if it is not, or if it changes nothing."""
    found = next((each for each in REFUSED if matches(key, each.keys)), None)
    if found is None or not text.strip() or definition.is_default(text) or found.allows(text):
        return None
    return found.reason


def classes_of(key: str, own_keys: frozenset[str]) -> list[SettingClass]:
    """The classes of one of Kafka's keys. `own_keys` are those that have a field. A test requires exactly one class."""
    found = []
    if key in own_keys or key in HONOURED:
        found.append(SettingClass.HONOURED)
    if reason_without_effect(key) is not None:
        found.append(SettingClass.WITHOUT_EFFECT)
    found += [SettingClass.REFUSED for each in REFUSED if matches(key, each.keys)]
    return found


def config_classes_of(scope: str, key: str) -> list[SettingClass]:
    """The classes of a topic's or a group's configuration. A test requires exactly one class."""
    is_topic = scope == "topic"
    tables = (
        (SettingClass.HONOURED, {"": tuple(TOPIC_HONOURED if is_topic else GROUP_HONOURED)}),
        (SettingClass.WITHOUT_EFFECT, TOPIC_WITHOUT_EFFECT if is_topic else GROUP_WITHOUT_EFFECT),
        (SettingClass.REFUSED, TOPIC_REFUSED if is_topic else {}),
    )
    return [kind for kind, table in tables for keys in table.values() if matches(key, keys)]
