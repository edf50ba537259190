"""Checks the name under which a server is asked, and the page that asks. Both protect a loopback server from web pages.

A page of evil.example can let its own name point to 127.0.0.1 (DNS rebinding): the browser then believes that this server
is evil.example, and lets the page read its answers. The Host header reveals this: it contains evil.example. So a request is
served only if Host is an address, which cannot be rebound, or `localhost`, or a configured name.

A page may also send a request whose answer it cannot read, for example a POST that changes something. Browsers name the
page's origin in the Origin header. A request from another origin is refused, unless that origin was allowed (CORS).
"""

import ipaddress
from urllib.parse import urlsplit

from headwater.http.errors import HttpError

LOCALHOST = "localhost"


class Origins:
    """The names of this server, and the other origins whose pages may send requests.

    `is_open`: every name is accepted. This is for a server beyond the loopback that needs no login: anyone who could trick a
    browser into a request can send it directly.
    """

    def __init__(self, names: tuple[str, ...] = (), allowed: tuple[str, ...] = (), *, is_open: bool = False) -> None:
        self.is_open = is_open
        self.names = frozenset(name.lower().rstrip(".") for name in names)
        self.allowed = frozenset(allowed)

    def check_host(self, host: str | None) -> None:
        """Raises HttpError if the Host header is missing, or contains a name that is not this server's."""
        if not host:
            raise HttpError(400, "The request has no Host header.")
        name = host_name(host)
        if self.is_open:
            return
        if not (name in self.names or name == LOCALHOST or name.endswith(f".{LOCALHOST}") or is_address(name)):
            raise HttpError(
                421, f"This server does not have the name {name!r}; use its address, or configure the name."
            )

    def is_allowed(self, origin: str, scheme: str, host: str) -> bool:
        """Whether pages of that origin may send requests: it is this server's own, or was allowed. `null` never is its own."""
        return origin in self.allowed or origin.lower() == own_origin(scheme, host)

    def check_origin(self, origin: str | None, scheme: str, host: str) -> None:
        """Raises HttpError if a page of another origin sends the request."""
        if origin is not None and not self.is_allowed(origin, scheme, host):
            raise HttpError(
                403, f"Pages of {origin!r} may not send requests to this server; to let them, allow the origin."
            )

    def needs_cors(self, origin: str | None, scheme: str, host: str) -> bool:
        """Whether the answer has to tell the browser that the page may read it."""
        return origin is not None and origin in self.allowed and origin.lower() != own_origin(scheme, host)


def own_origin(scheme: str, host: str) -> str:
    """This server's origin as a browser writes it: without the scheme's default port."""
    usual = ":443" if scheme == "https" else ":80"
    return f"{scheme}://{host.lower().removesuffix(usual)}"


def host_name(host: str) -> str:
    """A Host header without its port. Raises HttpError if it is not a host."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if not name or "@" in host or "/" in host:
        raise HttpError(400, "The Host header is not of the form HOST or HOST:PORT.")
    return name.rstrip(".")


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
