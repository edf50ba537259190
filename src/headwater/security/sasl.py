"""SASL: how a client says who it is, over SaslHandshake and SaslAuthenticate (KIP-43, KIP-152, KIP-368).

PLAIN brings user and password in the clear, so it belongs on TLS; SCRAM proves the password. Both check the same salted
credentials.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from headwater.security.scram import AuthenticationError, Credential, Mechanism, ScramExchange, password_matches

PLAIN = "PLAIN"
MECHANISMS = (PLAIN, Mechanism.SCRAM_SHA_256.label, Mechanism.SCRAM_SHA_512.label)

Credentials = Mapping[tuple[str, Mechanism], Credential]


class Exchange(Protocol):
    """One authentication under way."""

    user: str | None
    is_done: bool

    def respond(self, message: bytes) -> bytes:
        """The answer to the client's next message. Raises AuthenticationError."""
        ...


class PlainExchange:
    """authorization id, user and password in one message (RFC 4616)."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.user: str | None = None
        self.is_done = False

    def respond(self, message: bytes) -> bytes:
        parts = message.split(b"\0")
        if len(parts) != 3:
            raise AuthenticationError("Invalid SASL/PLAIN response: expected 3 tokens")
        try:
            authorization, user, password = (part.decode() for part in parts)
        except UnicodeDecodeError as error:
            raise AuthenticationError("Invalid SASL/PLAIN response: it is not UTF-8") from error
        if not user or not password:
            raise AuthenticationError(f"Authentication failed: {'username' if not user else 'password'} not specified")
        found = next(
            ((m, credential) for m in Mechanism if (credential := self.credentials.get((user, m))) is not None), None
        )
        if found is None or not password_matches(found[0], found[1], password):
            raise AuthenticationError("Authentication failed: Invalid username or password")
        if authorization not in ("", user):
            raise AuthenticationError("Authentication failed: Client requested an authorization id of another user")
        self.user, self.is_done = user, True
        return b""


def new_exchange(mechanism: str, credentials: Credentials, new_nonce: Callable[[], str]) -> Exchange:
    """The server's side for one of MECHANISMS."""
    if mechanism == PLAIN:
        return PlainExchange(credentials)
    scram = next(m for m in Mechanism if m.label == mechanism)
    return ScramExchange(scram, lambda user: credentials.get((user, scram)), new_nonce())
