"""Reads client settings as Kafka's own tools do (`--command-config FILE`), and translates them for librdkafka.

Kafka and librdkafka share most names. They differ in how a login and TLS are written:

    sasl.jaas.config=...PlainLoginModule required username="alice" password="secret";   sasl.username, sasl.password
    ssl.truststore.type=PEM, ssl.truststore.location=ca.pem                             ssl.ca.location
    ssl.keystore.type=PEM, ssl.keystore.location=alice.pem (its key and certificates)   ssl.certificate.location, ssl.key.location

librdkafka's names are accepted too. A security setting that cannot be honoured is an error. Any other setting without effect
is named in a warning, so that a file for another tool can be used.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from headwater.cli.errors import CommandError

# Names that both use, with the same meaning.
SHARED = frozenset(
    [
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "client.id",
        "client.rack",
        "compression.type",
        "connections.max.idle.ms",
        "enable.idempotence",
        "fetch.max.bytes",
        "fetch.min.bytes",
        "group.id",
        "group.instance.id",
        "heartbeat.interval.ms",
        "isolation.level",
        "linger.ms",
        "max.poll.interval.ms",
        "metadata.max.age.ms",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "retries",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.mechanism",
        "security.protocol",
        "session.timeout.ms",
        "ssl.key.password",
        "transactional.id",
    ]
)
RENAMED = {
    "delivery.timeout.ms": "message.timeout.ms",
    "max.request.size": "message.max.bytes",
    "send.buffer.bytes": "socket.send.buffer.bytes",
    "receive.buffer.bytes": "socket.receive.buffer.bytes",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
}
LIBRDKAFKAS = frozenset(
    [
        "enable.ssl.certificate.verification",
        "https.ca.location",
        "sasl.mechanisms",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.password",
        "sasl.username",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.key.location",
        "ssl.key.pem",
    ]
)
TRANSLATED = frozenset(
    [
        "sasl.jaas.config",
        "ssl.endpoint.identification.algorithm",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
        "ssl.truststore.location",
        "ssl.truststore.type",
    ]
)
SECURITY = ("security.", "sasl.", "ssl.")
LOGIN_MODULES = (
    "org.apache.kafka.common.security.plain.PlainLoginModule",
    "org.apache.kafka.common.security.scram.ScramLoginModule",
)
JAAS = re.compile(r"\s*([\w.$]+)\s+(required|requisite|sufficient|optional)\s+(.*?);?\s*", re.DOTALL)
JAAS_OPTION = re.compile(r"""\s*([\w.]+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;]+)""")


class ClientConfig(NamedTuple):
    """librdkafka's settings, and the names of given settings that have no effect."""

    settings: dict[str, str]
    without_effect: list[str]


def client_config(given: Mapping[str, str], source: str) -> ClientConfig:
    """Translates Kafka's settings for librdkafka; `source` names where they come from. Raises CommandError."""
    settings: dict[str, str] = {}
    without_effect = []
    for name, value in given.items():
        if name in SHARED or name in LIBRDKAFKAS:
            settings[name] = value
        elif name in RENAMED:
            settings[RENAMED[name]] = value
        elif name in TRANSLATED:
            continue
        elif name.startswith(SECURITY):
            raise CommandError(f"{source}: {name} is not supported")
        else:
            without_effect.append(name)
    settings |= login(given, source) | truststore(given, source) | keystore(given, source)
    if "ssl.endpoint.identification.algorithm" in given:  # in Kafka an empty value means none
        settings["ssl.endpoint.identification.algorithm"] = given["ssl.endpoint.identification.algorithm"] or "none"
    return ClientConfig(settings, sorted(without_effect))


def login(given: Mapping[str, str], source: str) -> dict[str, str]:
    """The user and the password of `sasl.jaas.config`. Raises CommandError, which never shows the password."""
    text = given.get("sasl.jaas.config")
    if text is None:
        return {}
    found = JAAS.fullmatch(text)
    if found is None:
        raise CommandError(f"{source}: sasl.jaas.config is not of the form CLASS required NAME=VALUE...;")
    if found[1] not in LOGIN_MODULES:
        raise CommandError(f"{source}: sasl.jaas.config: {found[1]} is not supported; use PLAIN or SCRAM")
    options, rest = {}, found[3]
    while rest.strip():
        option = JAAS_OPTION.match(rest)
        if option is None:
            raise CommandError(f"{source}: sasl.jaas.config has an option that is not NAME=VALUE")
        quoted = option[2][0] in "\"'"
        options[option[1]] = re.sub(r"\\(.)", r"\1", option[2][1:-1]) if quoted else option[2]
        rest = rest[option.end() :]
    for name in options:
        if name not in ("username", "password"):
            raise CommandError(f"{source}: sasl.jaas.config: {name} is not supported")
    for name in ("username", "password"):
        if not options.get(name):
            raise CommandError(f"{source}: sasl.jaas.config has no {name}")
    return {"sasl.username": options["username"], "sasl.password": options["password"]}


def store_type(given: Mapping[str, str], store: str, source: str, possible: tuple[str, ...]) -> str:
    """The type of a key or trust store. Raises CommandError if librdkafka cannot read it."""
    kind = given.get(f"{store}.type", "JKS").upper()  # Kafka's default
    if kind not in possible:
        raise CommandError(
            f"{source}: {store}.location is of type {kind}; convert it to PEM, and set {store}.type=PEM:"
            f" keytool -importkeystore, then openssl pkcs12"
        )
    return kind


def truststore(given: Mapping[str, str], source: str) -> dict[str, str]:
    location = given.get("ssl.truststore.location")
    if location is None:
        return {}
    store_type(given, "ssl.truststore", source, ("PEM",))
    return {"ssl.ca.location": location}


def keystore(given: Mapping[str, str], source: str) -> dict[str, str]:
    location, password = given.get("ssl.keystore.location"), given.get("ssl.keystore.password")
    if location is None:
        return {}
    if store_type(given, "ssl.keystore", source, ("PEM", "PKCS12")) == "PEM":
        return {"ssl.certificate.location": location, "ssl.key.location": location}
    return {"ssl.keystore.location": location, **({"ssl.keystore.password": password} if password else {})}
