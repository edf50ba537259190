"""Where a client gets the token that it logs in with (OAUTHBEARER): from its provider's token server, by client credentials.

    client  POST /token   grant_type=client_credentials&scope=…    with its id and secret as HTTP's Basic credentials
    server  {"access_token": "…", "expires_in": 300}

A token is used for 80 % of its time, by all connections of a client, and then replaced (RFC 6749, section 4.4).
"""

import base64
import json
import re
import threading
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from headwater.client.errors import AuthenticationError
from headwater.effects.clock import Clock, SystemClock
from headwater.effects.fetch import FetchError, post_form

ANSWER_BYTES_MAX = 256 << 10
LIFETIME_SHARE = 0.8
TOKEN = r"[-_~+/.a-zA-Z0-9]+=*"


class ClientCredentials(NamedTuple):
    """Whose token it is, and who gives it. `authorities` is a file; empty: the system's authorities."""

    url: str
    client_id: str
    secret: str
    scope: str = ""
    authorities: str = ""


class TokenSource:
    """The tokens of one client. It may be used by several threads."""

    def __init__(self, credentials: ClientCredentials, clock: Clock | None = None) -> None:
        self.credentials = credentials
        self.clock: Clock = clock or SystemClock()
        self.lock = threading.Lock()
        self.current = ""
        self.renew_ms = 0.0

    def token(self) -> str:
        """A token that is valid for a while. Raises AuthenticationError, which names the server."""
        with self.lock:
            if not self.current or self.clock.steady_ms() >= self.renew_ms:
                now_ms = self.clock.steady_ms()
                self.current, lifetime_s = self.ask()
                self.renew_ms = now_ms + lifetime_s * 1000 * LIFETIME_SHARE
            return self.current

    def ask(self) -> tuple[str, float]:
        """Another token, and its lifetime in seconds; 0 if the server does not say it. Raises AuthenticationError."""
        found = self.credentials
        scope = {"scope": found.scope} if found.scope else {}
        basic = f"{quote(found.client_id, safe='')}:{quote(found.secret, safe='')}"
        try:
            content = post_form(
                found.url,
                urlencode({"grant_type": "client_credentials", **scope}),
                {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"},
                ANSWER_BYTES_MAX,
                authorities=found.authorities or None,
            )
            answer = json.loads(content)
        except FetchError as error:
            raise AuthenticationError(f"no token from {self.named}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise AuthenticationError(f"no token from {self.named}: the answer is not JSON") from error
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.fullmatch(TOKEN, token, re.ASCII):
            raise AuthenticationError(f"no token from {self.named}: the answer has no access_token")
        lifetime_s = answer.get("expires_in")
        is_number = isinstance(lifetime_s, int | float) and not isinstance(lifetime_s, bool)
        return token, max(0.0, float(lifetime_s)) if is_number else 0.0

    @property
    def named(self) -> str:
        """The server, without what its URL may carry along."""
        parts = urlsplit(self.credentials.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def __repr__(self) -> str:
        return f"<TokenSource of {self.named}>"
