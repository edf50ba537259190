"""A client's side of one connection to a broker: which bytes to send, and what the bytes that come say. No I/O.

A connection begins with a question: which versions of which requests does the broker have (KIP-35, KIP-511)? The login
comes next, if there is one: SaslHandshake chooses the mechanism, then SaslAuthenticate carries its messages (KIP-43,
KIP-152). Only then is the connection ready for requests. Each is sent in the highest version that both
sides have. A broker answers a connection's requests in their order.

    state            what has happened        next state
    VERSIONS         OLDER_VERSION            VERSIONS        the broker is older: asked again in its version
    VERSIONS         NO_LOGIN                 READY
    VERSIONS         LOGIN                    HANDSHAKE
    HANDSHAKE        MECHANISM_TAKEN          AUTHENTICATION
    AUTHENTICATION   CHALLENGED               AUTHENTICATION  SCRAM has two rounds
    AUTHENTICATION   LOGGED_IN                READY
    any              BROKEN                   BROKEN

    conversation = Conversation("localhost:9092", "headwater", None)
    socket.send(conversation.data_to_send())
    conversation.receive(socket.recv(65536))                  # is_ready, after an answer or three
    conversation.request(MetadataRequest([]))
    socket.send(conversation.data_to_send())
    conversation.receive(socket.recv(65536))
    conversation.next_answer()                                # MetadataResponse, or None if it is not all there yet

What comes from the network is bounded before it is looked at: a frame has a largest size, and no answer is accepted that was
not asked for. A request that has no answer (Produce with acks=0) has no place here.
"""

import struct
from collections import deque
from enum import Enum
from typing import Any, NamedTuple

from headwater.client.errors import (
    AuthenticationError,
    ClientError,
    ConfigurationError,
    UnreadableAnswerError,
    UnsupportedRequestError,
    answered_error,
)
from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import LENGTH_BYTES, request_frame, response_header_version
from headwater.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from headwater.security.sasl_client import ClientExchange
from headwater.security.scram import AuthenticationError as ExchangeError

FRAME_BYTES_MAX = 64 << 20
IN_FLIGHT_MAX = 1000
API_VERSIONS_VERSION = 4
CORRELATION_BYTES = 4
unpack_length = struct.Struct(">i").unpack_from
unpack_error = struct.Struct(">h").unpack_from


class State(Enum):
    """See the module's docstring."""

    VERSIONS = "asks for the broker's versions"
    HANDSHAKE = "agrees on a mechanism"
    AUTHENTICATION = "logs in"
    READY = "takes requests"
    BROKEN = "is of no more use"


class Step(Enum):
    """What changes the state."""

    OLDER_VERSION = "the broker is older"
    NO_LOGIN = "its versions are known, and no login is wanted"
    LOGIN = "its versions are known, and a login is wanted"
    MECHANISM_TAKEN = "the broker has the mechanism"
    CHALLENGED = "the broker asks for another message"
    LOGGED_IN = "the broker accepts the login, and proved itself"
    BROKEN = "the bytes make no sense, or the broker refuses"


NEXT = {
    (State.VERSIONS, Step.OLDER_VERSION): State.VERSIONS,
    (State.VERSIONS, Step.NO_LOGIN): State.READY,
    (State.VERSIONS, Step.LOGIN): State.HANDSHAKE,
    (State.HANDSHAKE, Step.MECHANISM_TAKEN): State.AUTHENTICATION,
    (State.AUTHENTICATION, Step.CHALLENGED): State.AUTHENTICATION,
    (State.AUTHENTICATION, Step.LOGGED_IN): State.READY,
    **{(state, Step.BROKEN): State.BROKEN for state in State},
}


class Expected(NamedTuple):
    """A request whose answer has yet to come."""

    correlation_id: int
    key: int
    version: int


class Conversation:
    """See the module's docstring. `address` is for messages. Every method that raises leaves it BROKEN."""

    def __init__(
        self,
        address: str,
        client_id: str,
        exchange: ClientExchange | None = None,
        *,
        negotiates: bool = True,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        """Without `negotiates` it is ready at once, and each request needs its version."""
        self.address, self.client_id, self.exchange = address, client_id, exchange
        self.frame_bytes_max = frame_bytes_max
        self.state = State.VERSIONS if negotiates else State.READY
        self.versions: dict[int, tuple[int, int]] = {}  # what the broker has, by API key
        self.session_lifetime_ms = 0  # how long the login lasts; 0: as long as the connection (KIP-368)
        self.correlation_id = 0
        self.expected: deque[Expected] = deque()
        self.outgoing = bytearray()
        self.incoming = bytearray()
        if negotiates:
            self.put(ApiVersionsRequest("headwater", "0"), API_VERSIONS_VERSION)

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY

    def step(self, step: Step) -> None:
        self.state = NEXT[self.state, step]

    # -- out

    def data_to_send(self) -> bytes:
        """The bytes to send next; they are handed over once."""
        data = bytes(self.outgoing)
        self.outgoing.clear()
        return data

    def request(self, message: Any, version: int | None = None, *, at_least: int = 0) -> int:
        """Sends a request, in the highest version that both sides have unless one is given. Returns its correlation id.

        A field that a version does not have is left out, so a request that needs a field gives the version in
        `at_least`. If it raises UnsupportedRequestError, the conversation is as before.
        """
        assert self.is_ready, self.state
        if len(self.expected) >= IN_FLIGHT_MAX:
            raise ClientError(f"{IN_FLIGHT_MAX} requests wait for an answer of {self.address}; await some first")
        return self.put(message, self.common_version(message.API_KEY, at_least) if version is None else version)

    def common_version(self, key: int, at_least: int = 0) -> int:
        api = APIS[key]
        lowest = max(api.low, at_least)
        low, high = self.versions.get(key, (0, -1))
        version = min(api.latest_stable, high)
        if version < max(lowest, low):
            theirs = f"versions {low} to {high}" if high >= 0 else "no version"
            raise UnsupportedRequestError(
                f"the broker at {self.address} has {theirs} of {api.name}; {lowest} to {api.latest_stable} will do"
            )
        return version

    def put(self, message: Any, version: int) -> int:
        key = message.API_KEY
        self.correlation_id = self.correlation_id + 1 & 0x7FFFFFFF
        try:
            self.outgoing += request_frame(APIS[key], version, self.correlation_id, self.client_id, message)
        except ProtocolError as error:
            raise ConfigurationError(f"{APIS[key].name} for {self.address} cannot be sent: {error}") from error
        self.expect(self.correlation_id, key, version)
        return self.correlation_id

    def expect(self, correlation_id: int, key: int, version: int) -> None:
        """Registers a request that was sent in another way, so that its answer is accepted."""
        self.expected.append(Expected(correlation_id, key, version))

    # -- in

    def receive(self, data: bytes) -> None:
        """Accepts received bytes. While the connection is being made, it also acts on them. Raises ClientError."""
        self.incoming += data
        try:
            while self.state not in (State.READY, State.BROKEN) and (frame := self.next_frame()) is not None:
                self.advance(*self.decode(frame))
        except ClientError:
            self.step(Step.BROKEN)
            raise

    def next_answer(self) -> Any:
        """The next answer, in the order of the requests; None if it has not come. Raises UnreadableAnswerError."""
        try:
            frame = self.next_frame()
            return None if frame is None else self.decode(frame)[1]
        except ClientError:
            self.step(Step.BROKEN)
            raise

    def next_frame(self) -> bytes | None:
        if len(self.incoming) < LENGTH_BYTES:
            return None
        size = unpack_length(self.incoming)[0]
        if not CORRELATION_BYTES <= size <= self.frame_bytes_max:
            raise UnreadableAnswerError(
                f"{self.address} sent an answer of {size} bytes ({CORRELATION_BYTES} to {self.frame_bytes_max} are allowed)"
            )
        end = LENGTH_BYTES + size
        if len(self.incoming) < end:
            return None
        frame = bytes(memoryview(self.incoming)[LENGTH_BYTES:end])
        del self.incoming[:end]
        return frame

    def decode(self, frame: bytes) -> tuple[Expected, Any]:
        correlation_id = unpack_length(frame)[0]
        if not self.expected or self.expected[0].correlation_id != correlation_id:
            raise UnreadableAnswerError(
                f"{self.address} sent an answer to request {correlation_id}, which was not asked"
            )
        found = self.expected.popleft()
        api, version = APIS[found.key], found.version
        if self.state is State.VERSIONS and unpack_error(frame.ljust(6, b"\0"), CORRELATION_BYTES)[0]:
            version = 0  # an older broker says so in the first version
        start = CORRELATION_BYTES + (response_header_version(api, version) > 0)
        try:
            message, end = decode(response_class(found.key), version, frame, start)
        except ProtocolError as error:
            raise UnreadableAnswerError(
                f"{self.address} sent an answer to {api.name} that cannot be read: {error}"
            ) from error
        if end != len(frame):
            raise UnreadableAnswerError(f"{self.address} sent {len(frame) - end} bytes after an answer to {api.name}")
        return found, message

    # -- the beginning

    def advance(self, asked: Expected, answer: Any) -> None:
        if self.state is State.VERSIONS:
            self.learn_versions(asked, answer)
        elif self.state is State.HANDSHAKE:
            self.begin_login(answer)
        else:
            self.continue_login(answer)

    def learn_versions(self, asked: Expected, answer: ApiVersionsResponse) -> None:
        self.versions = {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}
        if answer.error_code:
            known = self.versions.get(ApiKey.API_VERSIONS)
            if answer.error_code != ErrorCode.UNSUPPORTED_VERSION or asked.version == 0:
                raise answered_error(answer.error_code, f"asking {self.address} for its versions")
            # Before Kafka 2.4 the answer does not say which versions there are (KIP-511).
            version = min(known[1], asked.version - 1) if known is not None else 0
            self.put(ApiVersionsRequest("headwater", "0"), max(0, version))
            self.step(Step.OLDER_VERSION)
        elif self.exchange is None:
            self.step(Step.NO_LOGIN)
        else:
            low, high = self.versions.get(ApiKey.SASL_HANDSHAKE, (0, -1))
            if not low <= 1 <= high:
                raise AuthenticationError(f"the broker at {self.address} has no login on this listener")
            self.put(SaslHandshakeRequest(self.exchange.mechanism), 1)
            self.step(Step.LOGIN)

    def begin_login(self, answer: Any) -> None:
        assert self.exchange is not None
        if answer.error_code:
            theirs = ", ".join(answer.mechanisms) or "none"
            raise AuthenticationError(
                f"the broker at {self.address} does not take {self.exchange.mechanism} (it takes {theirs})",
                "UNSUPPORTED_SASL_MECHANISM",
            )
        self.authenticate(self.exchange.first())
        self.step(Step.MECHANISM_TAKEN)

    def continue_login(self, answer: Any) -> None:
        assert self.exchange is not None
        if answer.error_code:
            raise answered_error(answer.error_code, f"logging in at {self.address}", answer.error_message)
        try:
            response = self.exchange.respond(answer.auth_bytes)
        except ExchangeError as error:
            raise AuthenticationError(f"logging in at {self.address}: {error}") from error
        if self.exchange.is_done:
            self.session_lifetime_ms = answer.session_lifetime_ms
            self.step(Step.LOGGED_IN)
        else:
            self.authenticate(response)
            self.step(Step.CHALLENGED)

    def authenticate(self, message: bytes) -> None:
        self.put(SaslAuthenticateRequest(message), self.common_version(ApiKey.SASL_AUTHENTICATE))
