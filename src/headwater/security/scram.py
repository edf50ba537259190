"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): a client proves that it knows a password without sending it.

    client  n,,n=user,r=nonce
    server  r=nonce+ours,s=salt,i=iterations
    client  c=biws,r=nonce+ours,p=proof
    server  v=signature

What is stored of a password is salted and hashed, so the password cannot be recovered from it: the stored key checks a proof,
the server key signs. The same credential checks a password that came in the clear (SASL PLAIN): the password is salted and
hashed in the same way, and compared.

A client that logs in with a delegation token adds `tokenauth=true` to its first message. Then `user` is the token's id, and the
client becomes the token's owner (KIP-48).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

ITERATIONS_MIN = 4096
ITERATIONS_MAX = 16384
MESSAGE_BYTES_MAX = 8192
TOKEN_EXTENSION = "tokenauth"


class Mechanism(IntEnum):
    """As the protocol numbers them."""

    SCRAM_SHA_256 = 1
    SCRAM_SHA_512 = 2

    @property
    def label(self) -> str:
        return self.name.replace("_", "-")

    @property
    def hash_name(self) -> str:
        return "sha256" if self is Mechanism.SCRAM_SHA_256 else "sha512"


class AuthenticationError(Exception):
    """A client did not prove who it is. The message may be shown to it; `reason` is for the log, where it says more."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class Credential(NamedTuple):
    """What is stored of a user's password for one mechanism."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


def salt_password(mechanism: Mechanism, password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac(mechanism.hash_name, password.encode(), salt, iterations)


def credential_of(mechanism: Mechanism, salted_password: bytes, salt: bytes, iterations: int) -> Credential:
    """The credential for a salted password, which AlterUserScramCredentials sends."""
    client_key = hmac.digest(salted_password, b"Client Key", mechanism.hash_name)
    stored_key = hashlib.new(mechanism.hash_name, client_key).digest()
    server_key = hmac.digest(salted_password, b"Server Key", mechanism.hash_name)
    return Credential(salt, stored_key, server_key, iterations)


def password_matches(mechanism: Mechanism, credential: Credential, password: str) -> bool:
    salted = salt_password(mechanism, password, credential.salt, credential.iterations)
    found = credential_of(mechanism, salted, credential.salt, credential.iterations)
    return hmac.compare_digest(found.stored_key, credential.stored_key)


class TokenLookup(Protocol):
    """Delegation tokens, by their ids."""

    def credential(self, token_id: str, mechanism: Mechanism) -> Credential:
        """There is one for every id. It takes milliseconds."""
        ...

    def find(self, token_id: str) -> tuple[str, int] | None:
        """The user that a token stands for, and when it ends; None if there is no such token."""
        ...


class ScramExchange:
    """The server's side of one exchange. `find` gives a user's credential, `nonce` is random and printable.

    If `find` returns a credential for every name, the first answer does not reveal which users exist.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        find: Callable[[str], Credential | None],
        nonce: str,
        tokens: TokenLookup | None = None,
    ) -> None:
        self.mechanism = mechanism
        self.find = find
        self.nonce = nonce
        self.claimed: str | None = None
        self.user: str | None = None
        self.credential: Credential | None = None
        self.signed = ""
        self.is_done = False
        self.tokens = tokens
        self.is_token = False
        self.groups: tuple[str, ...] = ()
        self.expires_ms: int | None = None

    def is_slow(self, message: bytes) -> bool:
        """Whether a message names a delegation token; users' credentials are there already."""
        return self.tokens is not None and self.credential is None and TOKEN_EXTENSION.encode() in message

    def respond(self, message: bytes) -> bytes:
        """The answer to the client's next message. At the end, `is_done` and `user` are set. Raises AuthenticationError."""
        if self.is_done or len(message) > MESSAGE_BYTES_MAX:
            raise AuthenticationError("Invalid SCRAM message")
        try:
            text = message.decode()
        except UnicodeDecodeError as error:
            raise AuthenticationError("Invalid SCRAM message") from error
        if self.credential is not None:
            return self.final(text).encode()
        return self.first(text).encode()

    def first(self, text: str) -> str:
        flag, separator, rest = text.partition(",")
        authorization, separator_2, bare = rest.partition(",")
        if flag not in ("n", "y") or not separator or not separator_2:
            raise AuthenticationError("Invalid SCRAM client first message")
        fields = attributes(bare)
        if "n" not in fields or not fields.get("r") or "m" in fields:
            raise AuthenticationError("Invalid SCRAM client first message")
        user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        if authorization not in ("", f"a={fields['n']}"):
            raise AuthenticationError("Authentication failed: Client requested an authorization id of another user")
        self.claimed = user
        self.is_token = fields.get(TOKEN_EXTENSION, "").lower() == "true"
        if not self.is_token:
            self.credential = self.find(user)
        elif self.tokens is not None:
            self.credential = self.tokens.credential(user, self.mechanism)
        if self.credential is None:
            raise AuthenticationError(self.failure())
        self.nonce = fields["r"] + self.nonce
        salt = base64.b64encode(self.credential.salt).decode()
        answer = f"r={self.nonce},s={salt},i={self.credential.iterations}"
        self.signed = f"{bare},{answer}"
        self.binding = base64.b64encode(f"{flag},{authorization},".encode()).decode()
        return answer

    def final(self, text: str) -> str:
        assert self.credential is not None
        unsigned, separator, proof_text = text.rpartition(",p=")
        fields = attributes(unsigned)
        # The nonce must be that of both sides (RFC 5802, CVE-2024-56128), or else an old proof could be sent again.
        if not separator or fields.get("c") != self.binding or fields.get("r") != self.nonce:
            raise AuthenticationError("Invalid SCRAM client final message")
        try:
            proof = base64.b64decode(proof_text, validate=True)
        except binascii.Error as error:
            raise AuthenticationError("Invalid SCRAM client final message") from error
        signed, hash_name = f"{self.signed},{unsigned}".encode(), self.mechanism.hash_name
        signature = hmac.digest(self.credential.stored_key, signed, hash_name)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        if not hmac.compare_digest(hashlib.new(hash_name, client_key).digest(), self.credential.stored_key):
            raise AuthenticationError(self.failure())
        self.user, self.is_done = self.proven_user(), True
        return "v=" + base64.b64encode(hmac.digest(self.credential.server_key, signed, hash_name)).decode()

    def proven_user(self) -> str | None:
        """Who the client has proved to be. Raises AuthenticationError."""
        if not self.is_token or self.tokens is None:
            return self.claimed
        found = self.tokens.find(self.claimed or "")
        if found is None:
            raise AuthenticationError(self.failure())
        user, self.expires_ms = found
        return user

    def failure(self) -> str:
        return (
            "Authentication failed during authentication due to invalid credentials with SASL mechanism "
            f"{self.mechanism.label}"
        )


def attributes(text: str) -> dict[str, str]:
    """`a=b,c=d` as a dictionary."""
    pairs = (part.partition("=") for part in text.split(","))
    return {key: value for key, _, value in pairs}
