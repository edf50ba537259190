"""The simulated network: connections that carry real frames, which arrive late, and sometimes never.

Each direction of a connection delivers its frames in order; there is no order between connections. A frame takes a moment to
arrive, now and then a long one. A connection can be cut in three ways, which look the same to the client:

    lost        no frame in flight arrives, in either direction
    delivered   the client's frames arrive, but the answers do not: the request is carried out, and the client cannot know
    torn        only a part of the last frame in flight arrives: the broker must not act on it

A client that gives up on an answer closes its connection. The frames that it had sent are still delivered, perhaps after
the client has sent the same request again on a new connection. This is how a broker meets zombies.
"""

from collections import deque
from collections.abc import Callable

from headwater.testing.simulate.broker_end import BrokerEnd
from headwater.testing.simulate.node import Node
from headwater.testing.simulate.world import World

SLOW_CHANCE = 0.02
SLOW_MS = 800.0


class Link:
    """One connection, as its client sees it. `received` gets each response frame; `lost` is called once, at the end."""

    def __init__(
        self, world: World, node: Node, received: Callable[[bytes], None], lost: Callable[[], None], number: int
    ) -> None:
        self.world, self.node = world, node
        self.received, self.lost = received, lost
        self.number = number
        self.is_open = True  # as the client sees it
        self.end: BrokerEnd | None = node.accept(self.send_back, self.broker_gone)
        self.last_out_ms = self.last_back_ms = 0.0
        self.under_way: deque[bytes] = deque()  # frames that have not reached the broker yet
        self.drops = False  # frames in flight to the broker are lost

    def delay_ms(self) -> float:
        random = self.world.random.random
        if random() < SLOW_CHANCE:
            return random() * SLOW_MS
        return 0.1 + random() * 2.0

    # -- to the broker

    def send(self, frame: bytes) -> None:
        self.under_way.append(frame)
        self.last_out_ms = max(self.last_out_ms, self.world.now_ms + self.delay_ms())
        self.world.at(self.last_out_ms, self.deliver)

    def deliver(self) -> None:
        if not self.under_way:
            return
        frame = self.under_way.popleft()
        end = self.end
        if end is None or self.drops or not end.is_open:
            return
        self.world.record(b"> %d " % self.number + frame)
        end.receive(frame)

    # -- to the client

    def send_back(self, frame: bytes) -> None:
        self.last_back_ms = max(self.last_back_ms, self.world.now_ms + self.delay_ms())
        self.world.at(self.last_back_ms, lambda: self.deliver_back(frame))

    def deliver_back(self, frame: bytes) -> None:
        if self.is_open:
            self.world.record(b"< %d " % self.number + frame)
            self.received(frame)

    # -- the end

    def close(self) -> None:
        """The client gives up: its frames still arrive, followed by the end of the connection."""
        self.is_open = False
        self.last_out_ms = max(self.last_out_ms, self.world.now_ms + self.delay_ms())
        self.world.at(self.last_out_ms, self.close_end)

    def close_end(self) -> None:
        if self.end is not None:
            self.end.close()

    def cut(self) -> None:
        """The network fails."""
        how = self.world.random.choice(("lost", "delivered", "torn"))
        if how == "lost":
            self.drops = True
        elif how == "torn" and self.under_way:
            frame = self.under_way.pop()
            self.under_way.append(frame[: self.world.random.randrange(len(frame))])
        self.world.record(f"cut {self.number} {how}".encode())
        was_open = self.is_open
        self.close()
        if was_open:
            self.lost()

    def broker_gone(self) -> None:
        """The broker's process has ended."""
        self.drops = True
        if self.is_open:
            self.is_open = False
            self.world.later(self.delay_ms(), self.lost)
