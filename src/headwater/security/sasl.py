"""SASL: how a client proves who it is, over SaslHandshake and SaslAuthenticate (KIP-43, KIP-152, KIP-368).

PLAIN sends the user and password in the clear, so use it with TLS. SCRAM proves that the client knows the password without
sending it. Both check the same salted credentials. OAUTHBEARER shows a token instead, and has a module of its own (`bearer`).

A client must not learn which users exist. So a login as an unknown user fails at the same step, with the same message and
after the same work as one with a wrong password: in place of the missing credential there is a decoy, the same one each
time, that no password matches.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

from headwater.security.scram import (
    ITERATIONS_MIN,
    AuthenticationError,
    Credential,
    Mechanism,
    ScramExchange,
    TokenLookup,
    password_matches,
)

PLAIN = "PLAIN"
PASSWORD_MECHANISMS = (PLAIN, Mechanism.SCRAM_SHA_256.label, Mechanism.SCRAM_SHA_512.label)
OAUTHBEARER = "OAUTHBEARER"
MECHANISMS = (*PASSWORD_MECHANISMS, OAUTHBEARER)

Credentials = Mapping[tuple[str, Mechanism], Credential]


class NotYetError(Exception):
    """A message cannot be answered yet. `when_ready` calls a function when the same message can be given again."""

    def __init__(self, when_ready: Callable[[Callable[[], None]], None]) -> None:
        super().__init__("a login has to wait for what it is checked with")
        self.when_ready = when_ready


class Exchange(Protocol):
    """One authentication in progress. `claimed` is the user that the client named, `user` the one that it has proved to be.

    `expires_ms`: when what the client has proved ends, on the wall clock; None: never. `is_token`: the client has a delegation
    token, not a password.
    `groups`: further principals that the client has proved to be.
    """

    claimed: str | None
    user: str | None
    is_done: bool
    is_token: bool
    expires_ms: int | None
    groups: tuple[str, ...]

    def is_slow(self, message: bytes) -> bool:
        """Whether the answer to this message takes milliseconds, so that it is better computed in a thread."""
        ...

    def respond(self, message: bytes) -> bytes:
        """The answer to the client's next message. Raises AuthenticationError; NotYetError, which changes nothing."""
        ...


class Decoys:
    """Credentials for users that do not exist. `secret` must be secret, and must stay the same over restarts."""

    SALT_BYTES = 16

    def __init__(self, credentials: Credentials, secret: bytes) -> None:
        self.credentials = credentials
        self.secret = secret

    def find(self, user: str, mechanism: Mechanism) -> Credential:
        """The user's credential, or a decoy. A decoy is as long and costs as much as that of the mechanism's first user."""
        decoy = self.decoy(user, mechanism)
        return self.credentials.get((user, mechanism)) or decoy

    def find_any(self, user: str) -> tuple[Mechanism, Credential]:
        """A credential to check a password in the clear: of the first mechanism for which the user has one."""
        # A copy, because this may run in a thread.
        likely = next((mechanism for _, mechanism in tuple(self.credentials)), Mechanism.SCRAM_SHA_256)
        decoy = self.decoy(user, likely)
        for mechanism in Mechanism:
            credential = self.credentials.get((user, mechanism))
            if credential is not None:
                return mechanism, credential
        return likely, decoy

    def decoy(self, user: str, mechanism: Mechanism) -> Credential:
        like = next((c for (_, known), c in tuple(self.credentials.items()) if known == mechanism), None)
        salt_bytes = len(like.salt) if like is not None else self.SALT_BYTES
        iterations = like.iterations if like is not None else ITERATIONS_MIN
        size = hashlib.new(mechanism.hash_name).digest_size

        def derive(purpose: str, size: int) -> bytes:
            key = hmac.digest(self.secret, f"{purpose} {mechanism.label} {user}".encode(), "sha512")
            return (key * (size // len(key) + 1))[:size]

        return Credential(derive("salt", salt_bytes), derive("stored", size), derive("server", size), iterations)


class PlainExchange:
    """PLAIN: authorization id, user and password in one message (RFC 4616)."""

    def __init__(self, credentials: Credentials, secret: bytes = b"") -> None:
        self.decoys = Decoys(credentials, secret)
        self.claimed: str | None = None
        self.user: str | None = None
        self.is_done = False
        self.is_token = False
        self.groups: tuple[str, ...] = ()
        self.expires_ms: int | None = None

    def is_slow(self, message: bytes) -> bool:
        return True

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
        self.claimed = user
        mechanism, credential = self.decoys.find_any(user)
        if not password_matches(mechanism, credential, password):
            raise AuthenticationError("Authentication failed: Invalid username or password")
        if authorization not in ("", user):
            raise AuthenticationError("Authentication failed: Client requested an authorization id of another user")
        self.user, self.is_done = user, True
        return b""


def new_exchange(
    mechanism: str,
    credentials: Credentials,
    new_nonce: Callable[[], str],
    secret: bytes = b"",
    tokens: TokenLookup | None = None,
) -> Exchange:
    """The server's side of an exchange, for one of PASSWORD_MECHANISMS. For `secret` see Decoys. Without `tokens` none are accepted."""
    if mechanism == PLAIN:
        return PlainExchange(credentials, secret)
    scram = next(m for m in Mechanism if m.label == mechanism)
    decoys = Decoys(credentials, secret)
    return ScramExchange(scram, lambda user: decoys.find(user, scram), new_nonce(), tokens)
