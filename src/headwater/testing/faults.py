"""Faults between a test's clients and its broker: requests that arrive late or never, and connections that break."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from difflib import get_close_matches
from typing import Literal, get_args

from headwater.broker.core import BrokerCore
from headwater.broker.shell.client_protocol import ClientProtocol
from headwater.broker.shell.server import Server
from headwater.protocol.apis import APIS
from headwater.protocol.frames import read_request_header
from headwater.testing.transcript import Transcript

# Every API that the broker serves (a test checks this), so that type checkers and editors know the names too.
ApiName = Literal[
    "AddOffsetsToTxn",
    "AddPartitionsToTxn",
    "AlterClientQuotas",
    "AlterConfigs",
    "AlterPartitionReassignments",
    "AlterReplicaLogDirs",
    "AlterUserScramCredentials",
    "ApiVersions",
    "ConsumerGroupDescribe",
    "ConsumerGroupHeartbeat",
    "CreateAcls",
    "CreateDelegationToken",
    "CreatePartitions",
    "CreateTopics",
    "DeleteAcls",
    "DeleteGroups",
    "DeleteRecords",
    "DeleteTopics",
    "DescribeAcls",
    "DescribeClientQuotas",
    "DescribeCluster",
    "DescribeConfigs",
    "DescribeDelegationToken",
    "DescribeGroups",
    "DescribeLogDirs",
    "DescribeProducers",
    "DescribeQuorum",
    "DescribeTopicPartitions",
    "DescribeTransactions",
    "DescribeUserScramCredentials",
    "ElectLeaders",
    "EndTxn",
    "ExpireDelegationToken",
    "Fetch",
    "FindCoordinator",
    "Heartbeat",
    "IncrementalAlterConfigs",
    "InitProducerId",
    "JoinGroup",
    "LeaveGroup",
    "ListConfigResources",
    "ListGroups",
    "ListOffsets",
    "ListPartitionReassignments",
    "ListTransactions",
    "Metadata",
    "OffsetCommit",
    "OffsetDelete",
    "OffsetFetch",
    "OffsetForLeaderEpoch",
    "Produce",
    "RenewDelegationToken",
    "SaslAuthenticate",
    "SaslHandshake",
    "SyncGroup",
    "TxnOffsetCommit",
    "UpdateFeatures",
    "WriteTxnMarkers",
]


class Network:
    """The present faults of the network. APIs have Kafka's names, such as "Produce"; None means all."""

    def __init__(self) -> None:
        self.delays: list[tuple[str | None, float]] = []
        self.dropped: list[str | None] = []

    def delay(self, delay_ms: float, api: ApiName | None = None) -> AbstractContextManager[None]:
        """Within the block requests arrive `delay_ms` later, in order per connection. Raises ValueError."""
        if not delay_ms >= 0:
            raise ValueError(f"the delay is {delay_ms} ms; give 0 or more")
        return self.delayed((checked_api(api), delay_ms))

    @contextmanager
    def delayed(self, entry: tuple[str | None, float]) -> Iterator[None]:
        self.delays.append(entry)
        try:
            yield
        finally:
            self.delays.remove(entry)

    def drop(self, api: ApiName | None = None) -> AbstractContextManager[None]:
        """Within the block requests are lost, and their connections break, as if the network had failed. Raises ValueError."""
        return self.losing(checked_api(api))

    @contextmanager
    def losing(self, api: str | None) -> Iterator[None]:
        self.dropped.append(api)
        try:
            yield
        finally:
            self.dropped.remove(api)

    def delay_ms(self, api: str) -> float:
        return sum(delay_ms for name, delay_ms in self.delays if name in (None, api))

    def loses(self, api: str) -> bool:
        return None in self.dropped or api in self.dropped


def checked_api(api: str | None) -> str | None:
    """Raises ValueError for an unknown API, with the known ones: a fault that never happens would let the test pass."""
    names = get_args(ApiName)
    if api is not None and api not in names:
        close = get_close_matches(str(api), names, 1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{api!r} is not an API of the broker; {meant}it has {', '.join(names)}")
    return api


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
            late.append(frame)  # after one that is already late
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
