"""Every API has an answer for a request in which a defect of the broker shows; and the connection stays usable."""

from collections.abc import Iterator
from typing import Any

import pytest

import headwater as hw
from headwater.broker.dispatch import SERVED, served_api
from headwater.broker.failed_answers import ERROR_CODES, failed_frame
from headwater.broker.shell.embedded import ThreadRunner
from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame, response_header_version
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.replay.deferred import Deferred

from .wire import Wire


def sample(class_: Any, root: Any, version: int) -> Any:
    """A message with two elements in each array."""
    made = class_()
    for field in class_.SCHEMA:
        if not (field.low <= version <= field.high and field.is_array):
            continue
        inner = getattr(root, field.element, None)
        plain = {"string": ["a", "b"], "uuid": [b"u" * 16, b"v" * 16]}.get(field.element, [3, 4])
        setattr(made, field.name, [sample(inner, root, version) for _ in "12"] if inner is not None else plain)
    return made


def error_codes(message: Any, version: int) -> Iterator[int]:
    for field in message.SCHEMA:
        if not field.low <= version <= field.high:
            continue
        value = getattr(message, field.name)
        if field.name in ERROR_CODES:
            yield value
        for each in value if isinstance(value, list) else ():
            if hasattr(each, "SCHEMA"):
                yield from error_codes(each, version)


def answer_to(key: int, version: int, request: Any) -> Any:
    api = APIS[key]
    buffers = failed_frame(bytearray(request_frame(api, version, 7, "x", request)[4:]))
    assert buffers is not None
    frame = b"".join(buffers)
    assert frame[4:8] == b"\0\0\0\7"
    class_ = response_class(key)
    message, end = decode(class_, version, frame, 9 if response_header_version(api, version) else 8)
    assert end == len(frame)
    return message


@pytest.mark.parametrize("key", SERVED)
def test_every_version_of_every_api_has_an_answer(key: ApiKey) -> None:
    for version in range(APIS[key].low, APIS[key].latest_stable + 1):
        request_class = served_api(key).request_class
        request = sample(request_class, request_class, version)
        if key == ApiKey.PRODUCE:
            request.acks = -1
        codes = list(error_codes(answer_to(key, version, request), version))
        assert codes, f"version {version}"
        assert set(codes) == {ErrorCode.UNKNOWN_SERVER_ERROR}, f"version {version}"


def test_it_says_what_has_failed() -> None:
    data = ProduceRequest.PartitionProduceData
    topics = [ProduceRequest.TopicProduceData(name="t", partition_data=[data(3), data(5)])]
    answer = answer_to(ApiKey.PRODUCE, 9, ProduceRequest(None, -1, 1000, topics))
    assert answer.responses[0].name == "t"
    assert [partition.index for partition in answer.responses[0].partition_responses] == [3, 5]
    answer = answer_to(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["a", "b"]))
    assert [topic.name for topic in answer.responses] == ["a", "b"]


def test_a_producer_that_awaits_no_answer_gets_none() -> None:
    frame = request_frame(APIS[0], 9, 7, "x", ProduceRequest(None, 0, 1000, []))
    assert failed_frame(bytearray(frame[4:])) is None


def fails(core: Any, request: Any) -> Any:
    raise RuntimeError("a defect")


def fails_in_steps(core: Any, request: Any) -> Any:
    """Work of several slices, of which the last fails."""
    ends_ms = core.clock.steady_ms() + 30
    while core.clock.steady_ms() < ends_ms:
        yield
    raise RuntimeError("a defect")


def answers_nonsense_later(core: Any, request: Any) -> Any:
    deferred: Deferred[str] = Deferred()
    core.timers.call_later(1, lambda: deferred.complete("no response at all"))
    return deferred


@pytest.fixture
def broker() -> Iterator[hw.Broker]:
    with hw.Broker() as running:
        yield running


def break_metadata(broker: hw.Broker, monkeypatch: pytest.MonkeyPatch, handle: Any) -> None:
    from headwater.broker import dispatch

    monkeypatch.setitem(dispatch.served_cache, ApiKey.METADATA, served_api(ApiKey.METADATA)._replace(handle=handle))
    assert isinstance(broker.runner, ThreadRunner)


@pytest.mark.parametrize("handle", [fails, fails_in_steps])
def test_the_connection_stays_usable(broker: hw.Broker, monkeypatch: pytest.MonkeyPatch, handle: Any) -> None:
    break_metadata(broker, monkeypatch, handle)
    topic = MetadataRequest.MetadataRequestTopic(name="t")
    with Wire(broker.address) as wire:
        for n in range(3):
            wire.send(ApiKey.METADATA, 9, MetadataRequest([topic]), n)
            wire.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("a", "1"), n)
        for n in range(3):
            answer = wire.receive(ApiKey.METADATA, 9, n)
            assert [(t.name, t.error_code) for t in answer.topics] == [("t", ErrorCode.UNKNOWN_SERVER_ERROR)]
            assert wire.receive(ApiKey.API_VERSIONS, 3, n).error_code == 0


def test_an_answer_that_cannot_be_written_ends_the_connection(
    broker: hw.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_metadata(broker, monkeypatch, answers_nonsense_later)
    with Wire(broker.address) as wire, Wire(broker.address) as other:
        wire.send(ApiKey.METADATA, 9, MetadataRequest([]))
        assert wire.socket.recv(1) == b""
        assert other.call(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("a", "1")).error_code == 0
