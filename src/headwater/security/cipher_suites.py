"""`ssl.enabled.protocols` and `ssl.cipher.suites`: the versions and suites of TLS that a listener offers.

Suites have IANA's names, as in Kafka, or OpenSSL's. Only suites with forward secrecy are served: those that Python's TLS
offers by default. Python cannot choose among the suites of TLS 1.3, so a listener offers all of them or none.
"""

import re
import ssl
from collections.abc import Sequence

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
IANA_NAME = (  # compiled when the first name is compared
    r"TLS_(ECDHE|DHE)_(RSA|ECDSA)_WITH_(AES_128|AES_256|CHACHA20)_(GCM|CBC|POLY1305)_(SHA256|SHA384)"
)
SECURITY_LEVEL = "@SECLEVEL=2"


class TlsError(ValueError):
    """A certificate, key, rule, version or suite cannot be used. The message names it and says what to do."""


def restrict(context: ssl.SSLContext, versions: Sequence[str], suites: Sequence[str]) -> None:
    """Makes a context offer only these versions, and only these suites if any are given. Raises TlsError."""
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise TlsError(
            f"ssl.enabled.protocols: {', '.join(unknown) or 'nothing'} cannot be served; {' and '.join(VERSIONS)} can"
        )
    offered = set(versions)
    if suites:
        offered &= set(restrict_suites(context, suites))
        if not offered:
            raise TlsError("ssl.cipher.suites: none of them belongs to a version of ssl.enabled.protocols")
    context.minimum_version = min(VERSIONS[version] for version in offered)
    context.maximum_version = max(VERSIONS[version] for version in offered)


def restrict_suites(context: ssl.SSLContext, suites: Sequence[str]) -> list[str]:
    """Makes a context offer only these suites. Returns the versions that they belong to. Raises TlsError."""
    served = [(entry["name"], entry["protocol"]) for entry in context.get_ciphers()]
    modern = {name for name, version in served if version == "TLSv1.3"}
    older = {name for name, version in served if version == "TLSv1.2"}
    names = {openssl_name(suite) for suite in suites}
    unknown = [suite for suite in suites if openssl_name(suite) not in modern | older]
    if unknown:
        raise TlsError(
            f"ssl.cipher.suites: {', '.join(unknown)} cannot be served; these can: {', '.join(sorted(modern | older))}"
        )
    if names & modern and not modern <= names:
        raise TlsError(
            f"ssl.cipher.suites: the suites of TLS 1.3 cannot be chosen one by one; name all of "
            f"{', '.join(sorted(modern))}, or none"
        )
    chosen = [name for name, _ in served if name in names & older]
    if chosen:
        context.set_ciphers(":".join([*chosen, SECURITY_LEVEL]))
    return [version for version, known in (("TLSv1.2", older), ("TLSv1.3", modern)) if names & known]


def openssl_name(suite: str) -> str:
    """OpenSSL's name of a suite that has IANA's name. Any other name is returned unchanged."""
    found = re.fullmatch(IANA_NAME, suite)
    if found is None:
        return suite
    exchange, signature, cipher, mode, digest = found.groups()
    ending = {"GCM": f"-GCM-{digest}", "CBC": f"-{digest}", "POLY1305": "-POLY1305"}[mode]
    return f"{exchange}-{signature}-{cipher.replace('_', '')}{ending}"
