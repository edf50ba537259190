"""Strangers, slow readers and half-open connections on real sockets: others are served, and everything has an end."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import headwater as hw
from headwater.broker import dispatch
from headwater.broker.shell import client_protocol, deadlines, embedded
from headwater.broker.shell.embedded import ThreadRunner
from headwater.broker.shell.server import Server
from headwater.effects.clock import ManualClock
from headwater.observability.counters import Counters
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.records import Record, build_batch
from tests.certificates import make_certificate

from .wire import Wire

MIB = 1 << 20
ATTEMPTS = 5
SMALL_ANSWERS = {"headwater.queued.max.answer.bytes": 16 * MIB, "socket.request.max.bytes": 4 * MIB}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_certificate(directory, "broker", make_certificate(directory, "authority"))
    return directory / "broker.pem"


def is_closed(wire: Wire) -> bool:
    """Waits until the broker closes the connection."""
    try:
        while wire.socket.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def closed_first(wires: list[Wire]) -> Wire:
    """Waits until the broker closes one of the connections, on which it has sent nothing."""
    ready, _, _ = select.select([wire.socket for wire in wires], [], [])
    wire = next(wire for wire in wires if wire.socket in ready)
    assert is_closed(wire)
    return wire


def is_served(wire: Wire) -> bool:
    return bool(wire.call(ApiKey.METADATA, 9, MetadataRequest([])).brokers)


def server_of(broker: hw.Broker) -> Server:
    assert isinstance(broker.runner, ThreadRunner)
    assert broker.runner.server is not None
    return broker.runner.server


def counters_of(broker: hw.Broker) -> Counters:
    """What the broker counts from now on."""
    return Counters(server_of(broker).core.occurrences)


def inspect(broker: hw.Broker, function: Any) -> Any:
    assert isinstance(broker.runner, ThreadRunner)
    return broker.runner.call(function)


class TestStrangers:
    @pytest.fixture
    def broker(self, certificate: Path) -> Iterator[hw.Broker]:
        settings = {
            "listeners": "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0,SASL_SSL://127.0.0.1:0",
            "ssl.keystore.location": certificate,
            "headwater.authentication.timeout.ms": 300,
        }
        with hw.Broker(settings=settings) as running:
            yield running

    @pytest.mark.parametrize("listener", ["SASL_PLAINTEXT", "SSL", "SASL_SSL"])
    def test_a_client_that_does_not_log_in_or_end_the_handshake_is_closed(
        self, broker: hw.Broker, listener: str
    ) -> None:
        with Wire(broker.addresses[listener]) as stranger, Wire(broker.address) as other:
            assert is_closed(stranger)
            assert is_served(other)

    def test_where_nobody_has_to_log_in_a_client_may_take_its_time(self, broker: hw.Broker) -> None:
        with Wire(broker.address) as quiet, Wire(broker.addresses["SASL_PLAINTEXT"]) as stranger:
            assert is_closed(stranger)
            assert is_served(quiet)

    def test_a_frame_before_the_login_has_at_most_64_kib(self) -> None:
        listeners = "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0"
        hour_ms = 3_600_000  # so that a connection ends for its frame, not for want of a login
        settings = {"listeners": listeners, "headwater.authentication.timeout.ms": hour_ms}
        with hw.Broker(settings=settings) as broker:
            largest = request_frame(APIS[18], 0, 1, "x" * 32_000, ApiVersionsRequest())
            whole = struct.pack(">ihhi", 70_000, 18, 0, 1) + bytes(69_992)
            for first, rest in ((whole[:12], b""), (largest, b""), (whole, b""), (largest, whole), (b"", whole)):
                with Wire(broker.addresses["SASL_PLAINTEXT"]) as stranger:
                    stranger.socket.sendall(first)
                    if first == largest:
                        assert stranger.receive(ApiKey.API_VERSIONS, 0).error_code == 0
                    with contextlib.suppress(ConnectionError):  # closed for the beginning of it, while the end is sent
                        stranger.socket.sendall(rest)
                    if (first, rest) != (largest, b""):
                        assert is_closed(stranger)
            with Wire(broker.address) as other:
                assert is_served(other)

    def test_what_strangers_send_has_a_budget_of_its_own(self, broker: hw.Broker) -> None:
        def lower(server: Server) -> None:
            server.requests.stranger_limit_bytes = 100_000
            server.core.settings.headwater_authentication_timeout_ms = 60_000

        inspect(broker, lower)
        part = struct.pack(">ihhi", 65_000, 18, 0, 1) + bytes(50_000)
        first, second, third = (Wire(broker.addresses["SASL_PLAINTEXT"]) for _ in range(3))
        for each in (first, second, third):
            each.socket.sendall(part)
        assert is_closed(first)
        assert inspect(broker, lambda server: server.requests.stranger_bytes) <= 100_000
        with Wire(broker.address) as other:
            assert is_served(other)
        for each in (first, second, third):
            each.socket.close()


def test_idle_strangers_do_not_keep_clients_out() -> None:
    with hw.Broker(settings={"max.connections": 40}) as broker:
        totals = counters_of(broker).totals
        with Wire(broker.address) as before:
            assert is_served(before)
            host, _, port = broker.address.rpartition(":")
            idle = [socket.create_connection((host, int(port))) for _ in range(200)]
            assert is_served(before)
            # Newcomers are refused for a moment at most: then the oldest stranger goes for them.
            while True:
                try:
                    with Wire(broker.address) as newcomer:
                        assert is_served(newcomer)
                    break
                except ConnectionError:
                    continue
            assert totals["connections_refused"] + totals["strangers_closed"] >= 160
        for each in idle:
            each.close()


def test_connections_of_one_address() -> None:
    with hw.Broker(settings={"max.connections.per.ip": 2}) as broker:
        with Wire(broker.address) as first, Wire(broker.address) as second:
            assert is_served(first)
            assert is_served(second)
            with Wire(broker.address) as third:
                assert is_closed(third)
        while True:  # until the broker has seen that the first two are gone
            with Wire(broker.address) as again:
                try:
                    assert is_served(again)
                    break
                except ConnectionError:
                    continue


def test_without_descriptors_connections_are_closed_and_the_loop_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    with hw.Broker() as broker, Wire(broker.address) as before:
        assert is_served(before)
        acceptor = server_of(broker).acceptors[0]

        class Exhausted:
            """A listening socket in a process that has no descriptor left but the spare one."""

            def __init__(self, listening: socket.socket) -> None:
                self.listening = listening

            def fileno(self) -> int:
                return self.listening.fileno()

            def accept(self) -> Any:
                if acceptor.spare >= 0:
                    raise OSError(24, "Too many open files")
                return self.listening.accept()

        def exhaust(server: Server) -> None:
            listening = acceptor.sockets[0]
            server.loop.remove_reader(listening.fileno())
            server.loop.add_reader(listening.fileno(), acceptor.accept_ready, cast(socket.socket, Exhausted(listening)))

        def recover(server: Server) -> None:
            listening = acceptor.sockets[0]
            server.loop.remove_reader(listening.fileno())
            server.loop.add_reader(listening.fileno(), acceptor.accept_ready, listening)

        totals = counters_of(broker).totals
        inspect(broker, exhaust)
        for _ in range(3):
            with Wire(broker.address) as refused:
                assert is_closed(refused)
        assert is_served(before)
        assert totals["connections_refused"] == 3
        inspect(broker, recover)
        with Wire(broker.address) as after:
            assert is_served(after)


def test_a_connection_that_is_accepted_in_the_last_moment_is_closed() -> None:
    with hw.Broker() as broker:
        host, _, port = broker.address.rpartition(":")

        def accept_and_cancel(server: Server) -> socket.socket:
            late = socket.create_connection((host, int(port)))
            acceptor = server.acceptors[0]
            acceptor.accept_ready(acceptor.sockets[0])
            for task in acceptor.opening:
                task.cancel()  # before its first step, as `Acceptor.close` may
            return late

        with inspect(broker, accept_and_cancel) as late:
            late.settimeout(20)
            assert late.recv(1) == b""
        assert not inspect(broker, lambda server: server.clients)


def is_taken(broker: hw.Broker, size_bytes: int) -> bool:
    """Whether a batch of that size is appended. A client on a slow machine may be taken for a slow sender, and closed."""
    with contextlib.suppress(ConnectionError), Wire(broker.address) as wire:
        return wire.produce("t", 0, build_batch([Record(None, bytes(size_bytes), (), 1)])) == 0
    return False


class TestFrames:
    def test_half_a_frame_is_not_waited_for_for_ever(self) -> None:
        settings = {"headwater.progress.timeout.ms": 200}
        for start in (struct.pack(">ih", 5000, 3), struct.pack(">ihhi", MIB, 3, 9, 1) + bytes(100_000)):
            with hw.Broker(settings=settings) as broker, Wire(broker.address) as half, Wire(broker.address) as other:
                half.socket.sendall(start)
                assert is_closed(half)
                assert is_served(other)
                assert inspect(broker, lambda server: server.requests.used_bytes) == 0

    @pytest.mark.parametrize("first_bytes", [300_000, 100_000])  # room for two of them, or for the first part of all
    def test_slow_senders_of_large_frames_make_room_for_others(
        self, monkeypatch: pytest.MonkeyPatch, first_bytes: int
    ) -> None:
        monkeypatch.setattr(deadlines, "REQUEST_PRESSURE_S", 1.0)
        monkeypatch.setattr(deadlines, "CHECK_S", 0.1)
        settings = {"socket.request.max.bytes": MIB, "queued.max.request.bytes": MIB}
        with hw.Broker(settings=settings) as broker, contextlib.ExitStack() as opened:
            waited: set[str] = set()
            server_of(broker).occurrences.throttled.connect(lambda address, reason: waited.add(reason))
            other, *slow = (opened.enter_context(Wire(broker.address)) for _ in range(5))
            other.create_topic("t")
            for each in slow:
                each.socket.sendall(struct.pack(">ihhi", MIB, 0, 9, 1) + bytes(first_bytes - 12))
            assert is_served(other)
            for each in slow:
                each.socket.sendall(bytes(300_000 - first_bytes))
            assert is_served(other)
            assert any(is_taken(broker, 700_000) for _ in range(ATTEMPTS))
            assert closed_first(slow) in slow
            assert waited == {"memory"}
            assert inspect(broker, lambda server: server.requests.used_bytes) <= MIB * 1.25

    def test_a_producer_that_waits_for_the_journal_is_announced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_protocol, "JOURNAL_WAITING_BYTES_MAX", 0)
        with hw.Broker() as broker, Wire(broker.address) as wire:
            waited: set[str] = set()
            wire.create_topic("t")
            server_of(broker).occurrences.throttled.connect(lambda address, reason: waited.add(reason))
            for _ in range(3):
                assert wire.produce("t", 0, build_batch([Record(None, b"v", (), 1)])) == 0
            assert waited == {"journal"}

    def test_memory_is_given_back(self) -> None:
        with hw.Broker() as broker:
            for size in (10, 1000, 100_000):
                with Wire(broker.address) as wire:
                    wire.socket.sendall(struct.pack(">ihhi", MIB, 0, 9, 1) + bytes(size))
                with Wire(broker.address) as other:
                    assert is_served(other)
            with Wire(broker.address) as other:
                while inspect(broker, lambda server: server.requests.used_bytes):  # until they are all seen to be gone
                    assert is_served(other)


@pytest.fixture
def large_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection's first answer may be as large as those of a client that has shown that it reads."""
    monkeypatch.setattr(client_protocol, "FIRST_ANSWER_BYTES_MAX", 64 * MIB)


def fetch_frame(topic: str, size_max: int) -> bytes:
    partition = FetchRequest.FetchPartition(0, partition_max_bytes=size_max)
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=[partition])]
    request = FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=size_max, topics=topics)
    return request_frame(APIS[1], 12, 1, "slow", request)


@pytest.mark.usefixtures("large_answers")
class TestSlowReaders:
    """Connections with small buffers, so that the system takes little of what is not read."""

    def slow(self, broker: hw.Broker) -> Wire:
        wire = Wire.__new__(Wire)
        wire.socket = socket.socket()
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.socket.settimeout(20)
        host, _, port = broker.address.rpartition(":")
        wire.socket.connect((host, int(port)))
        return wire

    def filled(self, broker: hw.Broker, records: int) -> None:
        with Wire(broker.address) as wire:
            wire.create_topic("t")
            for _ in range(records):
                assert wire.produce("t", 0, build_batch([Record(None, bytes(900_000), (), 1)])) == 0

    def test_their_answers_have_a_budget_and_others_are_served(self) -> None:
        with hw.Broker(settings=SMALL_ANSWERS) as broker:
            self.filled(broker, 60)
            with Wire(broker.address) as reader:
                for _ in range(10):
                    assert reader.fetch("t", 0, 0)
                slow = [self.slow(broker) for _ in range(40)]
                most = 0
                for each in slow:
                    each.socket.sendall(fetch_frame("t", 55 * MIB) * 5)
                    assert reader.fetch("t", 0, 0)
                    most = max(most, inspect(broker, lambda server: server.answers.used_bytes))
                assert MIB < most <= 16 * MIB
            for each in slow:
                each.socket.close()

    def test_a_client_that_reads_nothing_is_closed(self) -> None:
        settings = {"headwater.progress.timeout.ms": 300}
        with hw.Broker(settings=settings) as broker:
            self.filled(broker, 12)
            totals = counters_of(broker).totals
            with self.slow(broker) as slow, Wire(broker.address) as other:
                slow.socket.sendall(fetch_frame("t", 55 * MIB))
                while not totals["slow_readers_closed"]:
                    assert is_served(other)
                assert is_closed(slow)
                assert inspect(broker, lambda server: server.answers.used_bytes) == 0

    def test_a_client_that_reads_slowly_gets_everything(self) -> None:
        with hw.Broker() as broker:
            self.filled(broker, 12)
            with self.slow(broker) as slow:
                slow.socket.sendall(fetch_frame("t", 55 * MIB) * 3)
                for _ in range(3):
                    answer = slow.receive(ApiKey.FETCH, 12).responses[0].partitions[0]
                    assert len(answer.records) > 3 * 900_000
                assert inspect(broker, lambda server: server.answers.used_bytes) == 0

    def test_answers_after_one_that_waits_count_too(self) -> None:
        with hw.Broker(settings=SMALL_ANSWERS) as broker:
            self.filled(broker, 12)
            with Wire(broker.address) as wire:
                wire.create_topic("empty")
                partition = FetchRequest.FetchPartition(0, partition_max_bytes=1000)
                topics = [FetchRequest.FetchTopic(topic="empty", partitions=[partition])]
                wire.send(
                    ApiKey.FETCH, 12, FetchRequest(max_wait_ms=60_000, min_bytes=1, max_bytes=1000, topics=topics)
                )
                wire.socket.sendall(fetch_frame("t", 55 * MIB) * 50)
                with Wire(broker.address) as other:
                    for _ in range(20):
                        assert is_served(other)
                    assert inspect(broker, lambda server: server.answers.used_bytes) <= 4 * MIB
                    assert other.produce("empty", 0, build_batch([Record(None, b"v", (), 1)])) == 0
                for _ in range(51):
                    assert wire.receive(ApiKey.FETCH, 12).error_code == 0

    def test_fetches_that_wait_do_not_pile_up_after_one_that_is_not_read(self) -> None:
        with hw.Broker(settings=SMALL_ANSWERS) as broker, Wire(broker.address) as other, self.slow(broker) as slow:
            other.create_topic("t")
            partition = FetchRequest.FetchPartition(0, partition_max_bytes=MIB)
            topics = [FetchRequest.FetchTopic(topic="t", partitions=[partition])]
            for _ in range(30):
                slow.send(ApiKey.FETCH, 12, FetchRequest(max_wait_ms=60_000, min_bytes=1, max_bytes=MIB, topics=topics))
            while inspect(broker, lambda server: max(len(client.slots) for client in server.clients)) < 30:
                assert is_served(other)
            assert other.produce("t", 0, build_batch([Record(None, bytes(900_000), (), 1)])) == 0
            assert inspect(broker, lambda server: server.answers.used_bytes) <= 3 * MIB
            for _ in range(30):
                assert slow.receive(ApiKey.FETCH, 12).error_code == 0

    def test_more_than_the_budget_closes_those_that_have_not_read_for_longest(self) -> None:
        with hw.Broker(settings=SMALL_ANSWERS) as broker, Wire(broker.address) as other, self.slow(broker) as slow:
            self.filled(broker, 12)
            slow.socket.sendall(fetch_frame("t", 55 * MIB) * 20)
            while not inspect(broker, lambda server: server.answers.choked):
                assert is_served(other)
            inspect(broker, lambda server: server.count_answers(server.answers.limit_bytes - 1000))
            assert is_closed(slow)
            assert is_served(other)

    def test_a_batch_larger_than_the_budget_is_sent_and_the_next_waits_for_it(self) -> None:
        settings = {"headwater.queued.max.answer.bytes": MIB}
        with hw.Broker(settings=settings) as broker, Wire(broker.address) as other:
            other.create_topic("large", max_message_bytes=str(30 * MIB))
            batch = build_batch([Record(None, bytes(16 * MIB), (), 1)])
            assert other.produce("large", 0, batch) == 0
            with self.slow(broker) as first, self.slow(broker) as second:
                first.socket.sendall(fetch_frame("large", 55 * MIB))
                while not inspect(broker, lambda server: server.answers.choked):
                    assert is_served(other)
                assert not self.fetched(second)  # there is no room
                assert inspect(broker, lambda server: server.answers.used_bytes) <= 18 * MIB
                answer = first.receive(ApiKey.FETCH, 12).responses[0].partitions[0]
                assert len(answer.records) == len(batch)
                while inspect(broker, lambda server: server.answers.choked):  # until all is seen to be sent
                    assert is_served(other)
                assert len(self.fetched(second)) == len(batch)

    def fetched(self, wire: Wire) -> bytes:
        wire.socket.sendall(fetch_frame("large", 55 * MIB))
        return bytes(wire.receive(ApiKey.FETCH, 12).responses[0].partitions[0].records or b"")


def test_answers_begin_small_and_double_while_they_are_read() -> None:
    with hw.Broker() as broker, Wire(broker.address) as wire:
        TestSlowReaders().filled(broker, 12)
        sizes = [len(wire.fetch("t", 0, 0, 55 * MIB)) for _ in range(3)]
        assert [size // 900_000 for size in sizes] == [1, 2, 3]


@pytest.mark.usefixtures("large_answers")
def test_a_connection_that_ends_does_not_wait_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "CLOSING_S", 0.1)
    readers = TestSlowReaders()
    with hw.Broker() as broker:
        readers.filled(broker, 12)
        with readers.slow(broker) as slow, Wire(broker.address) as other:
            slow.socket.sendall(fetch_frame("t", 55 * MIB))
            while not inspect(broker, lambda server: server.answers.choked):
                assert is_served(other)
            inspect(broker, lambda server: [client.close() for client in server.answers.choked.copy()])
            while inspect(broker, lambda server: len(server.clients)) > 1:
                assert is_served(other)


class LongRequests:
    """A broker where only ListGroups takes time: the clock stands still but for 4 ms in each. No machine is too slow for it.

    The first waits until all have been sent. When each connection has had its first turn (nothing is put off before that),
    another client asks for metadata in the middle of every `ASK_EVERY`th one; `waited` is how many long requests ended
    before that client had its turn.
    """

    FRAME = request_frame(APIS[ApiKey.LIST_GROUPS], 4, 1, "x", ListGroupsRequest())
    ASK_EVERY = 20
    FIRST_ASK = 60

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.all_sent = threading.Event()
        self.handled = 0
        self.asked_at: int | None = None
        self.waited: list[int] = []
        self.list_groups, self.metadata = dispatch.served_api(ApiKey.LIST_GROUPS), dispatch.served_api(ApiKey.METADATA)
        monkeypatch.setattr(embedded, "SystemClock", lambda: self.clock)
        handlers = {ApiKey.LIST_GROUPS: self.handle_long, ApiKey.METADATA: self.handle_metadata}
        for key, handle in handlers.items():
            monkeypatch.setitem(dispatch.served_cache, key, dispatch.served_api(key)._replace(handle=handle))

    def handle_long(self, core: Any, request: Any) -> Any:
        self.all_sent.wait()
        self.clock.advance(4)
        if self.handled >= self.FIRST_ASK and self.handled % self.ASK_EVERY == 0:
            self.ask()
        self.handled += 1
        return self.list_groups.handle(core, request)

    def handle_metadata(self, core: Any, request: Any) -> Any:
        if self.asked_at is not None:
            self.waited.append(self.handled - self.asked_at)
            self.asked_at = None
        return self.metadata.handle(core, request)

    def ask(self) -> None:
        """Sends the other client's request, and waits until the broker could read it."""
        assert self.asked_at is None, f"not served within {self.ASK_EVERY} long requests of others"
        self.asked_at = self.handled
        self.other.send(ApiKey.METADATA, 9, MetadataRequest([]))
        select.select([self.others_end], [], [])

    def run(self, broker: hw.Broker, crowd: int, requests: int) -> None:
        """Each connection of a crowd sends that many long requests at once, and gets all its answers."""
        with contextlib.ExitStack() as opened:
            self.other, *wires = (opened.enter_context(Wire(broker.address)) for _ in range(crowd + 1))
            for wire in (self.other, *wires):
                assert is_served(wire)
            self.others_end = inspect(broker, self.find_others_end)
            for wire in wires:
                wire.socket.sendall(self.FRAME * requests)
            self.all_sent.set()
            for wire in wires:
                for _ in range(requests):
                    assert wire.receive(ApiKey.LIST_GROUPS, 4).error_code == 0
            for _ in range(self.FIRST_ASK, crowd * requests, self.ASK_EVERY):
                assert self.other.receive(ApiKey.METADATA, 9).brokers

    def find_others_end(self, server: Server) -> int:
        """The broker's end of the other client's connection."""
        transports = [client.transport for client in server.clients if client.transport is not None]
        name = self.other.socket.getsockname()
        (end,) = (each for each in transports if each.get_extra_info("peername") == name)
        return int(end.get_extra_info("socket").fileno())


class TestTurns:
    """Many requests at once give way to others by the work that they make, not only by their bytes."""

    @pytest.mark.parametrize(("crowd", "requests"), [(1, 200), (50, 20)])
    def test_of_connections(self, monkeypatch: pytest.MonkeyPatch, crowd: int, requests: int) -> None:
        long_requests = LongRequests(monkeypatch)
        with hw.Broker() as broker:
            long_requests.run(broker, crowd, requests)
        # A turn of the loop has one of them, not twenty of a connection or one of each connection.
        assert len(long_requests.waited) == (crowd * requests - LongRequests.FIRST_ASK) // LongRequests.ASK_EVERY
        assert max(long_requests.waited) <= 2


class TestQuietConnections:
    def test_where_all_places_are_taken_the_longest_idle_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deadlines, "DISPENSABLE_IDLE_S", 0.5)
        settings = {"max.connections": 2}
        with hw.Broker(settings=settings) as broker, Wire(broker.address) as idle, Wire(broker.address) as busy:
            assert is_served(idle)
            while True:
                assert is_served(busy)
                with Wire(broker.address) as newcomer:
                    try:
                        assert is_served(newcomer)
                    except ConnectionError:
                        continue
                    break
            assert is_served(busy)
            assert is_closed(idle)

    def test_idle_ones_are_closed(self) -> None:
        with hw.Broker(settings={"connections.max.idle.ms": 101}) as broker, Wire(broker.address) as idle:
            assert is_served(idle)
            while inspect(broker, lambda server: server.sweep() or len(server.clients)):
                pass
            assert is_closed(idle)

    def test_a_client_that_is_gone_without_a_word_is_noticed(self) -> None:
        with hw.Broker() as broker, Wire(broker.address) as wire:
            assert is_served(wire)

            def options(server: Server) -> tuple[int, int]:
                (client,) = server.clients
                assert client.transport is not None
                accepted = client.transport.get_extra_info("socket")
                keepalive = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                return keepalive, accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

            assert inspect(broker, options) == (1, 120)
