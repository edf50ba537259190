"""The settings of OAUTHBEARER that a listener may have of its own; and which URLs of key sets may be opened: those on a list of their own, `headwater.sasl.oauthbearer.allowed.urls` and `….files`.

Whoever can write one setting could otherwise have the broker read a file, or ask a server in its network, and answer with what it
finds there which tokens are right. Kafka has such lists too, as system properties.
"""

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

URL = "sasl.oauthbearer.jwks.endpoint.url"
ALLOWED_FILES = "headwater.sasl.oauthbearer.allowed.files"
ALLOWED_URLS = "headwater.sasl.oauthbearer.allowed.urls"
# What may be set for all listeners, for one of them, or for its mechanism, as `listener.name.NAME.oauthbearer.key`.
TOKEN_SETTINGS = frozenset(
    {
        "headwater.sasl.oauthbearer.groups.claim.name",
        "sasl.oauthbearer.clock.skew.seconds",
        "sasl.oauthbearer.expected.audience",
        "sasl.oauthbearer.expected.issuer",
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        "sasl.oauthbearer.scope.claim.name",
        "sasl.oauthbearer.sub.claim.name",
        URL,
    }
)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def key_url_problem(url: str, files: Sequence[str], urls: Sequence[str], *, is_insecure: bool) -> str | None:
    """What is wrong with a URL, on one line."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{url} is not a URL"
    if parts.scheme not in ("file", "http", "https"):
        return f"{url} must begin with file:, https: or http:"
    if parts.username is not None or parts.fragment:
        return "a user, a password or a fragment must not be in it"
    if parts.scheme == "file":
        path = unquote(parts.path)
        if host or not path.startswith("/"):
            return f"{url} must name an absolute path, as in file:///etc/headwater/keys.json"
        return None if path in files else f"{path} must also be listed in {ALLOWED_FILES}"
    if not host:
        return f"{url} names no host"
    if parts.scheme == "http" and host not in LOOPBACK and not is_insecure:
        return f"{url} could be answered by anyone on the way: use https:, or allow it with --insecure"
    return None if url in urls else f"{url} must also be listed in {ALLOWED_URLS}"
