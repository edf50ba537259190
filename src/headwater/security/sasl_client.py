"""SASL, the client's side: what a client sends to log in with PLAIN, SCRAM or a token. The server's side is `sasl`, `scram` and
`bearer`.

An exchange is bytes in, bytes out: `first` is what the client says first, and `respond` is its answer to what the server
says. SCRAM proves both ways: the client's proof shows that it has the password, and the server's signature that the server
has a credential made of it. A server that cannot sign is not the broker, so its signature is checked.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Protocol

from headwater.security.sasl import MECHANISMS, OAUTHBEARER, PLAIN
from headwater.security.scram import (
    ITERATIONS_MIN,
    MESSAGE_BYTES_MAX,
    AuthenticationError,
    Mechanism,
    attributes,
    salt_password,
)

ITERATIONS_TAKEN_MAX = 1_000_000  # a second of work or less: a server may not ask for an hour of it


class ClientExchange(Protocol):
    """One login under way; `is_done` when the server has nothing more to prove."""

    mechanism: str
    is_done: bool

    def first(self) -> bytes:
        """What the client says first."""
        ...

    def respond(self, message: bytes) -> bytes:
        """The answer to what the server says; empty where `is_done`. Raises AuthenticationError."""
        ...


class PlainClient:
    """User and password in one message (RFC 4616)."""

    mechanism = PLAIN

    def __init__(self, user: str, password: str) -> None:
        self.user, self.password = user, password
        self.is_done = False

    def first(self) -> bytes:
        return f"\0{self.user}\0{self.password}".encode()

    def respond(self, message: bytes) -> bytes:
        self.is_done = True
        return b""


class BearerClient:
    """A token, and the user that it must belong to (RFC 7628). Its refusal comes in two steps: see `bearer`."""

    mechanism = OAUTHBEARER

    def __init__(self, user: str, token: str) -> None:
        self.user, self.token = user, token
        self.refusal = b""
        self.is_done = False

    def first(self) -> bytes:
        name = f"a={escape(self.user)}" if self.user else ""
        return f"n,{name},\x01auth=Bearer {self.token}\x01\x01".encode()

    def respond(self, message: bytes) -> bytes:
        if self.refusal:
            raise AuthenticationError("the broker refuses the token, and does not end the login")
        self.refusal, self.is_done = message, not message
        return b"" if self.is_done else b"\x01"  # now the broker says that the login has failed


class ScramClient:
    """See `scram`: the messages are there. `nonce` is random, printable and without a comma."""

    def __init__(self, mechanism: Mechanism, user: str, password: str, nonce: str) -> None:
        self.kind, self.mechanism = mechanism, mechanism.label
        self.password, self.nonce = password, nonce
        self.bare = f"n={escape(user)},r={nonce}"
        self.signature: bytes | None = None
        self.is_done = False

    def first(self) -> bytes:
        return f"n,,{self.bare}".encode()

    def respond(self, message: bytes) -> bytes:
        if self.is_done or len(message) > MESSAGE_BYTES_MAX:
            raise AuthenticationError("the broker sent a SCRAM message that does not belong here")
        try:
            text = message.decode()
        except UnicodeDecodeError as error:
            raise AuthenticationError("the broker sent a SCRAM message that is not text") from error
        fields = attributes(text)
        if "e" in fields:
            raise AuthenticationError(f"the broker refuses the login: {fields['e']}")
        if self.signature is None:
            return self.prove(text, fields).encode()
        self.check_signature(fields)
        return b""

    def prove(self, challenge: str, fields: dict[str, str]) -> str:
        """The message with the proof that this client has the password."""
        nonce = fields.get("r", "")
        if not nonce.startswith(self.nonce) or len(nonce) == len(self.nonce):
            raise AuthenticationError("the broker's SCRAM nonce does not begin with the client's own")
        salt = decode_base64(fields.get("s", ""))
        iterations = int(text) if (text := fields.get("i", "")).isdecimal() and len(text) < 10 else 0
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_TAKEN_MAX:
            raise AuthenticationError(
                f"the broker asks for {text or 'no'} SCRAM iterations; {ITERATIONS_MIN} to {ITERATIONS_TAKEN_MAX} are allowed"
            )
        name = self.kind.hash_name
        salted = salt_password(self.kind, self.password, salt, iterations)
        unsigned = f"c=biws,r={nonce}"
        signed = f"{self.bare},{challenge},{unsigned}".encode()
        client_key = hmac.digest(salted, b"Client Key", name)
        by_stored_key = hmac.digest(hashlib.new(name, client_key).digest(), signed, name)
        proof = bytes(a ^ b for a, b in zip(client_key, by_stored_key, strict=True))
        self.signature = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
        return f"{unsigned},p={base64.b64encode(proof).decode()}"

    def check_signature(self, fields: dict[str, str]) -> None:
        assert self.signature is not None
        if not hmac.compare_digest(decode_base64(fields.get("v", "")), self.signature):
            raise AuthenticationError("the broker does not know this user's password: its SCRAM signature is wrong")
        self.is_done = True


def escape(user: str) -> str:
    """A user's name as it is written in a message."""
    return user.replace("=", "=3D").replace(",", "=2C")


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AuthenticationError("the broker sent a SCRAM message that is not base64") from error


def new_client_exchange(mechanism: str, user: str, password: str, new_nonce: Callable[[], str]) -> ClientExchange:
    """The client's side for one of MECHANISMS. The password of OAUTHBEARER is the token, and its user may be empty."""
    assert mechanism in MECHANISMS, mechanism
    if mechanism == OAUTHBEARER:
        return BearerClient(user, password)
    if mechanism == PLAIN:
        return PlainClient(user, password)
    kind = next(kind for kind in Mechanism if kind.label == mechanism)
    return ScramClient(kind, user, password, new_nonce())
