"""Compaction as a chore of the broker: one log at a time, from time to time, never in the way.

On disk a job runs in its own process, which the shell starts (`run_job`); in memory it runs step by step between requests.
The coordinators' own topics are not compacted here: they keep themselves short (`state_logs.py`).
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from headwater.broker.occurrences import Occurrences
from headwater.broker.partitions import Partitions
from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.protocol.errors import ProtocolError
from headwater.storage import compaction
from headwater.storage.cleaner import Cleaned, Cleaning, CleanJob
from headwater.storage.log import Log
from headwater.storage.swaps import CLEANING_DIRECTORY

logger = get_logger(__name__)

STEP_PAUSE_MS = 1.0
RETRY_FIRST_MS, RETRY_MAX_MS = 60_000.0, 3_600_000.0

Done: TypeAlias = Callable[[Cleaned | None, str], None]
"""Called in the owner's thread with a job's result, or with None and the reason of its failure."""


RunJob: TypeAlias = Callable[[CleanJob, Done], None]
"""Runs a job outside the owner's thread."""


class CompactionChore:
    """See the module's docstring. Without `run_job` a job runs between requests."""

    def __init__(
        self, partitions: Partitions, clock: Clock, timers: Timers, occurrences: Occurrences, run_job: RunJob | None
    ) -> None:
        self.partitions = partitions
        self.store = partitions.store
        self.durability = partitions.durability
        self.clock = clock
        self.timers = timers
        self.occurrences = occurrences
        self.run_job = run_job
        self.is_running = False
        self.failed: dict[Log, tuple[float, float]] = {}  # when each is tried again, and the last delay (ms)

    def start_next(self) -> bool:
        """Begins a job for the log that needs it most; False if no log does, or a job is running."""
        settings = self.partitions.configs.settings
        if self.is_running or self.durability.is_failed or not settings.log_cleaner_enable:
            return False
        internal = {topic.topic_id for topic in self.partitions.metadata.topics.values() if topic.is_internal}
        logs = [log for log in self.store.logs.values() if log.topic_id not in internal and not self.is_put_off(log)]
        now_ms = self.clock.wall_ms()
        found = compaction.filthiest(self.store, logs, now_ms, self.put_off)
        if found is None:
            return False
        if not found.is_synced:
            self.durability.wants_checkpoint = True  # after it, `start_next` is called again
            return False
        log = found.log
        try:
            job = compaction.job_for(found, now_ms, settings.log_cleaner_dedupe_buffer_size)
        except OSError as error:
            self.put_off(log, str(error))
            return False
        self.is_running = True

        def done(cleaned: Cleaned | None, reason: str) -> None:
            self.finish(log, cleaned, reason)

        if self.run_job is not None:
            self.run_job(job, done)
        else:
            self.begin_steps(job, done)
        return True

    def begin_steps(self, job: CleanJob, done: Done) -> None:
        try:
            cleaning = Cleaning(self.store.files, job)
        except OSError as error:
            done(None, str(error))
        else:
            self.step(cleaning, cleaning.steps(), done)

    def is_put_off(self, log: Log) -> bool:
        return log in self.failed and self.clock.steady_ms() < self.failed[log][0]

    def put_off(self, log: Log, reason: str) -> None:
        """Leaves a log as it is, and tries again later, with a delay that doubles each time."""
        delay_ms = min(RETRY_MAX_MS, self.failed[log][1] * 2 if log in self.failed else RETRY_FIRST_MS)
        self.failed = {log: entry for log, entry in self.failed.items() if log in self.store.logs.values()}
        self.failed[log] = (self.clock.steady_ms() + delay_ms, delay_ms)
        logger.error("%s cannot be compacted; trying again in %d min: %s", log.directory, delay_ms // 60_000, reason)
        try:
            self.store.remove_folder(f"{log.directory}/{CLEANING_DIRECTORY}")
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
            self.timers.call_later(STEP_PAUSE_MS, lambda: self.step(cleaning, steps, done))

    def finish(self, log: Log, cleaned: Cleaned | None, reason: str) -> None:
        self.is_running = False
        if self.durability.is_failed:
            return
        if self.store.logs.get((log.topic_id, log.partition)) is not log:
            return  # deleted meanwhile
        if cleaned is None:
            self.put_off(log, reason)
            return
        try:
            compaction.take_result(self.store, log, cleaned)
        except compaction.NotTakenError as error:
            self.put_off(log, str(error))
            return
        except OSError as error:
            self.durability.fail(error)
            return
        self.failed.pop(log, None)
        self.occurrences.log_compacted.emit(log)
        self.start_next()
