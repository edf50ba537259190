"""How fast connections may be opened: what waits, what is closed, and for how long. The figures are those of Kafka's meters."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import headwater as hw
from headwater.broker.cluster import Endpoint
from headwater.broker.configs.settings import Settings, SettingsError
from headwater.broker.connection_limits import RefusedError
from headwater.broker.connection_rates import ConnectionRates
from headwater.broker.metadata_records import quota_record
from headwater.broker.shell.acceptor import PENALIZED_MAX, Acceptor
from headwater.broker.shell.embedded import ThreadRunner
from headwater.broker.shell.server import Server as BrokerServer
from headwater.effects.clock import ManualClock
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.security.quotas import IP, METERS_MAX, QuotaKey, Quotas
from tests.broker.harness import Harness
from tests.broker.wire import Wire

RATE, KEY = "max.connection.creation.rate", QuotaKey.CONNECTIONS
INSIDE = f"listener.name.inside.{RATE}"


class Scene:
    """The meters of a broker with these settings, whose clock is moved by hand."""

    def __init__(self, pairs: dict[str, str] | None = None) -> None:
        self.clock, self.quotas = ManualClock(), Quotas()
        self.settings = Settings.from_pairs(pairs or {})
        self.rates = ConnectionRates(self.quotas, lambda: self.settings, self.clock.steady_ms)

    def waits(self, count: int, listener: str = "INSIDE") -> list[float]:
        return [self.rates.wait_ms(listener) for _ in range(count)]

    def penalties(self, count: int, address: str = "10.0.0.1", listener: str = "INSIDE") -> list[float]:
        return [self.rates.penalty_ms(listener, address) for _ in range(count)]


@pytest.mark.parametrize(
    "pairs", [{RATE: "10"}, {INSIDE: "10"}, {RATE: "20", INSIDE: "10"}, {RATE: "10", INSIDE: "20"}]
)
def test_what_exceeds_a_rate_waits_until_it_does_not(pairs: dict[str, str]) -> None:
    scene = Scene(pairs)
    assert scene.waits(100) == [0.0] * 100
    assert scene.waits(2) == [100.0, 200.0]  # (10.1 - 10) / 10 of ten seconds, and so on
    scene.clock.advance(11_000)
    assert scene.waits(1) == [0.0]


def test_a_wait_is_a_second_at_most() -> None:
    assert Scene({RATE: "1"}).waits(30)[-1] == 1000.0
    assert Scene({RATE: "1", "quota.window.size.seconds": "2"}).waits(50)[-1] == 2000.0


def test_a_listener_has_a_rate_of_its_own() -> None:
    scene = Scene({INSIDE: "1"})
    assert scene.waits(12)[-1] > 0
    assert scene.waits(200, "OUTSIDE") == [0.0] * 200


def test_the_rate_of_all_counts_every_listener() -> None:
    scene = Scene({RATE: "1"})
    assert scene.waits(6, "INSIDE") + scene.waits(4, "OUTSIDE") == [0.0] * 10
    assert scene.waits(1, "OUTSIDE") == [1000.0]


def test_a_rate_that_changes_is_in_force_at_once() -> None:
    scene = Scene()
    assert scene.waits(1000) == [0.0] * 1000
    assert scene.rates.general == {}  # nothing is measured without a limit
    scene.settings = Settings.from_pairs({RATE: "1"})
    assert scene.waits(11)[-1] == 1000.0
    scene.settings = Settings.from_pairs({})
    assert scene.waits(1) == [0.0]


@pytest.mark.parametrize("text", ["0", "-1", "x"])
def test_a_rate_that_would_let_nobody_in_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max\.connection\.creation\.rate"):
        Settings.from_pairs({RATE: text})


def test_an_address_has_its_quota_or_that_of_all_others() -> None:
    scene = Scene()
    scene.quotas.set(((IP, "10.0.0.1"),), KEY, 1)
    assert scene.penalties(11) == [0.0] * 10 + [1000.0]
    assert scene.penalties(100, "10.0.0.2") == [0.0] * 100
    scene.quotas.set(((IP, None),), KEY, 2)
    assert scene.penalties(21, "10.0.0.2") == [0.0] * 20 + [500.0]
    assert scene.penalties(21, "10.0.0.3") == [0.0] * 20 + [500.0]  # each for itself
    scene.quotas.remove(((IP, "10.0.0.1"),), KEY)
    assert scene.penalties(10) == [0.0] * 10
    scene.quotas.remove(((IP, None),), KEY)
    assert scene.penalties(50) == [0.0] * 50


def test_a_connection_that_is_closed_counts_for_no_rate() -> None:
    scene = Scene({RATE: "1000", INSIDE: "2"})
    scene.quotas.set(((IP, "10.0.0.1"),), KEY, 1)
    for _ in range(50):
        assert scene.waits(1) == [0.0]  # the listener's twenty are not used up by what is closed
        scene.penalties(1)
    assert scene.waits(1) + scene.penalties(1) == [0.0, 1000.0]  # always the same, however often the client tries
    assert scene.waits(10) == [0.0] * 10
    assert scene.waits(1) == [500.0]


def test_a_quota_is_in_force_again_when_time_has_passed() -> None:
    scene = Scene()
    scene.quotas.set(((IP, "10.0.0.1"),), KEY, 1)
    assert scene.penalties(11)[-1] == 1000.0
    scene.clock.advance(11_000)
    assert scene.penalties(10) == [0.0] * 10


def test_only_so_many_addresses_are_remembered() -> None:
    scene = Scene()
    scene.quotas.set(((IP, None),), KEY, 1)
    for number in range(METERS_MAX + 5):
        scene.penalties(1, str(number))
        if number == METERS_MAX - 1:
            scene.penalties(1, "0")  # it is used again, and stays
    assert len(scene.rates.by_address) == METERS_MAX
    assert "0" in scene.rates.by_address
    assert not {"1", "5"} & scene.rates.by_address.keys()


def test_a_quota_of_an_address_does_not_meter_requests() -> None:
    broker = Harness()
    broker.core.append_metadata([quota_record(((IP, "10.0.0.1"),), KEY, 1.0)])
    assert broker.core.metadata.quotas.connection_rate_of("10.0.0.1") == 1
    assert not broker.core.throttling.is_active
    broker.restart()
    assert broker.core.metadata.quotas.connection_rate_of("10.0.0.1") == 1


# -- the acceptor


class Timer:
    """What `call_later` gives."""

    def __init__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.delay_s, self.call = delay_s, call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """An event loop in which the test says what happens."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[..., None]] = {}
        self.timers: list[Timer] = []

    def add_reader(self, descriptor: int, callback: Callable[..., None], *_: object) -> None:
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        self.readers.pop(descriptor, None)

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: object) -> Timer:
        self.timers.append(Timer(delay_s, partial(callback, *arguments)))
        return self.timers[-1]


class Server:
    """An acceptor's server that admits nobody: what comes so far is refused."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.turns: Any = type("Turns", (), {"steady_ms": staticmethod(lambda: 0.0)})()
        self.wait, self.penalty = 0.0, 0.0
        self.refusals: list[str] = []

    def wait_ms(self, endpoint: Endpoint, address: str) -> float:
        assert address == "127.0.0.1"
        return self.wait

    def penalty_ms(self, endpoint: Endpoint, address: str) -> float:
        assert address == "127.0.0.1"
        return self.penalty

    def new_client(self, listener: object, endpoint: Endpoint, address: str) -> object:
        return object()

    def admit(self, client: object) -> None:
        raise RefusedError("it came in")

    def refused(self, address: str, reason: str) -> None:
        self.refusals.append(reason)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def acceptor(server: Server, listening: socket.socket) -> Iterator[Acceptor]:
    made: Any = Acceptor(server, None, Endpoint(), [listening])  # type: ignore[arg-type]
    yield made
    made.close()


def connect(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname())


def test_a_connection_that_waits_is_served_later_and_none_is_accepted_before(
    server: Server, listening: socket.socket, acceptor: Acceptor
) -> None:
    server.wait = 250.0
    with connect(listening), connect(listening):
        acceptor.accept_ready(listening)
        (timer,) = server.loop.timers
        assert (timer.delay_s, server.loop.readers) == (0.25, {})
        acceptor.accept_again(listening)  # after a shortage of descriptors
        assert (server.refusals, server.loop.readers) == ([], {})
        server.wait = 0.0
        timer.call()
        assert server.refusals == ["it came in"]
        assert list(server.loop.readers) == [listening.fileno()]
        acceptor.accept_ready(listening)
        assert server.refusals == ["it came in"] * 2


def test_a_connection_beyond_the_quota_of_its_address_is_closed_after_a_while(
    server: Server, listening: socket.socket, acceptor: Acceptor
) -> None:
    server.penalty = 1000.0
    with connect(listening) as client:
        acceptor.accept_ready(listening)
        (timer,) = server.loop.timers
        assert timer.delay_s == 1.0
        assert "connection_creation_rate" in server.refusals[0]
        client.setblocking(False)
        with pytest.raises(BlockingIOError):  # still open
            client.recv(1)
        client.setblocking(True)
        timer.call()
        assert client.recv(1) == b""
        assert acceptor.penalized == {}


def test_only_so_many_are_kept_to_be_closed_later(server: Server, listening: socket.socket, acceptor: Acceptor) -> None:
    server.penalty = 1000.0
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(listening)) for _ in range(PENALIZED_MAX + 1)]
        acceptor.accept_ready(listening)
        assert len(acceptor.penalized) == PENALIZED_MAX
        assert clients[-1].recv(1) == b""


def test_an_acceptor_that_ends_closes_all_that_wait(
    server: Server, listening: socket.socket, acceptor: Acceptor
) -> None:
    with connect(listening) as first, connect(listening) as second:
        server.penalty = 1000.0
        acceptor.accept_ready(listening)
        with connect(listening) as third:
            server.wait = 1000.0
            acceptor.accept_ready(listening)
            acceptor.close()
            assert [client.recv(1) for client in (first, second, third)] == [b""] * 3
    assert [timer.is_cancelled for timer in server.loop.timers] == [True] * 3


# -- the broker


def set_rate(address: str, rate: float) -> AlterClientQuotasRequest:
    data = AlterClientQuotasRequest
    return data([data.EntryData([data.EntityData(IP, address)], [data.OpData(KEY, rate)])])


def test_a_broker_closes_what_an_address_opens_too_fast() -> None:
    ask = ApiVersionsRequest("a", "1")
    with hw.Broker() as broker, contextlib.ExitStack() as stack:
        first = stack.enter_context(Wire(broker.address))
        answer = first.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, set_rate("::ffff:127.0.0.1", 1))
        assert answer.entries[0].error_code == 0
        for _ in range(10):
            assert stack.enter_context(Wire(broker.address)).call(ApiKey.API_VERSIONS, 3, ask).error_code == 0
        closed = stack.enter_context(Wire(broker.address))
        assert closed.socket.recv(1) == b""
        first.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, set_rate("127.0.0.1", 1000))
        assert stack.enter_context(Wire(broker.address)).call(ApiKey.API_VERSIONS, 3, ask).error_code == 0


def test_a_broker_that_accepts_slowly_serves_everybody_and_counts_it() -> None:
    waits: list[tuple[str, str]] = []

    def watch(server: BrokerServer) -> None:
        server.occurrences.throttled.connect(lambda address, reason: waits.append((address, reason)))

    with hw.Broker(settings={RATE: 1, "quota.window.num": 2}) as broker:
        assert isinstance(broker.runner, ThreadRunner)
        broker.runner.call(watch)
        for _ in range(3):
            with Wire(broker.address) as wire:
                assert wire.call(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("a", "1")).error_code == 0
    assert set(waits) == {("127.0.0.1", "connections")}
