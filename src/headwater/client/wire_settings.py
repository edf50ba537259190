"""The settings of a wire client, read from librdkafka's: one set of names for every client of a broker.

Of librdkafka's settings those that say where the broker is and how to log in are for this client too. One of them that
cannot be honoured here (Kerberos, a PKCS 12 file, OAUTHBEARER without a token server) is an error, not ignored. The others are for librdkafka.
"""

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headwater.client.connections import ADDRESS, BrokerLike, Settings, address_of
from headwater.client.errors import AuthenticationError, ConfigurationError
from headwater.client.names import check_settings
from headwater.security.sasl import MECHANISMS, OAUTHBEARER

if TYPE_CHECKING:
    from headwater.client.token_source import TokenSource

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
HONOURED = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
    }
)
DEFAULT_PORT = 9092


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Login(NamedTuple):
    """Who logs in, and how. For OAUTHBEARER the password is a token, or `token_source` has one when it is needed."""

    mechanism: str
    user: str
    password: str
    token_source: "TokenSource | None" = None


class WireSettings(NamedTuple):
    """Where to connect and how. Without `tls` the connection is in the clear, without `login` there is none."""

    addresses: tuple[Address, ...]
    client_id: str = "headwater"
    tls: ssl.SSLContext | None = None
    login: Login | None = None


def parsed_address(text: str) -> Address:
    """An address that `address_of` has checked."""
    found = ADDRESS.fullmatch(text.strip())
    assert found is not None, text
    return Address(found[2].strip("[]"), int(found["port"] or DEFAULT_PORT))


def wire_settings(broker: BrokerLike, settings: Settings | None = None) -> WireSettings:
    """Raises ConfigurationError, and AuthenticationError for certificates that cannot be used."""
    found = dict(settings or {})
    check_settings(found)
    addresses = address_of(found.get("bootstrap.servers", broker))
    protocol = str(found.get("security.protocol", "PLAINTEXT")).upper()
    if protocol not in PROTOCOLS:
        raise ConfigurationError(f"security.protocol is {protocol!r}; it is one of {', '.join(PROTOCOLS)}")
    secured = ("sasl.",) * protocol.startswith("SASL") + ("ssl.",) * protocol.endswith("SSL")
    for name in found:
        if secured and name.startswith(secured) and name not in HONOURED:
            raise ConfigurationError(f"{name} is not possible here; of sasl.* and ssl.*: {', '.join(sorted(HONOURED))}")
    return WireSettings(
        tuple(map(parsed_address, addresses.split(","))),
        str(found.get("client.id", "headwater")),
        tls_context(found) if protocol.endswith("SSL") else None,
        login_of(found) if protocol.startswith("SASL") else None,
    )


def login_of(settings: Mapping[str, Any]) -> Login:
    # librdkafka's default is GSSAPI, which is not possible here: a mechanism has to be given.
    mechanism = str(settings.get("sasl.mechanism", settings.get("sasl.mechanisms", "GSSAPI")))
    if mechanism not in MECHANISMS:
        raise ConfigurationError(f"sasl.mechanism is {mechanism}; it is one of {', '.join(MECHANISMS)} here")
    if mechanism == OAUTHBEARER:
        return Login(mechanism, "", "", token_source(settings))
    login = Login(mechanism, str(settings.get("sasl.username", "")), str(settings.get("sasl.password", "")))
    if not login.user or not login.password:
        raise ConfigurationError(f"{mechanism} needs sasl.username and sasl.password")
    return login


def token_source(settings: Mapping[str, Any]) -> "TokenSource":
    """Where to get tokens. Raises ConfigurationError."""
    from headwater.client.token_source import ClientCredentials, TokenSource

    prefix = "sasl.oauthbearer."
    method = str(settings.get(f"{prefix}method", "default")).lower()
    if method != "oidc":
        raise ConfigurationError(f"{OAUTHBEARER} needs {prefix}method=oidc here, with a token server; it is {method}")
    url, client_id, secret, scope = (
        str(settings.get(prefix + name, "")) for name in ("token.endpoint.url", "client.id", "client.secret", "scope")
    )
    if not url or not client_id or not secret:
        raise ConfigurationError(
            f"{OAUTHBEARER} needs {prefix}token.endpoint.url, {prefix}client.id and {prefix}client.secret"
        )
    if not url.startswith(("https://", "http://")):
        raise ConfigurationError(f"{prefix}token.endpoint.url must begin with https:// or http://")
    authorities = str(settings.get("https.ca.location", ""))
    authorities = "" if authorities == "probe" else authorities
    return TokenSource(ClientCredentials(url, client_id, secret, scope, authorities))


def is_true(settings: Mapping[str, Any], name: str) -> bool:
    return str(settings.get(name, True)).lower() in ("true", "1")


def tls_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    authorities, certificate, key = (
        settings.get(name) for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
    )
    try:
        # An empty location, and librdkafka's "probe", mean the system's authorities.
        location = None if authorities in (None, "", "probe") else str(authorities)
        context = ssl.create_default_context(cafile=location, cadata=settings.get("ssl.ca.pem") or None)
        if certificate:
            password = str(settings.get("ssl.key.password", ""))
            context.load_cert_chain(str(certificate), None if not key else str(key), lambda: password)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(str(name) for name in (authorities, certificate, key) if name) or "ssl.ca.pem"
        raise AuthenticationError(f"{names} cannot be used: {error.strerror or error}") from error
    algorithm = str(settings.get("ssl.endpoint.identification.algorithm", "https")).lower()
    if algorithm not in ("https", "none", ""):
        raise ConfigurationError(f"ssl.endpoint.identification.algorithm is {algorithm!r}; it is https or none")
    context.check_hostname = algorithm == "https"
    if not is_true(settings, "enable.ssl.certificate.verification"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
