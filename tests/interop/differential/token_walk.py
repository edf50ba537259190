"""Delegation tokens on both brokers: users, and clients with tokens, make them, see them, renew them and end them.

A walk has its own users, so that it sees no tokens of other walks. Times are compared in minutes since the request: all
periods are whole minutes, or so short that the token has expired when the next request comes.
"""

import base64
import random
import time
from typing import Any, NamedTuple

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.security.acls import Operation, PatternType, Permission, ResourceType
from headwater.security.sasl_client import ScramClient
from headwater.security.scram import Mechanism, salt_password
from tests.broker.wire import Wire
from tests.security.matrix import message

MINUTE_MS = 60_000
PASSWORD = "water"
MECHANISMS = tuple(Mechanism)
TRIES_MAX = 20_000
SALT = bytes(range(24))


class Login(NamedTuple):
    """What a broker says to a login."""

    code: int
    message: str | None
    lifetime_ms: int


class Token(NamedTuple):
    """A token as one of the brokers has made it."""

    token_id: str
    hmac: bytes
    expires_ms: int

    @property
    def password(self) -> str:
        return base64.b64encode(self.hmac).decode()


NO_TOKEN = Token("none", b"none", 0)


def log_in(wire: Wire, user: str, password: str, mechanism: Mechanism, *, is_token: bool) -> Login:
    handshake = message(ApiKey.SASL_HANDSHAKE)(mechanism.label)
    assert wire.call(ApiKey.SASL_HANDSHAKE, 1, handshake).error_code == 0
    client = ScramClient(mechanism, user, password, "nonceofaclient")
    client.bare += ",tokenauth=true" if is_token else ""
    data = client.first()
    while True:
        answer = wire.call(ApiKey.SASL_AUTHENTICATE, 2, message(ApiKey.SASL_AUTHENTICATE)(data))
        if answer.error_code:
            return Login(answer.error_code, answer.error_message, 0)
        data = client.respond(answer.auth_bytes)
        if client.is_done:
            return Login(0, None, answer.session_lifetime_ms)


class SecuredSide:
    """One of the brokers: a connection in the clear, which may do everything, and one for each user."""

    def __init__(self, plain_address: str, sasl_address: str) -> None:
        self.sasl_address = sasl_address
        self.plain = Wire(plain_address)
        self.wires: dict[str, Wire] = {}
        self.tokens: list[Token] = []

    def close(self) -> None:
        for wire in (self.plain, *self.wires.values()):
            wire.socket.close()

    def add_user(self, user: str) -> None:
        m = message(ApiKey.ALTER_USER_SCRAM_CREDENTIALS)
        for kind in MECHANISMS:
            salted = salt_password(kind, PASSWORD, SALT, 4096)
            change = m.ScramCredentialUpsertion(user, kind, 4096, SALT, salted)
            answer = self.plain.call(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, m([], [change]))
            assert [result.error_code for result in answer.results] == [0], answer
        self.log_in(user)

    def log_in(self, user: str) -> None:
        for _ in range(TRIES_MAX):  # a Kafka knows a new user after a moment
            wire = Wire(self.sasl_address)
            if not log_in(wire, user, PASSWORD, Mechanism.SCRAM_SHA_256, is_token=False).code:
                self.wires[user] = wire
                return
            wire.socket.close()
        raise AssertionError(f"{user} cannot log in")

    def allow(self, user: str, operation: Operation, owner: str) -> None:
        m = message(ApiKey.CREATE_ACLS)
        entry = m.AclCreation(
            ResourceType.USER,
            f"User:{owner}",
            PatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            Permission.ALLOW,
        )
        assert self.plain.call(ApiKey.CREATE_ACLS, 3, m([entry])).results[0].error_code == 0

    def token(self, number: int) -> Token:
        return self.tokens[number % len(self.tokens)] if self.tokens else NO_TOKEN

    def ask(self, client: str, key: ApiKey, version: int, body: Any) -> Any:
        """The answer to a user, or to a client in the clear (an empty name)."""
        return (self.wires[client] if client else self.plain).call(key, version, body)

    def wait_for(self, observer: str, token: Token, expires_ms: int | None) -> None:
        """Returns when the broker shows a token with this expiry, or none; a Kafka does so after a moment."""
        body = message(ApiKey.DESCRIBE_DELEGATION_TOKEN)(None)
        for _ in range(TRIES_MAX):
            seen = self.ask(observer, ApiKey.DESCRIBE_DELEGATION_TOKEN, 3, body).tokens
            if {t.expiry_timestamp for t in seen if t.token_id == token.token_id} == (
                {expires_ms} if expires_ms is not None else set()
            ):
                return
        raise AssertionError(f"{token.token_id} is not shown with its expiry")


def minutes(moment_ms: int, now_ms: int) -> int | None:
    return None if moment_ms <= 0 else round((moment_ms - now_ms) / MINUTE_MS)


class TokenWalk:
    """A sequence of requests, the same to both sides. `trail` says what was asked."""

    def __init__(self, seed: str, sides: tuple[SecuredSide, SecuredSide]) -> None:
        self.random = random.Random(seed)
        self.sides = sides
        self.trail: list[str] = []
        self.alice, self.bob, self.eve = self.users = tuple(f"{name}-{seed}" for name in ("alice", "bob", "eve"))
        self.observer = f"observer-{seed}"
        for side in sides:
            side.tokens = []
            for user in (*self.users, self.observer):
                side.add_user(user)
            for user in self.users:
                side.allow(self.observer, Operation.DESCRIBE_TOKENS, user)
            side.allow(self.bob, Operation.CREATE_TOKENS, self.alice)
            side.allow(self.eve, Operation.DESCRIBE_TOKENS, self.bob)
            side.wait_for(self.observer, NO_TOKEN, None)

    def step(self) -> tuple[str, Any, Any]:
        """Draws a step and takes it on both sides. Returns its kind, and what they say: first an error code."""
        (kind,) = self.random.choices(("create", "renew", "expire", "describe", "log_in"), (3, 3, 2, 3, 4))
        drawn: dict[str, Any] = {
            "client": self.random.choice((*self.users, self.alice, self.bob, "")),
            "number": self.random.randrange(1 << 16),
            "period_ms": self.random.choice((-1, 0, 1, 30 * MINUTE_MS, 100 * MINUTE_MS, 20_000 * MINUTE_MS)),
            "people": self.random.sample(self.users, self.random.randrange(3)),
            "mechanism": self.random.choice(MECHANISMS),
            "oddity": self.random.random(),
        }
        self.trail.append(f"{kind} {drawn}")
        one, other = (getattr(self, kind)(side, **drawn) for side in self.sides)
        return kind, one, other

    def create(self, side: SecuredSide, client: str, people: list[str], period_ms: int, oddity: float, **_: Any) -> Any:
        m = message(ApiKey.CREATE_DELEGATION_TOKEN)
        kind = "Group" if oddity < 0.1 else "User"
        owner = ("User", self.alice) if oddity > 0.6 else (None, None)
        renewers = [m.CreatableRenewers(kind, user) for user in people]
        version = 3 if oddity < 0.8 else 2
        answer = side.ask(client, ApiKey.CREATE_DELEGATION_TOKEN, version, m(*owner, renewers, period_ms))
        if not answer.error_code:
            made = Token(answer.token_id, bytes(answer.hmac), answer.expiry_timestamp_ms)
            side.tokens.append(made)
            side.wait_for(self.observer, made, made.expires_ms)
            self.let_expire(made.expires_ms)
        return (
            answer.error_code,
            (answer.principal_type, answer.principal_name),
            (answer.token_requester_principal_type, answer.token_requester_principal_name),
            answer.issue_timestamp_ms if answer.error_code else None,
            answer.expiry_timestamp_ms - answer.issue_timestamp_ms,
            answer.max_timestamp_ms - answer.issue_timestamp_ms,
            (len(answer.token_id), len(answer.hmac)),
        )

    def let_expire(self, expires_ms: int) -> None:
        """What ends in this minute is over before the next request."""
        while -MINUTE_MS / 2 < time.time() * 1000 - expires_ms <= 1:
            pass

    def renew(self, side: SecuredSide, client: str, number: int, period_ms: int, **_: Any) -> Any:
        return self.change(side, client, number, period_ms, ApiKey.RENEW_DELEGATION_TOKEN)

    def expire(self, side: SecuredSide, client: str, number: int, period_ms: int, **_: Any) -> Any:
        return self.change(side, client, number, period_ms, ApiKey.EXPIRE_DELEGATION_TOKEN)

    def change(self, side: SecuredSide, client: str, number: int, period_ms: int, key: ApiKey) -> Any:
        token = side.token(number)
        answer = side.ask(client, key, 2, message(key)(token.hmac, period_ms))
        now_ms = int(time.time() * 1000)
        if not answer.error_code:
            is_removed = key is ApiKey.EXPIRE_DELEGATION_TOKEN and period_ms < 0
            side.wait_for(self.observer, token, None if is_removed else answer.expiry_timestamp_ms)
            self.let_expire(answer.expiry_timestamp_ms)
        return answer.error_code, minutes(answer.expiry_timestamp_ms, now_ms) or answer.expiry_timestamp_ms <= 0

    def describe(self, side: SecuredSide, client: str, people: list[str], oddity: float, **_: Any) -> Any:
        m = message(ApiKey.DESCRIBE_DELEGATION_TOKEN)
        owners = None if oddity < 0.5 else [m.DescribeDelegationTokenOwner("User", user) for user in people]
        answer = side.ask(client, ApiKey.DESCRIBE_DELEGATION_TOKEN, 3, m(owners))
        now_ms, numbers = int(time.time() * 1000), {token.token_id: n for n, token in enumerate(side.tokens)}
        return answer.error_code, sorted(
            (
                numbers[token.token_id],
                bytes(token.hmac) == side.tokens[numbers[token.token_id]].hmac,
                (token.principal_type, token.principal_name),
                (token.token_requester_principal_type, token.token_requester_principal_name),
                [(renewer.principal_type, renewer.principal_name) for renewer in token.renewers],
                minutes(token.issue_timestamp, now_ms),
                minutes(token.expiry_timestamp, now_ms),
                minutes(token.max_timestamp, now_ms),
            )
            for token in answer.tokens
        )

    def log_in(self, side: SecuredSide, number: int, mechanism: Mechanism, oddity: float, **_: Any) -> Any:
        """A login with a token; it may not make tokens."""
        token = side.token(number)
        password = token.password if oddity < 0.8 else "guess"
        with Wire(side.sasl_address) as wire:
            login = log_in(wire, token.token_id, password, mechanism, is_token=oddity < 0.9)
            if login.code:
                return login.code, login.message
            m = message(ApiKey.CREATE_DELEGATION_TOKEN)
            try:
                answer = wire.call(ApiKey.CREATE_DELEGATION_TOKEN, 3, m(None, None, [], -1))
            except ConnectionError:  # Kafka lets an expired token in, and ends the session with its first request
                return (
                    ErrorCode.SASL_AUTHENTICATION_FAILED,
                    "Authentication failed during authentication due to invalid credentials with SASL mechanism "
                    f"{mechanism.label}",
                )
            return answer.error_code, answer.principal_name, minutes(login.lifetime_ms, 0)
