"""Delegation tokens: passwords that users make for programs, and that end by themselves (KIP-48, KIP-373).

A user who has logged in asks for a token, and hands it to a program. With the token the program logs in by SCRAM, and acts as
the token's owner. It never sees the owner's own password.

    what            is
    token id        a random name; the user name of the login
    HMAC            HMAC-SHA-512 of the token id with delegation.token.secret.key; in base64 it is the password
    owner           who the program acts as
    requester       who asked for the token: the owner, or somebody who may CREATE_TOKENS for the owner
    renewers        who else may renew the token, and end it
    expiry          when the token ends unless it is renewed
    maximum         when the token ends in any case

For example, alice makes a token at 12:00 that has to be renewed every day, with a maximum of a week. Her job renews it each
morning; after a week it needs a new one.

Only ids, names and times are stored, never an HMAC: whoever reads the metadata log cannot log in with it. Whoever knows the
secret key can make the HMAC of every token. If the key changes, all tokens have other HMACs, and nobody can log in with those
that were handed out.

The password of any id follows from the secret key, whether there is such a token or not. So a login with an unknown id costs
what every login with a token costs, and fails at the same step: only after the proof the broker looks whether the token exists.
"""

import base64
import hmac
from collections.abc import Callable, Iterator
from typing import NamedTuple

from headwater.security.scram import ITERATIONS_MIN, Credential, Mechanism, credential_of, salt_password

USER_TYPE = "User"
SALT_BYTES = 16
LONG_MAX = 2**63 - 1
# Kafka has none of these limits. Every user may make tokens, and all of them are in memory.
TOKENS_MAX = 10_000
RENEWERS_MAX = 1_000
NAMES_BYTES_MAX = 16 << 10


class Token(NamedTuple):
    """A token. Principals are written as in ACLs: `User:alice`. Times are those of the wall clock."""

    token_id: str
    owner: str
    requester: str
    renewers: tuple[str, ...]
    issued_ms: int
    max_ms: int
    expires_ms: int

    def is_expired(self, now_ms: int) -> bool:
        return min(self.max_ms, self.expires_ms) < now_ms

    def may_be_renewed_by(self, principal: str) -> bool:
        """Whether a principal may renew the token, and end it."""
        return principal == self.owner or principal in self.renewers

    def is_of(self, principal: str) -> bool:
        """Whether a principal sees the token without any ACL."""
        return principal == self.requester or self.may_be_renewed_by(principal)

    @property
    def user(self) -> str:
        """The owner's name."""
        return self.owner.partition(":")[2]


def later(now_ms: int, duration_ms: int) -> int:
    return min(LONG_MAX, now_ms + duration_ms)


class DelegationTokens:
    """All tokens: a part of the metadata. Without a secret key they are kept, and nobody can use them."""

    def __init__(self, secret_key: str = "") -> None:
        self.secret_key = secret_key.encode()
        self.tokens: dict[str, Token] = {}
        self.ids: dict[bytes, str] = {}  # by HMAC

    @property
    def is_enabled(self) -> bool:
        return bool(self.secret_key)

    # -- replay

    def put(self, token: Token) -> None:
        self.tokens[token.token_id] = token
        if self.is_enabled:
            self.ids[self.hmac(token.token_id)] = token.token_id

    def remove(self, token_id: str) -> None:
        if self.tokens.pop(token_id, None) is not None and self.is_enabled:
            del self.ids[self.hmac(token_id)]

    # -- questions

    def hmac(self, token_id: str) -> bytes:
        """What a client proves to know. It must never be logged."""
        return hmac.digest(self.secret_key, token_id.encode(), "sha512")

    def find(self, token_hmac: bytes) -> Token | None:
        """The token with that HMAC."""
        return self.tokens.get(self.ids.get(bytes(token_hmac), ""))

    def find_expired(self, now_ms: int) -> Iterator[Token]:
        return (token for token in self.tokens.values() if token.is_expired(now_ms))

    def credential(self, token_id: str, mechanism: Mechanism) -> Credential:
        """The credential of an id, whether there is such a token or not. This takes milliseconds."""
        salt = hmac.digest(self.secret_key, f"{mechanism.label} {token_id}".encode(), "sha256")[:SALT_BYTES]
        password = base64.b64encode(self.hmac(token_id)).decode()
        salted = salt_password(mechanism, password, salt, ITERATIONS_MIN)
        return credential_of(mechanism, salted, salt, ITERATIONS_MIN)


class TokenLogins:
    """What a SCRAM exchange needs to know of tokens."""

    def __init__(self, tokens: DelegationTokens, now_ms: Callable[[], int]) -> None:
        self.tokens = tokens
        self.now_ms = now_ms

    def credential(self, token_id: str, mechanism: Mechanism) -> Credential:
        return self.tokens.credential(token_id, mechanism)

    def find(self, token_id: str) -> tuple[str, int] | None:
        """The user that a token stands for, and when it ends; None for a token that does not exist or has expired."""
        token = self.tokens.tokens.get(token_id)
        if token is None or token.is_expired(self.now_ms()):
            return None
        return token.user, min(token.max_ms, token.expires_ms)
