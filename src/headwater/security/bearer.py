"""SASL OAUTHBEARER (RFC 7628, KIP-255): a client shows a token that an identity provider has signed.

    client  n,a=alice,^Aauth=Bearer TOKEN^A^A           ^A is the byte 1; a= may be missing, extensions may follow auth
    server  (nothing)                                   the login is done

    server  {"status":"invalid_token"}                  or the token is refused
    client  ^A
    server  the failure, as for any mechanism

The answer does not say what is wrong with a token: the reason is for the broker's log only.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from headwater.security.access_tokens import AccessToken, TokenError
from headwater.security.scram import AuthenticationError

GROUP_TYPE = "Group"
REFUSAL = '{"status":"invalid_token"}'
INVALID_MESSAGE = (
    "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER"
)
# `n,`, the user's name if given, then `key=value` pairs, each with a byte 1 at its end, and a byte 1 at the end of all.
FIRST_MESSAGE = re.compile(
    "n,(?:a=(?P<name>(?:[\x01-+\\--<>-\x7f]|=2C|=3D)+))?,\x01(?P<pairs>(?:[A-Za-z]+=[\x21-\x7e \t\r\n]+\x01)*)\x01"
)
AUTHORIZATION = re.compile(r"(?P<scheme>\w+) +(?P<token>[-_~+/.a-zA-Z0-9]+=*)", re.ASCII)


class FirstMessage(NamedTuple):
    """What a client begins with. `name` is the user that it wants to be; empty: the token's."""

    name: str
    token: str


class BearerExchange:
    """The server's side of one exchange. `check` returns what a token says. It raises TokenError, or NotYetError (`sasl`)
    if the same message should be given again later.
    """

    is_token = False  # a delegation token

    def __init__(self, check: Callable[[str], AccessToken]) -> None:
        self.check = check
        self.claimed: str | None = None
        self.user: str | None = None
        self.is_done = False
        self.refused: TokenError | None = None
        self.expires_ms: int | None = None
        self.groups: tuple[str, ...] = ()

    def is_slow(self, message: bytes) -> bool:
        return False

    def respond(self, message: bytes) -> bytes:
        """The answer to the client's next message. Raises AuthenticationError, and NotYetError."""
        if self.refused is not None:
            raise AuthenticationError(REFUSAL, f"the token is refused: {self.refused}")
        first = read_first_message(message)
        self.claimed = first.name or None
        try:
            token = self.check(first.token)
        except TokenError as error:
            self.refused, self.claimed = error, error.claimed or self.claimed
            return REFUSAL.encode()
        self.claimed = token.name
        if first.name not in ("", token.name):
            raise AuthenticationError(
                f"Authentication failed: Client requested an authorization id ({first.name}) that is different from the "
                f"token's principal name ({token.name})"
            )
        self.user, self.expires_ms, self.is_done = token.name, token.expires_ms, True
        self.groups = tuple(f"{GROUP_TYPE}:{group}" for group in token.groups)
        return b""


def read_first_message(message: bytes) -> FirstMessage:
    """Parses the client's first message. Raises AuthenticationError."""
    found = FIRST_MESSAGE.fullmatch(message.decode("latin-1"))
    if found is None:
        raise AuthenticationError(INVALID_MESSAGE, "the client's first message is not one of OAUTHBEARER")
    pairs = dict(pair.split("=", 1) for pair in found["pairs"].split("\x01") if pair)
    authorization = AUTHORIZATION.fullmatch(pairs.get("auth", ""))
    if authorization is None or authorization["scheme"].lower() != "bearer":
        raise AuthenticationError(INVALID_MESSAGE, "the client's first message has no bearer token")
    name = (found["name"] or "").replace("=2C", ",").replace("=3D", "=")
    return FirstMessage(name, authorization["token"])
