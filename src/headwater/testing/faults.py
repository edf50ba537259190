"""Faults between a test's clients and its broker: requests that come late or not at all, connections that break."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headwater.broker.client_protocol import ClientProtocol
from headwater.broker.core import BrokerCore
from headwater.broker.server import Server
from headwater.protocol.apis import APIS
from headwater.protocol.frames import read_request_header
from headwater.testing.transcript import Transcript

Matches = Callable[[str], bool]


class Network:
    """What is wrong with the network now. APIs go by Kafka's names, such as "Produce"; None means all."""

    def __init__(self) -> None:
        self.delays: list[tuple[str | None, float]] = []
        self.dropped: list[str | None] = []

    @contextmanager
    def delay(self, delay_ms: float, api: str | None = None) -> Iterator[None]:
        """Within the block requests arrive so much later; those of a connection stay in order."""
        entry = (api, delay_ms)
        self.delays.append(entry)
        try:
            yield
        finally:
            self.delays.remove(entry)

    @contextmanager
    def drop(self, api: str | None = None) -> Iterator[None]:
        """Within the block a request is lost, and its connection breaks as the network's would."""
        self.dropped.append(api)
        try:
            yield
        finally:
            self.dropped.remove(api)

    def delay_ms(self, api: str) -> float:
        return sum(delay_ms for name, delay_ms in self.delays if name in (None, api))

    def loses(self, api: str) -> bool:
        return None in self.dropped or api in self.dropped


class FaultyProtocol(ClientProtocol):
    """A connection over that network."""

    __slots__ = ("late",)

    def handle(self, frame: bytearray) -> None:
        server = self.server
        assert isinstance(server, FaultyServer)
        api = api_name(frame)
        server.transcript.note(self.connection.client_host, api, len(frame))
        if server.network.loses(api):
            if self.transport is not None:
                self.transport.abort()
            return
        delay_ms = server.network.delay_ms(api)
        late: list[bytearray] | None = getattr(self, "late", None)
        if late:
            late.append(frame)  # behind one that is late already
        elif delay_ms:
            self.late = [frame]
            server.loop.call_later(delay_ms / 1000, self.arrive)
        else:
            super().handle(frame)

    def arrive(self) -> None:
        frames, self.late = self.late, []
        for frame in frames:
            if not self.closing:
                super().handle(frame)
        self.server.after_event()


class FaultyServer(Server):
    """The server of a test broker."""

    protocol_class = FaultyProtocol

    def __init__(self, core: BrokerCore, network: Network, transcript: Transcript) -> None:
        super().__init__(core, inline=True)
        self.network, self.transcript = network, transcript


def api_name(frame: bytearray) -> str:
    api = APIS.get(read_request_header(frame).api_key)
    return api.name if api is not None else "unknown"
