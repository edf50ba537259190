"""Where clients connect, and what they are told to connect to: `listeners` and what belongs to them, as Kafka reads it.

A listener has a name, an address and a security protocol: PLAINTEXT, SSL (TLS, with client certificates if wanted),
SASL_PLAINTEXT or SASL_SSL. An address other than the loopback is refused without TLS and a way to tell who clients are,
unless that is asked for (`headwater.insecure`).
"""

import errno
import ipaddress
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from headwater.broker.cluster import PROTOCOLS, Endpoint
from headwater.broker.settings import Settings, SettingsError
from headwater.security.sasl import MECHANISMS
from headwater.security.tls import CLIENT_AUTH, TlsError, TlsFiles, mapping_rules

if TYPE_CHECKING:
    from headwater.broker.server import Server

WILDCARDS = ("", "0.0.0.0", "::", "[::]")


class ListenError(RuntimeError):
    """The address cannot be listened on; the message says why."""


class Listener(NamedTuple):
    """One of `listeners`; `advertised` is None where clients are told the address itself."""

    name: str
    protocol: str
    host: str
    port: int
    advertised: tuple[str, int] | None
    tls: TlsFiles | None
    principal_of: Callable[[str], str]

    def endpoint(self, node_id: int) -> Endpoint:
        return Endpoint(self.name, self.protocol, node_id)


def read_listeners(settings: Settings) -> list[Listener]:
    """Raises SettingsError."""
    check_mechanisms(settings)
    protocols = protocol_map(settings.listener_security_protocol_map)
    told_addresses = split_addresses(settings.advertised_listeners, "advertised.listeners")
    advertised = {name: (host, port) for name, host, port in told_addresses}
    listeners = []
    for name, host, port in split_addresses(settings.listeners, "listeners"):
        if name.startswith("CONTROLLER"):
            continue
        protocol = protocols.get(name)
        if protocol not in PROTOCOLS:
            raise SettingsError(
                f"listeners: {name} has no security protocol; listener.security.protocol.map must give it one of "
                f"{', '.join(PROTOCOLS)}"
            )
        told = advertised.pop(name, None)
        given = listener_settings(name, settings.given)
        tls = read_tls(name, given) if protocol.endswith("SSL") else None
        if told is None and host in WILDCARDS:
            raise SettingsError(
                f"listening on all addresses ({host or '*'}) needs --advertise HOST:PORT, which clients can reach"
            )
        check_exposure(settings, name, protocol, host, given)
        try:
            rules = mapping_rules(given.get("ssl.principal.mapping.rules", "DEFAULT"))
        except TlsError as error:
            raise SettingsError(str(error)) from error
        listeners.append(Listener(name, protocol, host or "0.0.0.0", port, told, tls, rules))
    if not listeners:
        raise SettingsError("listeners: there must be one for clients")
    if len({listener.name for listener in listeners}) != len(listeners):
        raise SettingsError("listeners: each must have a name of its own")
    if advertised:
        raise SettingsError(f"advertised.listeners: {', '.join(advertised)} is not among listeners")
    return listeners


def check_mechanisms(settings: Settings) -> None:
    for mechanism in settings.sasl_mechanisms():
        if mechanism not in MECHANISMS:
            raise SettingsError(f"sasl.enabled.mechanisms: {mechanism} is not served; {', '.join(MECHANISMS)} are")


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
    """(name, host, port) of each `NAME://host:port`; without a name it is PLAINTEXT. Raises SettingsError."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        if part:
            name, separator, rest = part.rpartition("://")
            found.append((name.upper() if separator else "PLAINTEXT", *host_and_port(rest, what)))
    return found


def host_and_port(text: str, what: str) -> tuple[str, int]:
    """Raises SettingsError for what is not `host:port`."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{what}: {text!r} is not of the form HOST:PORT")
    return host.strip("[]"), int(port)


def listener_settings(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """What was given for all listeners, under what was given for this one (`listener.name.NAME.…`)."""
    prefix = f"listener.name.{name.lower()}."
    own = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    return {**given, **own}


def read_tls(name: str, given: Mapping[str, str]) -> TlsFiles:
    """The certificates of a listener. Raises SettingsError."""
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
    if client_auth not in CLIENT_AUTH:
        raise SettingsError(f"ssl.client.auth must be none, requested or required, not {client_auth!r}")
    authorities = given.get("ssl.truststore.location")
    if client_auth != "none" and authorities is None:
        raise SettingsError("ssl.client.auth needs ssl.truststore.location, a PEM file of the authorities to trust")
    try:
        return TlsFiles(location, None, given.get("ssl.key.password"), authorities, client_auth)
    except TlsError as error:
        raise SettingsError(f"listener {name}: {error}") from error


def check_exposure(settings: Settings, name: str, protocol: str, host: str, given: Mapping[str, str]) -> None:
    """Raises SettingsError for an address that strangers can reach, unless it is encrypted and they must say who they are."""
    has_mutual_tls = protocol == "SSL" and given.get("ssl.client.auth", "").lower() == "required"
    if settings.headwater_insecure or is_loopback(host) or protocol == "SASL_SSL" or has_mutual_tls:
        return
    raise SettingsError(
        f"listener {name} on {host or 'all addresses'} would let anyone in: use SASL_SSL, or SSL with "
        "ssl.client.auth=required, or say --insecure"
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def start_listeners(server: "Server", listeners: list[Listener]) -> dict[str, tuple[str, int]]:
    """Listens on all of them, for every node; returns the address of the first node of each. Raises ListenError."""
    bound: dict[str, tuple[str, int]] = {}
    for listener in listeners:
        for position, node_id in enumerate(server.core.cluster.node_ids):
            wanted = listener.port + position if listener.port else 0
            port = await start_listener(server, listener, node_id, wanted)
            host, told = listener.host, port
            if listener.advertised is not None:
                host, told = listener.advertised[0], listener.advertised[1] + position
            server.core.cluster.advertise(listener.name, node_id, host, told)
            bound.setdefault(listener.name, (listener.host, port))
    return bound


async def start_listener(server: "Server", listener: Listener, node_id: int, port: int) -> int:
    where = f"{listener.host}:{port}"
    try:
        return await server.listen(listener, listener.endpoint(node_id), port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{where} is in use; stop what listens there or choose another with --listen") from error
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
