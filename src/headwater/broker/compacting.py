"""Compaction as a chore of the broker: one log at a time, now and then, never in the way.

On disk a job runs in a process of its own, which the shell starts (`core.run_cleaning`); in memory step by step between
requests. The coordinators' own topics are not here: they keep themselves short (`state_topics.py`).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from headwater.effects.logs import get_logger
from headwater.protocol.errors import ProtocolError
from headwater.storage import compaction
from headwater.storage.cleaner import Cleaned, Cleaning, CleanJob
from headwater.storage.log import Log
from headwater.storage.swaps import CLEANING_DIRECTORY

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore

logger = get_logger(__name__)

STEP_PAUSE_MS = 1.0
RETRY_FIRST_MS, RETRY_MAX_MS = 60_000.0, 3_600_000.0

Done: TypeAlias = Callable[[Cleaned | None, str], None]
"""Called in the owner's thread with a job's result, or None and why it failed."""


class Compacting:
    """See the module's text."""

    def __init__(self, core: "BrokerCore") -> None:
        self.core = core
        self.is_running = False
        self.failed: dict[Log, tuple[float, float]] = {}  # when each is tried again, and how long that was put off (ms)

    def start_next(self) -> bool:
        """Begins a job for the log that needs it most; False where none does, or one is under way."""
        core = self.core
        if self.is_running or core.is_failed or not core.settings.log_cleaner_enable:
            return False
        internal = {topic.topic_id for topic in core.metadata.topics.values() if topic.is_internal}
        logs = [log for log in core.store.logs.values() if log.topic_id not in internal and not self.is_put_off(log)]
        now_ms = core.clock.wall_ms()
        found = compaction.filthiest(core.store, logs, now_ms, self.put_off)
        if found is None:
            return False
        if not found.is_synced:
            core.durability.wants_checkpoint = True  # when it is there, `start_next` is called again
            return False
        log = found.log
        try:
            job = compaction.job_for(found, now_ms, core.settings.log_cleaner_dedupe_buffer_size)
        except OSError as error:
            self.put_off(log, str(error))
            return False
        self.is_running = True

        def done(cleaned: Cleaned | None, reason: str) -> None:
            self.finish(log, cleaned, reason)

        if core.run_cleaning is not None:
            core.run_cleaning(job, done)
        else:
            self.begin_steps(job, done)
        return True

    def begin_steps(self, job: CleanJob, done: Done) -> None:
        try:
            cleaning = Cleaning(self.core.store.files, job)
        except OSError as error:
            done(None, str(error))
        else:
            self.step(cleaning, cleaning.steps(), done)

    def is_put_off(self, log: Log) -> bool:
        return log in self.failed and self.core.clock.steady_ms() < self.failed[log][0]

    def put_off(self, log: Log, reason: str) -> None:
        """Leaves a log as it is, and tries again later: each time after twice as long."""
        core = self.core
        delay_ms = min(RETRY_MAX_MS, self.failed[log][1] * 2 if log in self.failed else RETRY_FIRST_MS)
        self.failed = {log: entry for log, entry in self.failed.items() if log in core.store.logs.values()}
        self.failed[log] = (core.clock.steady_ms() + delay_ms, delay_ms)
        logger.error(
            "%s cannot be compacted, it is tried again in %d minutes: %s", log.directory, delay_ms // 60_000, reason
        )
        try:
            core.store.remove_folder(f"{log.directory}/{CLEANING_DIRECTORY}")
        except OSError as error:
            logger.error("%s/%s stays for now: %s", log.directory, CLEANING_DIRECTORY, error)

    def step(self, cleaning: Cleaning, steps: Iterator[None], done: Done) -> None:
        try:
            next(steps)
        except StopIteration:
            done(cleaning.result, "")
        except (OSError, ProtocolError) as error:
            done(None, str(error))
        else:
            self.core.timers.call_later(STEP_PAUSE_MS, lambda: self.step(cleaning, steps, done))

    def finish(self, log: Log, cleaned: Cleaned | None, reason: str) -> None:
        self.is_running = False
        core = self.core
        if core.is_failed:
            return
        if core.store.logs.get((log.topic_id, log.partition)) is not log:
            return  # deleted meanwhile
        if cleaned is None:
            self.put_off(log, reason)
            return
        try:
            compaction.take_result(core.store, log, cleaned)
        except compaction.NotTakenError as error:
            self.put_off(log, str(error))
            return
        except OSError as error:
            core.broken_by(error)
            return
        self.failed.pop(log, None)
        core.statistics.compactions += 1
        self.start_next()
