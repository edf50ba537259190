"""Who is served first. Connections here are counters that cost time on a clock that is moved by hand; there is no loop."""

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import headwater as hw
from headwater.broker.shell.acceptor import Acceptor
from headwater.broker.shell.client_protocol import ClientProtocol
from headwater.broker.shell.embedded import ThreadRunner
from headwater.broker.shell.server import Server
from headwater.broker.turns import CREDIT_MS_MAX, CREDIT_MS_MIN, LIGHT_MS, NEWCOMER_CREDIT_MS, SHARE, SLICE_MS, Turns
from headwater.effects.clock import ManualClock
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.records import Record, build_batch
from tests.broker.wire import Wire

REQUEST_MS = 0.51 * SLICE_MS  # two of them fill a slice
LONG_REQUEST_MS = 2 * SLICE_MS
SECOND_MS = 1000.0


class Flow:
    """A connection whose requests take `request_ms` each, and a client that sends the next one when it has its answer."""

    def __init__(self, loop: "Loop", name: str, *, request_ms: float = REQUEST_MS, pause_ms: float = 0.0) -> None:
        self.loop, self.name = loop, name
        self.request_ms, self.pause_ms = request_ms, pause_ms
        self.credit_ms, self.credited_ms, self.turn_number = NEWCOMER_CREDIT_MS, loop.clock.now_steady_ms, 0
        self.sent_ms = loop.clock.now_steady_ms  # the request that arrives next, or is handled
        self.is_put_off = False
        self.waits_ms: list[float] = []

    def arrive(self) -> None:
        if not self.loop.turns.begin(self):
            self.is_put_off = True
            self.loop.turns.wait(self)
            return
        self.handle()
        self.loop.turns.end(self)

    def next_turn(self) -> None:
        self.is_put_off = False
        self.handle()

    def handle(self) -> None:
        self.waits_ms.append(self.loop.clock.now_steady_ms - self.sent_ms)
        self.loop.handled.append(self.name)
        self.loop.clock.advance(self.request_ms)
        self.sent_ms = self.loop.clock.now_steady_ms + self.pause_ms


class Loop:
    """Turns of a loop: first what was asked for by `call_soon`, then what has arrived, in that order."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.soon: deque[Callable[[], None]] = deque()
        self.turns: Turns[Flow] = Turns(self.clock.steady_ms, self.soon.append)
        self.handled: list[str] = []

    def turn(self, *arrived: Flow) -> list[str]:
        """Returns who was handled."""
        self.handled.clear()
        for _ in range(len(self.soon)):
            self.soon.popleft()()
        for flow in arrived:
            flow.arrive()
        return list(self.handled)

    def serve(self, flows: list[Flow], for_ms: float) -> None:
        """Serves clients, each of which sends its next request when it has an answer, for that time."""
        ends_ms = self.clock.now_steady_ms + for_ms
        while self.clock.now_steady_ms < ends_ms:
            before_ms = self.clock.now_steady_ms
            arrived = [flow for flow in flows if flow.sent_ms <= before_ms and not flow.is_put_off]
            self.turn(*sorted(arrived, key=lambda flow: flow.sent_ms))
            if self.clock.now_steady_ms == before_ms:
                self.clock.advance(0.01)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def heavy(loop: Loop, *names: str, request_ms: float = REQUEST_MS) -> list[Flow]:
    """Connections without credit beside a light one; a turn is over, so that a slice is free."""
    loop.turn(light(loop))
    loop.turns.wait(Flow(loop, "before", request_ms=0.0))
    loop.turn()
    return [Flow(loop, name, request_ms=request_ms) for name in names]


def light(loop: Loop, name: str = "light") -> Flow:
    flow = Flow(loop, name)
    flow.credit_ms = CREDIT_MS_MAX
    return flow


def test_heavy_connections_share_a_slice_of_a_turn_and_a_light_one_waits_for_no_more(loop: Loop) -> None:
    """The example in the module's docstring."""
    h1, h2, h3 = heavy(loop, "H1", "H2", "H3")
    sparse = light(loop, "L")
    assert loop.turn(h1, h2, h3, sparse) == ["H1", "H2", "L"]
    assert loop.turn(h1, h2) == ["H3", "H1"]
    assert loop.turn(h3, sparse, h1) == ["H2", "H3", "L"]
    assert loop.turn() == ["H1"]


def test_nobody_overtakes_the_queue_but_light_connections(loop: Loop) -> None:
    h1, h2, h3 = heavy(loop, "H1", "H2", "H3", request_ms=LONG_REQUEST_MS)
    assert loop.turn(h1, h2, h3) == ["H1"]
    assert loop.turn(h1, light(loop)) == ["H2", "light"]
    assert loop.turn() == ["H3"]
    assert loop.turn() == ["H1"]


def test_a_single_heavy_connection_is_never_put_off(loop: Loop) -> None:
    (alone,) = heavy(loop, "alone", request_ms=LONG_REQUEST_MS)
    for _ in range(100):
        assert loop.turn(alone) == ["alone"]
    assert not loop.turns.queue
    assert not loop.soon


def test_nothing_is_put_off_while_no_light_connection_sends_anything(loop: Loop) -> None:
    first, second = heavy(loop, "first", "second", request_ms=LONG_REQUEST_MS)
    assert loop.turn(first, second) == ["first"]
    assert loop.turn() == ["second"]
    loop.clock.advance(LIGHT_MS)
    for flow in (first, second):
        flow.credit_ms, flow.credited_ms = CREDIT_MS_MIN, loop.clock.now_steady_ms
    for _ in range(10):
        assert loop.turn(first, second) == ["first", "second"]


def test_not_even_then_is_the_queue_overtaken(loop: Loop) -> None:
    first, second, third = heavy(loop, "first", "second", "third", request_ms=LONG_REQUEST_MS)
    assert loop.turn(first, second) == ["first"]
    loop.clock.advance(2 * LIGHT_MS)
    third.credit_ms, third.credited_ms = CREDIT_MS_MIN, loop.clock.now_steady_ms
    assert not loop.turns.begin(third)


def test_the_queue_is_run_once_per_turn_and_stops_when_it_is_empty(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = heavy(loop, "first", "second", request_ms=LONG_REQUEST_MS)
    handle = second.next_turn

    def give_way_again() -> None:
        handle()
        monkeypatch.setattr(second, "next_turn", handle)
        loop.turns.wait(second)

    monkeypatch.setattr(second, "next_turn", give_way_again)
    assert loop.turn(first, second) == ["first"]
    for names in (["second"], ["second"], []):
        assert len(loop.soon) <= 1
        assert loop.turn() == names
    assert not loop.soon


def test_the_others_have_their_turn_after_one_has_raised(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = heavy(loop, "first", "second", "third", request_ms=LONG_REQUEST_MS)
    assert loop.turn(first, second, third) == ["first"]

    def fail() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(second, "next_turn", fail)
    with pytest.raises(RuntimeError):
        loop.turn()
    assert loop.turn() == ["third"]


class TestCredit:
    def test_a_newcomer_earns_its_credit_by_using_little(self, loop: Loop) -> None:
        newcomer = Flow(loop, "newcomer", pause_ms=2 * REQUEST_MS / SHARE)
        loop.serve([newcomer], (2 - NEWCOMER_CREDIT_MS) / SHARE)
        assert newcomer.credit_ms > 0

    def test_one_that_uses_more_than_its_share_loses_its_credit(self, loop: Loop) -> None:
        greedy = Flow(loop, "greedy", pause_ms=REQUEST_MS / SHARE / 2)
        greedy.credit_ms = CREDIT_MS_MAX
        loop.serve([greedy], SECOND_MS)
        assert greedy.credit_ms <= 0

    def test_it_has_bounds(self, loop: Loop) -> None:
        flow = Flow(loop, "flow", request_ms=SECOND_MS)
        loop.turn(flow)
        assert flow.credit_ms == CREDIT_MS_MIN
        loop.clock.advance(3600 * SECOND_MS)
        assert loop.turns.begin(flow)
        assert flow.credit_ms == CREDIT_MS_MAX

    def test_what_was_put_off_is_paid_for(self, loop: Loop) -> None:
        first, second = heavy(loop, "first", "second", request_ms=LONG_REQUEST_MS)
        loop.turn(first, second)
        before_ms = second.credit_ms
        assert loop.turn() == ["second"]
        assert second.credit_ms == pytest.approx(before_ms - LONG_REQUEST_MS)


class TestBesideAttackers:
    """A client that sends a request every few milliseconds, beside many that send the next as soon as they have an answer."""

    @pytest.mark.parametrize("number", [2, 8, 15])
    def test_a_light_client_waits_for_a_slice_and_a_request(self, loop: Loop, number: int) -> None:
        client = Flow(loop, "client", pause_ms=3.0)
        attackers = [Flow(loop, f"attacker {n}") for n in range(number)]
        loop.serve([client, *attackers], 100.0)
        client.waits_ms.clear()
        loop.serve([client, *attackers], SECOND_MS)
        assert max(client.waits_ms) <= 2 * (SLICE_MS + REQUEST_MS)  # it may arrive at the beginning of a turn
        served = [len(attacker.waits_ms) for attacker in attackers]
        assert max(served) - min(served) <= 2  # in the order in which they came

    def test_opening_connections_again_and_again_earns_nothing(self, loop: Loop) -> None:
        client = Flow(loop, "client", pause_ms=3.0)
        attackers = [Flow(loop, f"attacker {n}") for n in range(100)]
        numbers = itertools.count()
        for _ in range(5000):
            loop.serve([client, *attackers], REQUEST_MS)
            for place, attacker in enumerate(attackers):
                if attacker.waits_ms:  # it was answered, and closed
                    attackers[place] = Flow(loop, f"another {next(numbers)}")
        assert next(numbers) > 1000
        assert max(client.waits_ms[10:]) <= 2 * (SLICE_MS + REQUEST_MS)

    def test_heavy_clients_are_served_beside_many_light_ones(self, loop: Loop) -> None:
        crowd = [Flow(loop, f"client {n}", pause_ms=REQUEST_MS / SHARE) for n in range(int(2 / SHARE))]
        for flow in crowd:
            flow.credit_ms = CREDIT_MS_MAX
        rivals = [Flow(loop, f"heavy {n}") for n in range(3)]
        loop.serve([*crowd, *rivals], SECOND_MS)
        assert min(len(rival.waits_ms) for rival in rivals) > SECOND_MS / 100


class Backlogged:
    """A listening socket at which a hundred connections wait, two of which are accepted in a slice."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.accepted = 0

    def accept(self) -> tuple[None, tuple[str]]:
        if self.accepted == 100:
            raise BlockingIOError
        self.accepted += 1
        self.clock.advance(REQUEST_MS)
        return None, ("127.0.0.1",)


def test_a_turn_accepts_connections_for_a_slice(loop: Loop) -> None:
    listening: Any = Backlogged(loop.clock)
    server = SimpleNamespace(turns=loop.turns, wait_ms=lambda *_: 0.0)
    acceptor: Any = SimpleNamespace(server=server, endpoint=None, accepted=lambda *_: None)
    for turn in range(1, 51):
        Acceptor.accept_ready(acceptor, listening)
        assert listening.accepted == 2 * turn
    Acceptor.accept_ready(acceptor, listening)
    assert listening.accepted == 100


class TestConnections:
    """Real connections, where everything that arrives is put off: nothing is lost, reordered, or left on a budget."""

    @pytest.fixture
    def broker(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[hw.Broker]:
        def put_off(turns: Turns[Any], flow: Any) -> bool:
            turns.begun_ms = turns.steady_ms()
            return False

        monkeypatch.setattr(Turns, "begin", put_off)
        with hw.Broker() as running:
            yield running

    def used_bytes(self, broker: hw.Broker) -> int:
        assert isinstance(broker.runner, ThreadRunner)
        used: int = broker.runner.call(lambda server: server.requests.used_bytes)
        return used

    def test_pipelined_requests_and_parts_of_them(self, broker: hw.Broker) -> None:
        frames = [request_frame(APIS[ApiKey.METADATA], 9, n, "x", MetadataRequest([])) for n in range(50)]
        sent = b"".join(frames)
        with Wire(broker.address) as wire:
            for size in (len(sent), 1000, 7):
                for start in range(0, len(sent), size):
                    wire.socket.sendall(sent[start : start + size])
                for number in range(50):
                    assert wire.receive(ApiKey.METADATA, 9, number).brokers
            assert self.used_bytes(broker) == 0

    def test_what_is_put_off_counts_on_the_budget_for_requests(self, broker: hw.Broker) -> None:
        frame = request_frame(APIS[ApiKey.METADATA], 9, 1, "x", MetadataRequest([]))

        def receive(server: Server) -> int:
            acceptor = server.acceptors[0]
            client = ClientProtocol(server, acceptor.listener, acceptor.endpoint, "127.0.0.1")
            server.admit(client)
            client.connection_made(Mock(asyncio.Transport))
            for part in (frame[:9], frame[9:]):
                client.get_buffer(-1)[: len(part)] = part
                client.buffer_updated(len(part))
            used_bytes = server.requests.used_bytes
            client.connection_lost(None)
            return used_bytes

        assert isinstance(broker.runner, ThreadRunner)
        assert broker.runner.call(receive) == len(frame)
        assert self.used_bytes(broker) == 0

    def test_large_frames(self, broker: hw.Broker) -> None:
        with Wire(broker.address) as wire:
            wire.create_topic("t")
            for size in (100_000, 300_000, 900_000):
                assert wire.produce("t", 0, build_batch([Record(None, bytes(size))])) == 0
            assert self.used_bytes(broker) == 0

    def test_a_connection_that_sends_nonsense_is_closed(self, broker: hw.Broker) -> None:
        with Wire(broker.address) as wire, Wire(broker.address) as other:
            wire.socket.sendall(struct.pack(">ihhi", 12, 999, 0, 1) + bytes(4))
            assert wire.socket.recv(1) == b""
            assert other.call(ApiKey.METADATA, 9, MetadataRequest([])).brokers
            assert self.used_bytes(broker) == 0
