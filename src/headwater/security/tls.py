"""TLS for listeners: certificates in PEM files, read again when they change, and the principal of a client's certificate.

Each time the files are read, a new context is made. It replaces the old one only if all of the files are valid together: a new
certificate whose key has not been written yet changes nothing. Connections keep the context that they began with, and new
ones get the latest. So an authority that was removed from the file is no longer trusted by any new handshake or resumed
session.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from headwater.security.acls import ANONYMOUS
from headwater.security.cipher_suites import VERSIONS, restrict
from headwater.security.cipher_suites import TlsError as TlsError

CLIENT_AUTH = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
# How names of X.500 attributes are written in a distinguished name (RFC 2253); others keep OpenSSL's name.
SHORT_NAMES = {
    "commonName": "CN",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
    "emailAddress": "EMAILADDRESS",
}
RULE = re.compile(r"\s*(?:(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?))\s*(?:,|$)")


class ReloadedContext(ssl.SSLContext):
    """The context that a listening socket gets. Each new connection begins with the context that is in force by then."""

    current: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*arguments, **options)


class TlsFiles:
    """The files of one listener, and the context that is made from them. Raises TlsError."""

    def __init__(
        self,
        certificate: str,
        key: str | None = None,
        password: str | None = None,
        authorities: str | None = None,
        client_auth: str = "none",
        *,
        versions: Sequence[str] = tuple(VERSIONS),
        suites: Sequence[str] = (),
    ) -> None:
        self.certificate, self.key, self.password = certificate, key, password
        self.authorities, self.client_auth = authorities, client_auth
        self.versions, self.suites = versions, suites
        self.context = ReloadedContext(ssl.PROTOCOL_TLS_SERVER)
        self.stamp = self.current_stamp()
        self.context.current = self.new_context()

    def new_context(self) -> ssl.SSLContext:
        """A context made from the files as they are now. Raises TlsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        restrict(context, self.versions, self.suites)
        context.verify_mode = CLIENT_AUTH[self.client_auth]
        try:
            context.load_cert_chain(self.certificate, self.key, self.password or (lambda: ""))
            if self.authorities is not None:
                context.load_verify_locations(self.authorities)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(name for name in (self.certificate, self.key, self.authorities) if name)
            reason = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or error
            raise TlsError(
                f"TLS: {names} cannot be used: {reason}; give PEM files with the certificate chain and its private key"
            ) from error
        return context

    def current_stamp(self) -> tuple[Any, ...]:
        """A value that changes when one of the files does."""
        return tuple(stamp_of(path) for path in (self.certificate, self.key, self.authorities) if path)

    def reload_if_changed(self) -> bool:
        """Applies changed files to new connections. If it raises TlsError, nothing has changed."""
        stamp = self.current_stamp()
        if stamp == self.stamp:
            return False
        self.stamp = stamp
        self.reload()
        return True

    def reload(self) -> None:
        """Applies the files as they are now to new connections. If it raises TlsError, nothing has changed."""
        self.context.current = self.new_context()


def stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def distinguished_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A certificate's subject as RFC 2253 writes it, the most specific part first."""
    parts = [
        f"{SHORT_NAMES.get(name, name)}={escape(value)}" for group in reversed(list(subject)) for name, value in group
    ]
    return ",".join(parts)


def escape(value: str) -> str:
    text = re.sub(r'([,+"\\<>;])', r"\\\1", value)
    text = re.sub(r"^([ #])", r"\\\1", text)
    return re.sub(r" $", r"\\ ", text)


def mapping_rules(text: str) -> Callable[[str], str]:
    """Compiles `ssl.principal.mapping.rules` to a function from a distinguished name to a user's name (KIP-371).

    Raises TlsError for a rule that cannot be read.
    """
    rules: list[tuple[re.Pattern[str] | None, str, str]] = []
    position = 0
    while position < len(text.strip()):
        found = RULE.match(text, position)
        if found is None:
            raise TlsError(
                f"ssl.principal.mapping.rules: {text[position:]!r} is not RULE:pattern/replacement/[LU] or DEFAULT"
            )
        position = found.end()
        if found[1]:
            rules.append((None, "", ""))
            continue
        try:
            pattern = re.compile(found[2].replace(r"\/", "/"))
        except re.error as error:
            raise TlsError(f"ssl.principal.mapping.rules: {found[2]!r} is not a regular expression: {error}") from error
        replacement = re.sub(r"\$(\d+)", r"\\\1", found[3].replace(r"\/", "/"))
        rules.append((pattern, replacement, found[4]))

    def apply(name: str) -> str:
        for pattern, replacement, case in rules or [(None, "", "")]:
            if pattern is None:
                return name
            matched = pattern.fullmatch(name)
            if matched:
                result = matched.expand(replacement)
                return result.lower() if case == "L" else result.upper() if case == "U" else result
        return name

    return apply


def certificate_principal(certificate: Any, rules: Callable[[str], str]) -> str:
    """The principal for a certificate, as `getpeercert` returns it. Without a certificate it is anonymous."""
    if not certificate:
        return ANONYMOUS
    return "User:" + rules(distinguished_name(certificate["subject"]))
