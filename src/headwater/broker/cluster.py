"""The nodes that clients see, and where each can be reached.

One process is one node, or, for tests that were written for a cluster, several virtual ones (`--nodes 3`): each listens
on a port of its own, all are replicas of everything and in sync, and leaders are spread over them. Every node serves
every partition: there is one log.
"""

from typing import NamedTuple

from headwater.security.acls import ANONYMOUS

PLAINTEXT = "PLAINTEXT"
# On the loopback, for the planes of this broker alone. Names of configured listeners have capital letters, so none is this.
PRIVATE_LISTENER = "headwater"
PROTOCOLS = (PLAINTEXT, "SSL", "SASL_PLAINTEXT", "SASL_SSL")


class Endpoint(NamedTuple):
    """What a client connected to: a listener of a node."""

    listener: str = PLAINTEXT
    protocol: str = PLAINTEXT
    node_id: int = -1

    @property
    def has_sasl(self) -> bool:
        return self.protocol.startswith("SASL_")

    @property
    def is_private(self) -> bool:
        return self.listener == PRIVATE_LISTENER

    @property
    def has_tls(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def first_principal(self) -> str | None:
        """Who a client is before it has said anything: None where it has to authenticate first."""
        return None if self.has_sasl else ANONYMOUS


PLAIN_ENDPOINT = Endpoint()


class Cluster:
    """See the module's docstring."""

    def __init__(self, node_id: int, count: int = 1, rack: str | None = None) -> None:
        self.node_ids = [node_id + n for n in range(count)]
        self.is_single = count == 1
        self.rack = rack
        self.addresses: dict[tuple[str, int], tuple[str, int]] = {}

    def advertise(self, listener: str, node_id: int, host: str, port: int) -> None:
        """Says where clients of a listener reach a node."""
        self.addresses[listener, node_id] = host, port

    def address(self, listener: str, node_id: int) -> tuple[str, int]:
        """Where clients that came by this listener reach the node; ("", -1) where it does not have that listener."""
        return self.addresses.get((listener, node_id), ("", -1))

    def node_of(self, endpoint: Endpoint) -> int:
        """The node that a client is connected to."""
        return endpoint.node_id if endpoint.node_id >= 0 else self.node_ids[0]

    def nodes(self, endpoint: Endpoint) -> list[tuple[int, str, int]]:
        """(id, host, port) of every node, as clients of that listener reach it."""
        return [(node_id, *self.address(endpoint.listener, node_id)) for node_id in self.node_ids]

    def replicas(self, topic_id: bytes, partition: int, replication: int) -> list[int]:
        """A partition's nodes, its leader first; at most all that there are."""
        node_ids = self.node_ids
        if len(node_ids) == 1:
            return node_ids
        first = (int.from_bytes(topic_id[-4:], "big") + partition) % len(node_ids)
        ordered = node_ids[first:] + node_ids[:first]
        return ordered[: max(1, replication)]

    def leader(self, topic_id: bytes, partition: int) -> int:
        return self.replicas(topic_id, partition, 1)[0]
