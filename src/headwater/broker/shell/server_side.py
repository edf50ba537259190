"""What a connection needs from its server.

A server makes its connections and calls them; a connection calls its server. So that neither imports the other, each part of
the shell names what it needs. A connection needs most of the server. The server has these attributes itself, so nothing
stands in between.
"""

import asyncio
from typing import Protocol, TypeVar

from headwater.broker.connection_limits import ConnectionLimits
from headwater.broker.core import BrokerCore
from headwater.broker.durability import Durability
from headwater.broker.limited_log import LimitedLog
from headwater.broker.memory_budgets import AnswerBudget, RequestBudget, TurnBudget
from headwater.broker.shell.deadlines import Deadlines, TimedClient
from headwater.broker.shell.muting import Muting
from headwater.broker.turns import Flow, Turns


class ServedClient(TimedClient, Flow, Protocol):
    """A connection, as the parts that it shares with others see it: its place, its deadlines and its turns."""


AnyServedClient = TypeVar("AnyServedClient", bound=ServedClient)


class ServerSide(Protocol[AnyServedClient]):
    """The loop, the core that answers, and what all connections share."""

    core: BrokerCore  # for `dispatch`
    loop: asyncio.AbstractEventLoop
    durability: Durability
    receive_buffer: memoryview
    turns: Turns[AnyServedClient]
    turn_answers: TurnBudget
    requests: RequestBudget
    answers: AnswerBudget[AnyServedClient]
    limits: ConnectionLimits[AnyServedClient]
    deadlines: Deadlines[AnyServedClient]
    muting: Muting
    log: LimitedLog

    def after_event(self) -> None: ...

    def count_answers(self, size: int) -> None: ...

    def wait_for_journal(self, client: AnyServedClient) -> None: ...

    def disconnected(self, client: AnyServedClient) -> None: ...
