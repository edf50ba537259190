"""Settings that are valid by themselves but contradict each other, and checks that Kafka makes beyond its ConfigDefs.

Each check returns the key and the reason, on one line.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from headwater.broker.configs.address_limits import OVERRIDES, read_overrides
from headwater.broker.configs.catalog import ConfigError, definitions, shorten
from headwater.broker.configs.key_urls import ALLOWED_FILES, ALLOWED_URLS, URL, key_url_problem
from headwater.broker.configs.setting_classes import AUTHORIZERS

Problems: TypeAlias = Iterator[tuple[str, str]]
Value: TypeAlias = Callable[[str], Any]

# Pairs in which the first must not be greater than the second.
ORDERED = (
    ("group.min.session.timeout.ms", "group.max.session.timeout.ms"),
    ("socket.request.max.bytes", "queued.max.request.bytes"),
    *(
        (f"group.{kind}.{first}{what}", f"group.{kind}.{second}{what}")
        for kind in ("consumer", "share", "streams")
        for what in ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms")
        for first, second in (("min.", ""), ("", "max."))
    ),
)
RETENTION_KEYS = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
FLUSH_KEYS = ("log.flush.interval.messages", "log.flush.interval.ms")
ASSIGNORS = {"uniform", "range"}


def contradictions(pairs: Mapping[str, str], value: Value) -> dict[str, str]:
    """The problems, by key. `value` returns the value of any setting, even if it was not set."""
    checks = (ranges, times, identity, storage, names, principals, addresses, key_urls)
    return {key: f"{key}: {reason}" for check in checks for key, reason in check(pairs, value)}


def ranges(pairs: Mapping[str, str], value: Value) -> Problems:
    for lesser, greater in ORDERED:
        if (lesser in pairs or greater in pairs) and value(lesser) > value(greater):
            key = lesser if lesser in pairs else greater
            yield key, f"{lesser} ({value(lesser)}) must not be greater than {greater} ({value(greater)})"


def times(pairs: Mapping[str, str], value: Value) -> Problems:
    for key in RETENTION_KEYS:
        if key in pairs and value(key) == 0:
            yield key, "it must be -1 (no limit) or at least 1, not 0"
    idle_ms, delay_ms = value("connections.max.idle.ms"), value("connection.failed.authentication.delay.ms")
    if 0 <= idle_ms <= delay_ms:
        yield (
            "connections.max.idle.ms",
            f"it ({idle_ms}) must be greater than connection.failed.authentication.delay.ms ({delay_ms}), "
            "or negative for no limit",
        )


def identity(pairs: Mapping[str, str], value: Value) -> Problems:
    broker_id = value("broker.id")
    if broker_id < -1:
        yield "broker.id", f"it must be at least 0, or -1 for none, not {broker_id}"
    elif broker_id >= 0 and "node.id" in pairs and broker_id != value("node.id"):
        yield "broker.id", f"it must be the same as node.id ({value('node.id')}), which replaces it"


def storage(pairs: Mapping[str, str], value: Value) -> Problems:
    for key in ("log.dirs", "log.dir"):
        if key in pairs and len(value(key)) > 1:
            yield key, f"only one directory is supported, not {len(value(key))}"
    if value("headwater.durability") == "page-cache":
        for key in FLUSH_KEYS:
            if key in pairs and not definitions("broker")[key].is_default(pairs[key]):
                yield key, "it is not supported with headwater.durability=page-cache; the journal syncs every write"


def names(pairs: Mapping[str, str], value: Value) -> Problems:
    authorizer, assignors = value("authorizer.class.name"), value("group.consumer.assignors")
    if authorizer not in AUTHORIZERS:
        yield "authorizer.class.name", f"only Kafka's own is supported ({AUTHORIZERS[1]}), not {shorten(authorizer)}"
    if not set(assignors) <= ASSIGNORS:
        yield "group.consumer.assignors", f"it must be uniform, range or both, not {shorten(','.join(assignors))}"


def principals(pairs: Mapping[str, str], value: Value) -> Problems:
    """Checks principals. A typing error there would leave a broker without its super user."""
    for text in (part.strip() for part in value("super.users").split(";")):
        kind, colon, name = text.partition(":")
        if text and not (kind and colon and name):
            yield "super.users", f"{shorten(text)} is not of the form User:NAME; several are separated by semicolons"
        elif ",User:" in name.replace(" ", ""):
            yield "super.users", f"{shorten(text)} would be a single name; separate several by semicolons"


def addresses(pairs: Mapping[str, str], value: Value) -> Problems:
    key = "max.connections.per.ip"
    try:
        read_overrides(value(OVERRIDES))
    except ConfigError as error:
        yield OVERRIDES, str(error).removeprefix(f"{OVERRIDES}: ")
    else:
        if not value(key) and not value(OVERRIDES):
            yield key, f"it can be 0 only if {OVERRIDES} is set"


def key_urls(pairs: Mapping[str, str], value: Value) -> Problems:
    for key, text in pairs.items():
        if key.endswith(URL) and text.strip():
            problem = key_url_problem(
                text.strip(), value(ALLOWED_FILES), value(ALLOWED_URLS), is_insecure=value("headwater.insecure")
            )
            if problem is not None:
                yield key, problem
