"""Where clients connect, and which addresses they get: `listeners` and the settings that belong to it, as Kafka reads them.

A listener has a name, an address and a security protocol: PLAINTEXT, SSL (TLS, with client certificates if wanted),
SASL_PLAINTEXT or SASL_SSL. An address beyond the loopback is refused unless it has TLS and a way to identify clients, or
`headwater.insecure` allows it.
"""

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from headwater.broker.cluster import PROTOCOLS, Endpoint
from headwater.broker.configs.catalog import shorten
from headwater.broker.configs.settings import Settings, SettingsError, problems, split_listener_key
from headwater.security.cipher_suites import VERSIONS
from headwater.security.sasl import MECHANISMS, OAUTHBEARER
from headwater.security.tls import TlsError, TlsFiles, mapping_rules

Made = TypeVar("Made")


class ListenError(RuntimeError):
    """The address cannot be listened on. The message says why."""


class Listener(NamedTuple):
    """One of `listeners`. `advertised` is None if clients get the address itself."""

    name: str
    protocol: str
    host: str
    port: int
    advertised: tuple[str, int] | None
    tls: TlsFiles | None
    principal_of: Callable[[str], str]

    def endpoint(self, node_id: int) -> Endpoint:
        return Endpoint(self.name, self.protocol, node_id)


def read_configuration(pairs: Mapping[str, str]) -> tuple[Settings, list[Listener]]:
    """Reads settings and listeners. Raises SettingsError with all problems of both."""
    found = problems(pairs)
    settings = Settings.parsed({key: text for key, text in pairs.items() if key not in found})
    listeners, others = examine_listeners(settings)
    of_listeners = {"listeners", "advertised.listeners", "listener.security.protocol.map"} & set(found)
    # A setting whose value is wrong counts as missing for its listener, which need not be said as well.
    others = [problem for problem in others if not any(key.endswith(problem.partition(":")[0]) for key in found)]
    if found or others:
        raise SettingsError(*found.values(), *([] if of_listeners else others))
    return settings, listeners


def read_listeners(settings: Settings) -> list[Listener]:
    """Reads the listeners. Raises SettingsError with all their problems."""
    listeners, found = examine_listeners(settings)
    if found:
        raise SettingsError(*found)
    return listeners


def examine_listeners(settings: Settings) -> tuple[list[Listener], list[str]]:
    """The listeners that can be served, and all problems of these and the others, one line each."""
    try:
        protocols = protocol_map(settings.listener_security_protocol_map)
        addresses = split_addresses(settings.listeners, "listeners")
        advertised = split_addresses(settings.advertised_listeners, "advertised.listeners")
    except SettingsError as error:
        return [], list(error.problems)
    of_controller = controller_names(settings)
    names = [name for name, _, _ in addresses if name not in of_controller]
    told = {name: (host, port) for name, host, port in advertised if name not in of_controller}
    listeners: list[Listener] = []
    found: list[str] = []
    for name, host, port in addresses:
        if name in of_controller:
            continue
        try:
            listeners.append(read_listener(settings, (name, host, port), protocols.get(name), told.get(name)))
        except SettingsError as error:
            found += error.problems
    if not names:
        found.append("listeners: at least one must be for clients")
    if len(set(names)) != len(names):
        found.append("listeners: each must have a unique name")
    unknown = [name for name in told if name not in names]
    if unknown:
        found.append(f"advertised.listeners: {', '.join(unknown)} is not among listeners")
    return listeners, found + strangers(settings, {*names, *of_controller})


def strangers(settings: Settings, names: set[str]) -> list[str]:
    """Settings for listeners that do not exist. A typing error there could leave a listener open."""
    known = {name.lower() for name in names}
    return [
        f"{key}: {listener} is not among listeners"
        for key in settings.given
        if (listener := split_listener_key(key)[0]) and listener not in known
    ]


def controller_names(settings: Settings) -> set[str]:
    """The listeners that only a cluster's controllers use. Headwater does not listen on them."""
    named = settings.given.get("controller.listener.names", "CONTROLLER")
    return {name.strip().upper() for name in named.split(",")}


def read_listener(
    settings: Settings, address: tuple[str, str, int], protocol: str | None, told: tuple[str, int] | None
) -> Listener:
    """Reads one listener. Raises SettingsError."""
    name, host, port = address
    if protocol not in PROTOCOLS:
        raise SettingsError(
            f"listeners: {name} has no security protocol; listener.security.protocol.map must give it one of "
            f"{', '.join(PROTOCOLS)}"
        )
    given = listener_settings(name, settings.given)
    found: list[str] = []

    def attempt(make: Callable[[], Made]) -> Made | None:
        try:
            return make()
        except SettingsError as error:
            found.extend(error.problems)
        except TlsError as error:
            found.append(f"listener {name}: {error}")
        return None

    attempt(lambda: check_addresses(name, host, told))
    attempt(lambda: check_exposure(settings, name, protocol, host, given))
    attempt(lambda: check_mechanisms(settings, name, protocol))
    tls = attempt(lambda: read_tls(name, given)) if protocol.endswith("SSL") else None
    rules = attempt(lambda: mapping_rules(given.get("ssl.principal.mapping.rules", "DEFAULT")))
    if found or rules is None:
        raise SettingsError(*found)
    return Listener(name, protocol, host or "0.0.0.0", port, told, tls, rules)


def check_addresses(name: str, host: str, told: tuple[str, int] | None) -> None:
    """Raises SettingsError for an advertised address that clients cannot reach."""
    if told is None and is_wildcard(host):
        raise SettingsError(
            f"listener {name} on all addresses ({host or '*'}) needs --advertise HOST:PORT, which clients can reach"
        )
    if told is not None and is_wildcard(told[0]):
        raise SettingsError(
            f"advertised.listeners: {name} needs an address that clients can reach, not {told[0] or 'none'}"
        )


def check_mechanisms(settings: Settings, name: str, protocol: str) -> None:
    """Raises SettingsError for mechanisms that are not supported, or if there are none although clients must log in."""
    mechanisms = settings.sasl_mechanisms(name)
    for mechanism in mechanisms:
        if mechanism not in MECHANISMS:
            raise SettingsError(
                f"sasl.enabled.mechanisms of listener {name}: {shorten(mechanism)} is not supported; "
                f"use {', '.join(MECHANISMS)}"
            )
    if protocol.startswith("SASL") and OAUTHBEARER in mechanisms:
        check_tokens(settings, name)
    if protocol.startswith("SASL") and not mechanisms:
        raise SettingsError(f"sasl.enabled.mechanisms of listener {name}: without a mechanism nobody could log in")


def check_tokens(settings: Settings, name: str) -> None:
    """Raises SettingsError if tokens cannot be checked. A key set in a file is read; one at a URL is fetched after the start."""
    from headwater.broker.configs.key_urls import URL
    from headwater.broker.configs.token_settings import token_settings
    from headwater.effects.fetch import FetchError, fetch
    from headwater.security.key_sets import KEY_SET_BYTES_MAX, MISSING, KeySetError, is_installed, read_key_set

    url = token_settings(settings, name).url
    if not is_installed():
        raise SettingsError(f"sasl.enabled.mechanisms of listener {name}: {MISSING}")
    if url.startswith("file:"):
        try:
            read_key_set(fetch(url, KEY_SET_BYTES_MAX))
        except (FetchError, KeySetError) as error:
            raise SettingsError(f"{URL}: listener {name}: {url}: {error}") from error


def protocol_map(text: str) -> dict[str, str]:
    protocols = {name: name for name in PROTOCOLS}
    for part in (part.strip() for part in text.split(",")):
        name, colon, protocol = part.partition(":")
        if part and not colon:
            raise SettingsError(f"listener.security.protocol.map: {part!r} is not of the form NAME:PROTOCOL")
        if part:
            protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols


def split_addresses(text: str, what: str) -> list[tuple[str, str, int]]:
    """(name, host, port) of each `NAME://host:port`; the default name is PLAINTEXT. Raises SettingsError."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        if part:
            name, separator, rest = part.rpartition("://")
            found.append((name.upper() if separator else "PLAINTEXT", *host_and_port(rest, what)))
    return found


def host_and_port(text: str, what: str) -> tuple[str, int]:
    """Splits `host:port`. Raises SettingsError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{what}: {text!r} is not of the form HOST:PORT")
    return host.strip("[]"), int(port)


def listener_settings(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """The settings given for all listeners, overridden by those for this one (`listener.name.NAME.…`)."""
    prefix = f"listener.name.{name.lower()}."
    own = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    return {**given, **own}


def read_tls(name: str, given: Mapping[str, str]) -> TlsFiles:
    """The certificates of a listener. Raises SettingsError and TlsError."""
    for key in ("ssl.keystore.type", "ssl.truststore.type"):
        if given.get(key, "PEM").upper() != "PEM":
            raise SettingsError(
                f"listener {name}: {key} must be PEM; `openssl pkcs12 -in STORE -out FILE.pem -noenc` makes one"
            )
    location = given.get("ssl.keystore.location")
    if location is None:
        raise SettingsError(
            f"listener {name} needs ssl.keystore.location, a PEM file with its certificate chain and private key"
        )
    client_auth = given.get("ssl.client.auth", "none").lower()
    authorities = given.get("ssl.truststore.location")
    if client_auth != "none" and authorities is None:
        raise SettingsError(
            f"listener {name}: ssl.client.auth needs ssl.truststore.location, a PEM file with the trusted authorities"
        )
    versions = split_items(given.get("ssl.enabled.protocols", "")) or tuple(VERSIONS)
    suites = split_items(given.get("ssl.cipher.suites", ""))
    return TlsFiles(
        location, None, given.get("ssl.key.password"), authorities, client_auth, versions=versions, suites=suites
    )


def split_items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def check_exposure(settings: Settings, name: str, protocol: str, host: str, given: Mapping[str, str]) -> None:
    """Raises SettingsError for an address beyond the loopback, unless it is encrypted and clients must log in."""
    has_mutual_tls = protocol == "SSL" and given.get("ssl.client.auth", "").lower() == "required"
    if settings.headwater_insecure or is_loopback(host) or protocol == "SASL_SSL" or has_mutual_tls:
        return
    raise SettingsError(
        f"listener {name} on {host or 'all addresses'} would be open to anyone who can reach it: use SASL_SSL, or SSL with "
        "ssl.client.auth=required, or a loopback address, or allow it with --insecure"
    )


def is_wildcard(host: str) -> bool:
    """Whether it stands for all addresses of the machine."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
