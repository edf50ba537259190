"""A small wire client: one request, one answer, over our own frames on a blocking socket.

It is for requests for which librdkafka has no call: administration of transactions, groups of other types than consumers'.
It is neither a producer nor a consumer. `conversation` decides what is sent and what an answer means. This module has
the socket, the time limits and the attempts to connect.

    with Wire(wire_settings("localhost:9092", {"security.protocol": "SSL"})) as wire:
        answer = wire.ask(ListTransactionsRequest())

- There is one connection at a time, to one of the addresses. It is made with the first request, and made again when it is
  lost. A request that was sent when its connection broke is not sent again: whether the broker carried it out is unknown,
  so the caller decides.
- To connect, every address is tried once. With `patience_ms` the round is repeated for that long, with growing pauses.
- Whatever goes wrong is a ClientError with the address in its message. Then the connection is closed, so that a late answer
  is never taken for that of another request.
- A login that has a lifetime (connections.max.reauth.ms) is replaced in time, by a new connection.
- `interrupt` ends it from another thread: the call under way, and every later one, raises WireClosedError.
"""

import base64
import socket
import ssl
import threading
from types import TracebackType
from typing import Any, Self

from headwater.client.backoff import Backoff
from headwater.client.conversation import Conversation
from headwater.client.errors import (
    AuthenticationError,
    BrokerUnavailableError,
    ClientTimeoutError,
    WireClosedError,
)
from headwater.client.names import checked_timeout_ms
from headwater.client.wire_settings import Address, WireSettings
from headwater.effects.clock import Clock, SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.protocol.apis import APIS
from headwater.security.sasl_client import ClientExchange, new_client_exchange

TIMEOUT_MS = 10_000.0
CONNECT_TIMEOUT_MS = 5_000.0
READ_BYTES = 1 << 16
LIFETIME_SHARE = 0.8
NONCE_BYTES = 18


class Wire:
    """See the module's docstring."""

    def __init__(
        self,
        settings: WireSettings,
        *,
        timeout_ms: float = TIMEOUT_MS,
        patience_ms: float = 0.0,
        negotiates: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """Without `negotiates` a request needs its version, and there is no login: for tests of a broker."""
        self.settings = settings
        self.timeout_ms, self.patience_ms = checked_timeout_ms(timeout_ms), checked_timeout_ms(patience_ms)
        self.negotiates = negotiates
        self.clock: Clock = clock or SystemClock()
        self.backoff = Backoff(SystemEntropy())
        self.stream: socket.socket | None = None
        self.conversation: Conversation | None = None
        self.address = self.settings.addresses[0]  # the address that is connected, or was last
        self.renew_ms = float("inf")  # when the login is too old for another request
        self.interrupted = threading.Event()

    @property
    def named(self) -> str:
        """The addresses, for messages."""
        return ",".join(map(str, self.settings.addresses))

    def at(self, address: Address) -> "Wire":
        """Another client with the same settings, of the broker at an address."""
        return Wire(
            self.settings._replace(addresses=(address,)),
            timeout_ms=self.timeout_ms,
            patience_ms=self.patience_ms,
            clock=self.clock,
        )

    # -- requests

    def ask(
        self, message: Any, version: int | None = None, *, at_least: int = 0, timeout_ms: float | None = None
    ) -> Any:
        """Sends a request and returns its answer. Raises ClientError."""
        deadline_ms = self.clock.steady_ms() + (self.timeout_ms if timeout_ms is None else timeout_ms)
        what = APIS[message.API_KEY].name
        conversation = self.ready_conversation(deadline_ms)
        conversation.request(message, version, at_least=at_least)
        return self.answer(deadline_ms, f"{what} of {self.address}")

    def answer(self, deadline_ms: float, what: str) -> Any:
        """The next answer. Raises ClientError; then the connection is closed."""
        conversation = self.conversation
        assert conversation is not None
        try:
            while (found := conversation.next_answer()) is None:
                self.exchange(deadline_ms)
        except TimeoutError as error:
            self.close()
            raise ClientTimeoutError(f"{what}: no answer in time") from error
        except OSError as error:
            self.close()
            self.check_not_interrupted()
            raise BrokerUnavailableError(f"{what}: the connection broke: {reason(error)}") from error
        except BaseException:  # half an answer was read, so the connection is useless
            self.close()
            raise
        return found

    def exchange(self, deadline_ms: float) -> None:
        """Sends the bytes to send, and reads what comes. Raises OSError, of which TimeoutError is one."""
        stream, conversation = self.stream, self.conversation
        if stream is None or conversation is None:
            raise ConnectionAbortedError("it was closed")
        stream.settimeout(self.seconds_to(deadline_ms))
        if data := conversation.data_to_send():
            stream.sendall(data)
            stream.settimeout(self.seconds_to(deadline_ms))
        data = stream.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        conversation.receive(data)

    def seconds_to(self, deadline_ms: float) -> float:
        left_ms = deadline_ms - self.clock.steady_ms()
        if left_ms <= 0:
            raise TimeoutError("the time is up")
        return left_ms / 1000

    # -- the connection

    def ready_conversation(self, deadline_ms: float) -> Conversation:
        """The conversation of a connection that is ready for requests. Raises ClientError."""
        self.check_not_interrupted()
        if self.conversation is not None and (self.clock.steady_ms() >= self.renew_ms or self.is_gone()):
            self.close()
        if self.conversation is None:
            return self.connect(deadline_ms)
        return self.conversation

    def is_gone(self) -> bool:
        """Whether the broker has closed an idle connection: then its end can be read.

        A TLS server may also send session tickets, which are not data, so the end is looked for within TLS.
        """
        stream = self.stream
        assert stream is not None
        stream.settimeout(0)
        try:
            if isinstance(stream, ssl.SSLSocket):
                stream.recv(1)
            else:
                stream.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True

    def connect(self, deadline_ms: float) -> Conversation:
        until_ms = min(deadline_ms, self.clock.steady_ms() + self.patience_ms)
        while True:
            try:
                return self.connect_to_any(deadline_ms)
            except BrokerUnavailableError:
                pause_ms = self.backoff.record_failure()
                if self.clock.steady_ms() + pause_ms >= until_ms:
                    raise
                self.interrupted.wait(pause_ms / 1000)

    def connect_to_any(self, deadline_ms: float) -> Conversation:
        """Tries every address once, the last good one first. Raises ClientError."""
        errors = []
        for address in sorted(self.settings.addresses, key=lambda address: address != self.address):
            self.check_not_interrupted()
            try:
                found = self.connect_to(address, min(deadline_ms, self.clock.steady_ms() + CONNECT_TIMEOUT_MS))
            except OSError as error:
                self.close()
                errors.append(f"{address} ({reason(error)})")
                continue
            except BaseException:
                self.close()
                raise
            self.backoff.succeeded()
            return found
        self.check_not_interrupted()
        raise BrokerUnavailableError(f"no answer from the broker at {'; '.join(errors)}")

    def connect_to(self, address: Address, deadline_ms: float) -> Conversation:
        """Raises OSError, and ClientError for a broker that does not let this client in."""
        started_ms = self.clock.steady_ms()
        self.address = address
        plain = socket.create_connection(address, self.seconds_to(deadline_ms))
        self.stream = plain
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.settings.tls is not None:
            plain.settimeout(self.seconds_to(deadline_ms))
            # The handshake comes after, so that `interrupt` finds the socket.
            self.stream = secured = self.settings.tls.wrap_socket(
                plain, server_hostname=address.host, do_handshake_on_connect=False
            )
            shake_hands(secured, address)
        conversation = Conversation(
            str(address), self.settings.client_id, new_exchange(self.settings), negotiates=self.negotiates
        )
        self.conversation = conversation
        try:
            while not conversation.is_ready:
                self.exchange(deadline_ms)
        except ConnectionResetError as error:
            hint = (
                ""
                if self.settings.tls and self.settings.login
                else "; does it want TLS or a login (security.protocol)?"
            )
            raise ConnectionResetError(f"the broker closed the connection{hint}") from error
        lifetime_ms = conversation.session_lifetime_ms
        self.renew_ms = started_ms + lifetime_ms * LIFETIME_SHARE if lifetime_ms > 0 else float("inf")
        return conversation

    def open(self) -> Self:
        """Connects now, not with the first request. Raises ClientError."""
        self.ready_conversation(self.clock.steady_ms() + self.timeout_ms)
        return self

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        stream, self.stream, self.conversation = self.stream, None, None
        if stream is not None:
            stream.close()

    def interrupt(self) -> None:
        """Ends the client, from any thread."""
        self.interrupted.set()
        stream = self.stream
        if stream is not None:
            try:
                socket.socket.shutdown(stream, socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def check_not_interrupted(self) -> None:
        if self.interrupted.is_set():
            raise WireClosedError(f"the client of {self.named} is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Wire to {self.named}>"


def new_exchange(settings: WireSettings) -> ClientExchange | None:
    """Raises AuthenticationError if a token server gives no token."""
    login = settings.login
    if login is None:
        return None
    nonce = base64.b64encode(SystemEntropy().bytes(NONCE_BYTES)).decode()
    secret = login.password if login.token_source is None else login.token_source.token()
    return new_client_exchange(login.mechanism, login.user, secret, lambda: nonce)


def shake_hands(stream: ssl.SSLSocket, address: Address) -> None:
    """Raises AuthenticationError if the TLS handshake fails, and OSError."""
    try:
        stream.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise AuthenticationError(f"{address}: its certificate is not accepted: {error.verify_message}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise ConnectionResetError("the broker closed the connection in the TLS handshake") from error
    except ssl.SSLError as error:
        raise AuthenticationError(f"{address}: TLS fails: {error.reason or error}") from error


def reason(error: OSError) -> str:
    return "it took too long" if isinstance(error, TimeoutError) else error.strerror or str(error)
