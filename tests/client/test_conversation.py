"""The client's side of a connection, without a socket: a scripted broker answers its bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater.client.conversation
from headwater.client.conversation import IN_FLIGHT_MAX, NEXT, Conversation, State, Step
from headwater.client.errors import (
    AuthenticationError,
    ClientError,
    ConfigurationError,
    UnreadableAnswerError,
    UnsupportedRequestError,
)
from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import read_request_header, response_frame
from headwater.protocol.messages.api_versions import ApiVersionsResponse
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from headwater.protocol.messages.metadata import MetadataRequest, MetadataResponse
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateResponse
from headwater.protocol.messages.sasl_handshake import SaslHandshakeResponse
from headwater.security.sasl_client import PlainClient, ScramClient
from headwater.security.scram import Mechanism

ALL = {key: (api.low, api.latest_stable) for key, api in APIS.items()}


class Broker:
    """Reads a conversation's requests, and answers as the test says."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.incoming = b""

    def next_request(self) -> tuple[int, int, int, Any]:
        """Its key, version, correlation id and message."""
        self.incoming += self.conversation.data_to_send()
        size = int.from_bytes(self.incoming[:4], "big")
        frame, self.incoming = self.incoming[4 : 4 + size], self.incoming[4 + size :]
        header = read_request_header(frame)
        message, end = decode(request_class(header.api_key), header.api_version, frame, header.body_at)
        assert end == len(frame)
        return header.api_key, header.api_version, header.correlation_id, message

    def answer(self, message: Any, *, version: int | None = None) -> None:
        """Answers the next request, in its version unless another is said."""
        self.conversation.receive(self.bytes_of(message, version))

    def bytes_of(self, message: Any, version: int | None = None) -> bytes:
        key, asked, correlation_id, _ = self.next_request()
        return b"".join(response_frame(APIS[key], asked if version is None else version, correlation_id, message))


def versions(ranges: dict[int, tuple[int, int]], error: int = 0) -> ApiVersionsResponse:
    return ApiVersionsResponse(error, [ApiVersionsResponse.ApiVersion(key, *pair) for key, pair in ranges.items()])


def ready(ranges: dict[int, tuple[int, int]] | None = None) -> tuple[Conversation, Broker]:
    conversation = Conversation("here:9092", "tests")
    broker = Broker(conversation)
    broker.answer(versions(ALL if ranges is None else ranges))
    assert conversation.is_ready
    return conversation, broker


def test_asks_for_versions_and_then_each_request_in_the_highest_common_one() -> None:
    conversation, broker = ready({**ALL, ApiKey.METADATA: (0, 7), ApiKey.LIST_GROUPS: (0, 99)})
    conversation.request(MetadataRequest([]))
    conversation.request(ListGroupsRequest())
    assert broker.next_request()[:2] == (ApiKey.METADATA, 7)
    assert broker.next_request()[:2] == (ApiKey.LIST_GROUPS, 5)


def test_a_request_without_a_common_version_is_named_and_the_conversation_continues() -> None:
    conversation, broker = ready({ApiKey.METADATA: (0, 13), ApiKey.LIST_GROUPS: (9, 10), ApiKey.JOIN_GROUP: (0, 4)})
    with pytest.raises(UnsupportedRequestError, match="here:9092 has no version of FindCoordinator"):
        conversation.request(FindCoordinatorRequest("g"))
    with pytest.raises(UnsupportedRequestError, match="versions 9 to 10 of ListGroups"):
        conversation.request(ListGroupsRequest())
    with pytest.raises(UnsupportedRequestError, match="versions 0 to 4 of JoinGroup; 5 to 9 will do"):
        conversation.request(JoinGroupRequest("g", group_instance_id="one"), at_least=5)
    conversation.request(MetadataRequest([]))
    broker.answer(MetadataResponse())
    assert conversation.next_answer() == MetadataResponse()


@pytest.mark.parametrize(("ranges", "second"), [({ApiKey.API_VERSIONS: (0, 2)}, 2), ({}, 0)])
def test_an_older_broker_is_asked_in_its_own_version(ranges: dict[int, tuple[int, int]], second: int) -> None:
    conversation = Conversation("here:9092", "tests")
    broker = Broker(conversation)
    broker.answer(versions(ranges, ErrorCode.UNSUPPORTED_VERSION), version=0)
    assert conversation.state is State.VERSIONS
    key, version, correlation_id, _ = broker.next_request()
    assert (key, version) == (ApiKey.API_VERSIONS, second)
    conversation.receive(b"".join(response_frame(APIS[key], version, correlation_id, versions(ALL))))
    assert conversation.is_ready


def test_a_broker_that_refuses_every_version_is_not_asked_for_ever() -> None:
    conversation = Conversation("here:9092", "tests")
    broker = Broker(conversation)
    broker.answer(versions({}, ErrorCode.UNSUPPORTED_VERSION), version=0)
    with pytest.raises(ClientError, match="here:9092"):
        broker.answer(versions({}, ErrorCode.UNSUPPORTED_VERSION), version=0)
    assert conversation.state is State.BROKEN


def test_logs_in_before_it_is_ready() -> None:
    conversation = Conversation("here:9092", "tests", PlainClient("me", "secret"))
    broker = Broker(conversation)
    broker.answer(versions(ALL))
    states = [conversation.state]
    broker.answer(SaslHandshakeResponse(0, ["PLAIN"]))
    assert [*states, conversation.state] == [State.HANDSHAKE, State.AUTHENTICATION]
    *_, request = broker.next_request()
    assert request.auth_bytes == b"\0me\0secret"
    conversation.receive(
        b"".join(response_frame(APIS[36], 2, conversation.correlation_id, SaslAuthenticateResponse(0, None, b"", 3000)))
    )
    assert conversation.is_ready
    assert conversation.session_lifetime_ms == 3000


def logging_in(exchange: PlainClient | ScramClient) -> Broker:
    conversation = Conversation("here:9092", "tests", exchange)
    broker = Broker(conversation)
    broker.answer(versions(ALL))
    broker.answer(SaslHandshakeResponse(0, ["PLAIN"]))
    return broker


def test_a_refused_login_says_what_the_broker_says() -> None:
    broker = logging_in(PlainClient("me", "guess"))
    refused = SaslAuthenticateResponse(ErrorCode.SASL_AUTHENTICATION_FAILED, "Invalid username or password")
    with pytest.raises(AuthenticationError, match="here:9092: Invalid username or password"):
        broker.answer(refused)
    assert broker.conversation.state is State.BROKEN


def test_a_server_that_fails_the_exchange_is_named() -> None:
    broker = logging_in(ScramClient(Mechanism.SCRAM_SHA_256, "me", "secret", "nonce"))
    with pytest.raises(AuthenticationError, match=r"here:9092.*nonce"):
        broker.answer(SaslAuthenticateResponse(0, None, b"r=other,s=AAAA,i=4096"))


def test_a_mechanism_that_the_broker_does_not_have_is_named_with_those_it_has() -> None:
    conversation = Conversation("here:9092", "tests", PlainClient("me", "secret"))
    broker = Broker(conversation)
    broker.answer(versions(ALL))
    with pytest.raises(AuthenticationError, match=r"here:9092 does not take PLAIN .it takes GSSAPI, OAUTHBEARER"):
        broker.answer(SaslHandshakeResponse(ErrorCode.UNSUPPORTED_SASL_MECHANISM, ["GSSAPI", "OAUTHBEARER"]))


def test_a_listener_without_logins_is_named() -> None:
    conversation = Conversation("here:9092", "tests", PlainClient("me", "secret"))
    with pytest.raises(AuthenticationError, match="no login on this listener"):
        Broker(conversation).answer(versions({ApiKey.METADATA: (0, 9)}))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200), st.integers(1, 5))
def test_answers_come_in_order_however_their_bytes_are_cut(sizes: list[int], count: int) -> None:
    conversation, broker = ready()
    for _ in range(count):
        conversation.request(ListGroupsRequest())
    wanted = [ListGroupsResponse(groups=[ListGroupsResponse.ListedGroup(f"g{n}")]) for n in range(count)]
    data = b"".join(map(broker.bytes_of, wanted))
    found: list[Any] = []
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        conversation.receive(piece)
        while (answer := conversation.next_answer()) is not None:
            found.append(answer)
    assert found == wanted


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46\x00", "answer of 352518912 bytes"),  # an alert of TLS
        (b"\xff\xff\xff\xff", "answer of -1 bytes"),
        (b"\0\0\0\x03abc", "answer of 3 bytes"),
        (b"\0\0\0\x04\0\0\0\x63", "request 99, which was not asked"),
        (b"\0\0\0\x04\0\0\0\x02", "Metadata that cannot be read"),
    ],
)
def test_bytes_that_are_no_answer_break_the_conversation(data: bytes, says: str) -> None:
    conversation, _ = ready()
    conversation.request(MetadataRequest([]))
    conversation.receive(data)
    with pytest.raises(UnreadableAnswerError, match=f"here:9092.*{says}"):
        conversation.next_answer()
    assert conversation.state is State.BROKEN


def test_bytes_after_an_answer_break_the_conversation() -> None:
    conversation, broker = ready()
    conversation.request(ListGroupsRequest())
    data = bytearray(broker.bytes_of(ListGroupsResponse()) + b"x")
    data[3] += 1
    conversation.receive(bytes(data))
    with pytest.raises(UnreadableAnswerError, match="1 bytes after an answer to ListGroups"):
        conversation.next_answer()


def test_an_answer_that_nobody_asked_for_breaks_the_conversation() -> None:
    conversation, _ = ready()
    conversation.receive(b"\0\0\0\x04\0\0\0\x01")
    with pytest.raises(UnreadableAnswerError, match="not asked"):
        conversation.next_answer()


def test_requests_in_flight_are_bounded() -> None:
    conversation, _ = ready()
    for _ in range(IN_FLIGHT_MAX):
        conversation.request(ListGroupsRequest())
    with pytest.raises(ClientError, match=f"{IN_FLIGHT_MAX} requests wait"):
        conversation.request(ListGroupsRequest())


def test_a_number_that_no_frame_can_carry_is_refused_before_it_is_sent() -> None:
    conversation, _ = ready()
    conversation.data_to_send()
    with pytest.raises(ConfigurationError, match="JoinGroup for here:9092 cannot be sent"):
        conversation.request(JoinGroupRequest("g", session_timeout_ms=1 << 40))
    assert conversation.data_to_send() == b""


def test_the_table_is_the_one_that_the_module_shows() -> None:
    lines = str(headwater.client.conversation.__doc__).splitlines()
    rows = [line.split()[:3] for line in lines if line.startswith("    ") and line[4:].split(" ")[0].isupper()]
    shown = {(State[state], Step[step]): State[after] for state, step, after in rows}
    assert shown == {pair: after for pair, after in NEXT.items() if pair[1] is not Step.BROKEN}
