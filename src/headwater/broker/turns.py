"""Whose request is handled next: clients that use little of the broker's time go before those that use much.

One thread serves all connections. The loop learns which of them have sent something, and handles that, one after another:
this is one *turn* of the loop. Without a rule, a request waits for everything that is handled before it in its turn. Next to
eight clients that send nonsense as fast as they can, it waits for eight pieces of nonsense, and for eight more before its
answer leaves.

The rule is fair queuing, as in routers, where sparse flows go first (fq_codel, RFC 8290). Each connection has *credit*: a
time for which its requests are handled as soon as they arrive. Credit grows with time, by `SHARE` of it, up to
`CREDIT_MS_MAX`; handling the connection's requests uses it up. A connection with credit is *light*, one without is *heavy*.
All heavy ones together get `SLICE_MS` of a turn. What does not fit waits in a queue, and each turn handles a slice of the
queue.

For example, a light connection L and three heavy ones, whose requests take 0.05 ms each, so that two of them fill a slice:

    turn   from the queue   arrived       handled at once   put off
    1                       H1 H2 H3 L    H1 H2 L           H3
    2      H3               H1 H2         H1                H2
    3      H2               H3 L H1       H3 L              H1

So L waits for a slice and one request, however many heavy ones there are. The heavy ones share what L leaves, in order of
arrival. Each turn has a slice for them, so light ones cannot starve them.

A connection that was just opened is heavy. Otherwise a client that opens a new connection for each request would be light,
for example one whose connections are closed because of the nonsense that they send.

Nothing is put off if that helps nobody: if no light connection has sent anything for `LIGHT_MS`, or if only a single
connection is heavy. The loop reports a connection once per turn, so when it is reported again, that is another turn, which
has its own slice.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SLICE_MS = 0.1
SHARE = 1 / 16
CREDIT_MS_MAX = 2.0
CREDIT_MS_MIN = -5.0  # however much it has used, it is light again after 80 ms without requests
NEWCOMER_CREDIT_MS = -1.0
LIGHT_MS = 100.0
TURN_MS_MAX = 2.0  # for one connection that has sent many requests at once, while nobody waits


class Flow(Protocol):
    """A connection, as the turns see it."""

    credit_ms: float
    credited_ms: float  # the time up to which its credit has grown
    turn_number: int  # the last turn in which it was handled while it was heavy

    def next_turn(self) -> None:
        """Handles what was put off."""
        ...


AnyFlow = TypeVar("AnyFlow", bound=Flow)


class Turns(Generic[AnyFlow]):
    """The turns of one loop. `call_soon` calls back in its next turn."""

    def __init__(self, steady_ms: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.steady_ms = steady_ms
        self.call_soon = call_soon
        self.queue: deque[AnyFlow] = deque()
        self.number = 0
        self.heavy_ms = 0.0  # the time of heavy ones in this turn
        self.light_ms = -math.inf  # when a light one last sent something
        self.begun_ms = 0.0
        self.is_heavy = False  # about the one that is being handled
        self.is_scheduled = False

    def begin(self, flow: AnyFlow) -> bool:
        """Something of that connection has arrived. True: handle it, then call `end`. False: `wait` for its turn."""
        self.begun_ms = now_ms = self.steady_ms()
        credit_ms = flow.credit_ms + (now_ms - flow.credited_ms) * SHARE
        flow.credited_ms = now_ms
        self.is_heavy = credit_ms <= 0
        if credit_ms <= 0:
            flow.credit_ms = credit_ms
            return self.has_room_for(flow)
        flow.credit_ms = credit_ms if credit_ms < CREDIT_MS_MAX else CREDIT_MS_MAX
        self.light_ms = now_ms
        return True

    def has_room_for(self, flow: AnyFlow) -> bool:
        """Whether a heavy connection is handled at once."""
        if self.queue:
            return False
        if flow.turn_number == self.number:  # it is reported again, so this is another turn
            self.number += 1
            self.heavy_ms = 0.0
        flow.turn_number = self.number
        return self.heavy_ms < SLICE_MS or self.begun_ms - self.light_ms > LIGHT_MS

    def end(self, flow: AnyFlow) -> None:
        """Call this when the connection has been handled after `begin`."""
        spent_ms = self.steady_ms() - self.begun_ms
        flow.credit_ms = credit_ms = flow.credit_ms - spent_ms
        if self.is_heavy:
            self.heavy_ms += spent_ms
            if credit_ms < CREDIT_MS_MIN:
                flow.credit_ms = CREDIT_MS_MIN

    def wait(self, flow: AnyFlow) -> None:
        """Schedules a call of its `next_turn` after those that have waited longer."""
        self.queue.append(flow)
        if not self.is_scheduled:
            self.is_scheduled = True
            self.call_soon(self.run)

    def run(self) -> None:
        """Handles a slice of the queue: at least one connection, and none twice."""
        self.number += 1
        self.heavy_ms = 0.0
        try:
            for _ in range(len(self.queue)):
                flow = self.queue.popleft()
                self.begun_ms, self.is_heavy = self.steady_ms(), True
                flow.next_turn()
                self.end(flow)
                if self.heavy_ms >= SLICE_MS:
                    break
        finally:
            self.is_scheduled = bool(self.queue)
            if self.is_scheduled:
                self.call_soon(self.run)
