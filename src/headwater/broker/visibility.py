"""A client can read what was acknowledged to it, as in a Kafka cluster of one node.

With acks=1 a batch is acknowledged when it is in the page cache, but readers see only what the journal has synced, which is
a moment later. So a request that asks where a log ends, or fetches up to its end, waits until everything that the log had
when the request arrived is durable. That takes one sync of the journal, two at most.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from headwater.effects.timers import Timers
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.log import Log
from headwater.storage.store import LogStore

Answer = TypeVar("Answer")
WAIT_MS_MAX = 30_000  # if the journal takes longer than this, the disk is in trouble


class VisibilityParts(Protocol):
    """Shows what is durable, and waits for it."""

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
    """The answer, given when everything that the logs have now is visible; if it is visible already, at once.

    `answer_after_timeout` is called if that takes longer than the timeout, or than WAIT_MS_MAX.
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
