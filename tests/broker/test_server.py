"""The server on a real socket: order of answers, bad input, limits, and that nobody else suffers."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.configs.settings import SettingsError
from headwater.broker.shell.embedded import ThreadRunner
from headwater.effects.clock import ManualClock
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import Record, batches, build_batch
from headwater.storage.errors import DirectoryInUseError

from .wire import Wire


@pytest.fixture(scope="module")
def broker() -> Iterator[hw.Broker]:
    with hw.Broker(settings={"socket.request.max.bytes": 1 << 20}) as running:
        yield running


def is_closed(wire: Wire) -> bool:
    try:
        return wire.socket.recv(1) == b""
    except ConnectionResetError:
        return True


def api_versions_frame() -> bytes:
    return request_frame(APIS[18], 4, 1, "x", ApiVersionsRequest("a", "1"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">i", -1),
        struct.pack(">i", 0),
        struct.pack(">i", 2 << 20) + b"x" * 100,
        struct.pack(">i", 2**31 - 1),
        struct.pack(">ihhih", 10, 999, 0, 1, -1),
        struct.pack(">ihhih", 10, 3, 99, 1, -1),
        struct.pack(">ihhih", 10, 0, 2, 1, -1),
        struct.pack(">ihhih", 10, 3, 9, 1, 500),
        struct.pack(">ihhih", 14, 3, 0, 1, -1) + b"\x7f\xff\xff\xff",
        b"\x16\x03\x01\x02\x00" + bytes(512),
    ],
    ids=["http", "negative", "zero", "too long", "longest", "key", "version", "produce 2", "client id", "count", "tls"],
)
def test_bad_input_closes_only_its_own_connection(broker: hw.Broker, garbage: bytes) -> None:
    with Wire(broker.address) as other, Wire(broker.address) as bad:
        bad.socket.sendall(garbage)
        assert is_closed(bad)
        assert other.call(ApiKey.METADATA, 9, MetadataRequest([])).brokers


def test_a_frame_in_single_bytes(broker: hw.Broker) -> None:
    with Wire(broker.address) as wire:
        for byte in api_versions_frame():
            wire.socket.sendall(bytes((byte,)))
        assert wire.receive(ApiKey.API_VERSIONS, 4).error_code == 0


def test_half_a_frame_harms_nobody(broker: hw.Broker) -> None:
    with Wire(broker.address) as half, Wire(broker.address) as other:
        half.socket.sendall(struct.pack(">i", 1 << 20) + bytes(70_000))
        assert other.call(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("a", "1")).error_code == 0


def test_an_unknown_version_of_api_versions_is_answered(broker: hw.Broker) -> None:
    with Wire(broker.address) as wire:
        wire.socket.sendall(struct.pack(">ihhihx", 11, 18, 77, 5, -1))
        frame = wire.read_frame()
        correlation, error, count = struct.unpack_from(">ihi", frame)
        assert (correlation, error) == (5, ErrorCode.UNSUPPORTED_VERSION)
        assert count > 20


def test_answers_come_in_order(broker: hw.Broker) -> None:
    """A fetch that waits holds back what was asked after it."""
    with Wire(broker.address) as wire, Wire(broker.address) as producer:
        wire.create_topic("order")
        partition = FetchRequest.FetchPartition(0, partition_max_bytes=1000)
        fetch = FetchRequest(
            max_wait_ms=10_000,
            min_bytes=1,
            max_bytes=1000,
            topics=[FetchRequest.FetchTopic(topic="order", partitions=[partition])],
        )
        wire.send(ApiKey.FETCH, 12, fetch, 1)
        for n in range(2, 300):
            wire.send(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("a", "1"), n)
        assert producer.produce("order", 0, build_batch([Record(None, b"v", (), 1)])) == 0
        assert wire.receive(ApiKey.FETCH, 12, 1).responses[0].partitions[0].records
        for n in range(2, 300):
            wire.receive(ApiKey.API_VERSIONS, 4, n)


def test_many_requests_at_once(broker: hw.Broker) -> None:
    with Wire(broker.address) as wire:
        wire.create_topic("pipeline")
        frames = []
        for n in range(2000):
            data = ProduceRequest.PartitionProduceData(0, build_batch([Record(None, b"%d" % n, (), 1)]))
            topic = ProduceRequest.TopicProduceData(name="pipeline", partition_data=[data])
            frames.append(request_frame(APIS[0], 9, n, "x", ProduceRequest(None, -1, 1000, [topic])))
        wire.socket.sendall(b"".join(frames))
        for n in range(2000):
            answer = wire.receive(ApiKey.PRODUCE, 9, n)
            assert answer.responses[0].partition_responses[0].base_offset == n


def test_large_frames_pass(broker: hw.Broker) -> None:
    with Wire(broker.address) as wire:
        wire.create_topic("large")
        batch = build_batch([Record(None, bytes(900_000), (), 1)])
        for _ in range(5):
            assert wire.produce("large", 0, batch) == 0
        offset = 0
        while offset < 5:
            for header, _ in batches(wire.fetch("large", 0, offset)):
                offset = header.next_offset


def test_a_client_that_does_not_read_stops_being_served(broker: hw.Broker) -> None:
    with Wire(broker.address) as lazy, Wire(broker.address) as other:
        lazy.create_topic("lazy")
        lazy.produce("lazy", 0, build_batch([Record(None, bytes(900_000), (), 1)]))
        partition = FetchRequest.FetchPartition(0, partition_max_bytes=1 << 20)
        fetch = FetchRequest(
            max_wait_ms=0, max_bytes=1 << 20, topics=[FetchRequest.FetchTopic(topic="lazy", partitions=[partition])]
        )
        lazy.socket.setblocking(False)
        frame = request_frame(APIS[1], 12, 1, "x", fetch)
        sent = 0
        try:
            for _ in range(200_000):
                sent += lazy.socket.send(frame)
        except BlockingIOError:
            pass
        assert sent < 200_000 * len(frame)
        assert other.call(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("a", "1")).error_code == 0


class TestEmbedded:
    def test_in_memory_and_again(self) -> None:
        broker = hw.Broker()
        for _ in range(2):
            with broker, Wire(broker.address) as wire:
                wire.create_topic("t")
        assert not broker.is_running
        with pytest.raises(hw.BrokerError, match="not started"):
            _ = broker.address

    def test_a_directory_keeps_the_data(self, tmp_path: Path) -> None:
        for n in range(3):
            with hw.Broker(tmp_path / "data") as broker, Wire(broker.address) as wire:
                if n == 0:
                    wire.create_topic("t")
                assert wire.produce("t", 0, build_batch([Record(None, b"v", (), 1)])) == 0
                found = [header.base_offset for header, _ in batches(wire.fetch("t", 0, 0))]
                assert found == list(range(n + 1))

    def test_in_a_child_process(self, tmp_path: Path) -> None:
        with hw.Broker(tmp_path / "data", in_child_process=True) as broker, Wire(broker.address) as wire:
            wire.create_topic("t")
        assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()

    def test_a_full_memory_refuses_writes_serves_reads_and_recovers(self) -> None:
        batch = build_batch([Record(None, bytes(900_000), (), 1)])
        with hw.Broker(memory_bytes_max=64 << 20) as broker, Wire(broker.address) as wire:
            wire.create_topic("t")
            written = 0
            while (error := wire.produce("t", 0, batch)) == 0:
                written += 1
                assert written < 100
            assert error == ErrorCode.KAFKA_STORAGE_ERROR
            assert written > 10
            assert wire.produce("t", 0, batch) == ErrorCode.KAFKA_STORAGE_ERROR
            offset = 0
            while offset < written:
                for header, _ in batches(wire.fetch("t", 0, offset)):
                    offset = header.next_offset
            answer = wire.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["t"]))
            assert answer.responses[0].error_code == 0
            wire.create_topic("u")
            assert wire.produce("u", 0, batch) == 0

    async def test_async(self) -> None:
        async with hw.Broker() as broker:
            assert broker.address.startswith("127.0.0.1:")

    def test_what_cannot_start_says_why(self, tmp_path: Path) -> None:
        with hw.Broker(tmp_path / "data") as broker:
            with pytest.raises(DirectoryInUseError):
                hw.Broker(tmp_path / "data").start()
            port = int(broker.address.split(":")[1])
            with pytest.raises(RuntimeError, match="in use"):
                hw.Broker(port=port).start()
        with pytest.raises(SettingsError, match=r"did you mean num\.partitions"):
            hw.Broker(settings={"num.partition": 3})
        with pytest.raises(SettingsError, match="needs a directory"):
            hw.Broker(in_child_process=True)

    def test_many_connections_come_and_go(self) -> None:
        with hw.Broker() as broker:
            host, port = broker.address.split(":")
            for _ in range(3):
                sockets = [socket.create_connection((host, int(port))) for _ in range(100)]
                for each in sockets:
                    each.close()
            with Wire(broker.address) as wire:
                assert wire.call(ApiKey.METADATA, 9, MetadataRequest([])).brokers


class SteppingClock(ManualClock):
    """Each look at it takes a second: every step of work is a slice of its own."""

    def steady_ms(self) -> float:
        self.advance(1000)
        return super().steady_ms()


def test_requests_that_follow_long_work_are_served_after_it() -> None:
    """What a connection sends while its request is worked on in slices waits, as in Kafka; others are served."""
    names = [f"sliced-{number}" for number in range(100)]
    creation = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic(name, 1, 1) for name in names], 10_000)
    known = MetadataRequest([MetadataRequest.MetadataRequestTopic(name=names[-1])], False)
    requests = [
        request_frame(APIS[ApiKey.CREATE_TOPICS], 7, 1, "wire", creation),
        request_frame(APIS[ApiKey.METADATA], 9, 2, "wire", known),
        request_frame(APIS[ApiKey.DELETE_TOPICS], 5, 3, "wire", DeleteTopicsRequest(topic_names=names)),
        request_frame(APIS[ApiKey.METADATA], 9, 4, "wire", known),
    ]
    with hw.Broker() as broker, Wire(broker.address) as wire, Wire(broker.address) as other:
        assert isinstance(broker.runner, ThreadRunner)
        broker.runner.call(lambda server: setattr(server.core.work, "clock", SteppingClock()))
        wire.socket.sendall(b"".join(requests))
        assert other.call(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("a", "1")).error_code == 0
        assert {topic.error_code for topic in wire.receive(ApiKey.CREATE_TOPICS, 7, 1).topics} == {0}
        assert wire.receive(ApiKey.METADATA, 9, 2).topics[0].error_code == 0
        assert {topic.error_code for topic in wire.receive(ApiKey.DELETE_TOPICS, 5, 3).responses} == {0}
        unknown = wire.receive(ApiKey.METADATA, 9, 4).topics[0].error_code
        assert unknown == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_client_that_leaves_ends_its_work(broker: hw.Broker) -> None:
    names = [f"left-{number}" for number in range(3000)]
    creation = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic(name, 1, 1) for name in names], 10_000)
    for _ in range(3):
        with Wire(broker.address) as wire:
            wire.send(ApiKey.CREATE_TOPICS, 7, creation, 1)
    with Wire(broker.address) as wire:
        assert wire.call(ApiKey.API_VERSIONS, 4, ApiVersionsRequest("a", "1")).error_code == 0
