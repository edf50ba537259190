"""The nodes that clients see, and where each can be reached.

One process is one node, or several virtual ones, for tests that were written for a cluster (`--nodes 3`). Each of these
listens on a port of its own, all are replicas of everything and in sync, and leaders are spread over them. Every node can
serve every partition, because there is only one log.
"""

from typing import NamedTuple

from headwater.security.acls import ANONYMOUS

PLAINTEXT = "PLAINTEXT"
# On the loopback, only for this broker's planes. Configured listeners have capital letters, so the name cannot clash.
PRIVATE_LISTENER = "headwater"
PROTOCOLS = (PLAINTEXT, "SSL", "SASL_PLAINTEXT", "SASL_SSL")


class Endpoint(NamedTuple):
    """The listener of a node that a client connected to."""

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
        """The principal of a client that has not sent anything; None if it has to authenticate first."""
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
        """Sets the address at which clients of a listener reach a node."""
        self.addresses[listener, node_id] = host, port

    def address(self, listener: str, node_id: int) -> tuple[str, int]:
        """The address of the node for clients of this listener; ("", -1) if the node does not have that listener."""
        return self.addresses.get((listener, node_id), ("", -1))

    def node_of(self, endpoint: Endpoint) -> int:
        """The node that a client is connected to."""
        return endpoint.node_id if endpoint.node_id >= 0 else self.node_ids[0]

    def nodes(self, endpoint: Endpoint) -> list[tuple[int, str, int]]:
        """(id, host, port) of every node, as clients of that listener reach it."""
        return [(node_id, *self.address(endpoint.listener, node_id)) for node_id in self.node_ids]

    def replicas(self, topic_id: bytes, partition: int, replication: int) -> list[int]:
        """A partition's nodes, its leader first; at most as many as exist."""
        node_ids = self.node_ids
        if len(node_ids) == 1:
            return node_ids
        first = (int.from_bytes(topic_id[-4:], "big") + partition) % len(node_ids)
        ordered = node_ids[first:] + node_ids[:first]
        return ordered[: max(1, replication)]

    def leader(self, topic_id: bytes, partition: int) -> int:
        return self.replicas(topic_id, partition, 1)[0]
