"""A client can read what was acknowledged to it, as in a Kafka of one node.

With acks=1 the answer comes from the page cache, but readers see only what the journal has synced, which is a moment
later. A request that asks where a log ends, or fetches up to its end, therefore waits until what the log had when the
request came is durable. That is one sync of the journal, two at most.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from headwater.effects.timers import Timers
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.log import Log
from headwater.storage.store import LogStore

Answer = TypeVar("Answer")
WAIT_MS_MAX = 30_000  # a journal that takes longer than this has a sick disk


class VisibilityParts(Protocol):
    """What tells how far the disk is, and waits for it."""

    store: LogStore
    timers: Timers

    def when_durable(self, sync: SyncNumber, callback: Callable[[], None]) -> None: ...


def answer_when_visible(
    broker: VisibilityParts,
    logs: Iterable[Log],
    timeout_ms: float,
    answer: Callable[[], Answer],
    answer_after_timeout: Callable[[], Answer],
) -> Answer | Deferred[Answer]:
    """The answer, given when all that the logs have now is visible; at once where it is.

    `answer_after_timeout` is called when that takes longer than the timeout, or than WAIT_MS_MAX.
    """
    sync = max((broker.store.sync_of_end(log) for log in logs), default=NO_SYNC)
    if sync == NO_SYNC:
        return answer()
    deferred: Deferred[Answer] = Deferred()
    timer = broker.timers.call_later(min(timeout_ms, WAIT_MS_MAX), lambda: deferred.complete(answer_after_timeout()))

    def visible() -> None:
        timer.cancel()
        if not deferred.done:
            deferred.complete(answer())

    broker.when_durable(sync, visible)
    return deferred
