"""The journal's driver alone: a journal, a store and a disk that do what the test says, and write down what they were asked."""

import errno
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from headwater.broker.durability import Durability, ThisThread
from headwater.broker.occurrences import Occurrences
from headwater.effects.files import SyncError
from headwater.effects.memory_files import MemoryFiles
from headwater.observability.counters import Counters
from headwater.replay.sync_number import SyncNumber
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.journal import Sync
from headwater.storage.log import Log

NO_ROOM = OSError(errno.ENOSPC, "no room")
BROKEN = OSError(errno.EIO, "broken")


class FakeJournal:
    """One batch is one byte. `errors` has what the next calls of a name raise."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.waiting_bytes = 0
        self.pending = Sync(SyncNumber(1), 0)
        self.has_full_file = self.is_blocked = False
        self.errors: dict[str, OSError] = {}

    def append(self) -> SyncNumber:
        self.pending.size_bytes += 1
        self.waiting_bytes += 1
        return self.pending.number

    def take(self) -> Sync | None:
        if self.is_blocked or not self.pending.size_bytes:
            return None
        sync, self.pending = self.pending, Sync(SyncNumber(self.pending.number + 1), 0)
        return sync

    def write(self, sync: Sync) -> int:
        self.events.append(f"write {sync.number}")
        self.fail_if_told("write")
        return 0

    def sync(self, file: int) -> None:
        self.events.append(f"sync file {file}")
        self.fail_if_told("sync")

    def fail_if_told(self, call: str) -> None:
        if call in self.errors:
            raise self.errors.pop(call)


class FakeStore:
    """A checkpoint frees the journal's full file."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.journal = FakeJournal(self.events)
        self.has_unsynced_logs = False
        self.files = MemoryFiles()
        self.files.make_directory("data")

    def write_gathered(self) -> OSError | None:
        return None

    def sync_logs_of(self, sync: Sync) -> None:
        self.events.append(f"sync logs of {sync.number}")
        self.journal.fail_if_told("sync logs")

    def sync_done(self, sync: Sync) -> list[Log]:
        self.events.append(f"durable {sync.number}")
        self.journal.waiting_bytes -= sync.size_bytes
        return []

    def begin_checkpoint(self) -> Checkpoint:
        self.events.append("checkpoint")
        self.journal.fail_if_told("begin checkpoint")
        return Checkpoint(self.files, "data", {})

    def finish_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.events.append("checkpoint finished")
        self.journal.fail_if_told("retire")
        self.journal.has_full_file = self.journal.is_blocked = False

    def distrust_cache(self) -> None:
        self.events.append("cache distrusted")

    def undo_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.events.append("checkpoint undone")


class FakeDisk:
    """Ends nothing by itself."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.error: OSError | None = None

    def begin_sync(self, file: int) -> bool:
        self.events.append("begin sync")
        if self.error is not None:
            raise self.error
        return False

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.events.append("run checkpoint")

    def journal_advanced(self) -> None:
        self.events.append("advanced")

    def failed(self, error: Exception) -> None:
        self.events.append(f"failed: {error}")

    def report(self, error: Exception) -> None:
        self.events.append(f"report: {error}")


class Driver:
    """A driver and what stands around it; `events` is what it did since they were last looked at."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.store = FakeStore()
        self.journal, self.all_events = self.store.journal, self.store.events
        occurrences = Occurrences()
        self.counters = Counters(occurrences)
        self.durability = Durability(
            self.store,
            occurrences,
            logs_grew=lambda logs: None,
            checkpoint_taken=lambda: self.all_events.append("compact"),
        )
        self.disk = FakeDisk(self.all_events)
        if not at_once:
            self.durability.disk = self.disk

    @property
    def events(self) -> list[str]:
        events = list(self.all_events)
        self.all_events.clear()
        return events

    def append(self, answer: str = "") -> SyncNumber:
        """A batch arrives; its answer waits for it."""
        sync = self.journal.append()
        if answer:
            self.durability.when_durable(sync, partial(self.all_events.append, f"answer {answer}"))
        self.durability.after_event()
        return sync

    def fill(self) -> None:
        """Both files of the journal are full."""
        self.journal.has_full_file = self.journal.is_blocked = True


# -- writing


def test_nothing_is_done_where_nothing_waits() -> None:
    driver = Driver()
    driver.durability.after_event()
    driver.durability.after_timers()
    assert driver.events == []


def test_what_arrives_during_a_sync_is_the_next_one() -> None:
    """The example of the module's docstring."""
    driver = Driver()
    driver.append("A")
    assert driver.events == ["write 1", "begin sync"]
    driver.append("B")
    driver.append("C")
    assert driver.events == []
    driver.durability.synced(None)
    assert driver.events == ["write 2", "begin sync", "durable 1", "answer A", "advanced"]
    driver.durability.synced(None)
    assert driver.events == ["durable 2", "answer B", "answer C", "advanced"]
    assert driver.durability.syncing is None
    assert driver.counters.totals["journal_syncs"] == 2


def test_an_answer_that_appends_begins_the_next_sync() -> None:
    driver = Driver()
    sync = driver.journal.append()
    driver.durability.when_durable(sync, lambda: cast(None, driver.append("later")))
    driver.durability.after_event()
    driver.durability.synced(None)
    assert driver.events == ["write 1", "begin sync", "durable 1", "advanced", "write 2", "begin sync"]


def test_what_is_durable_already_is_called_at_once() -> None:
    driver = Driver()
    driver.append()
    driver.durability.synced(None)
    calls: list[int] = []
    driver.durability.when_durable(SyncNumber(0), lambda: calls.append(0))
    driver.durability.when_durable(SyncNumber(1), lambda: calls.append(1))
    driver.durability.when_durable(SyncNumber(2), lambda: calls.append(2))
    assert calls == [0, 1]
    assert driver.durability.answer_when_durable(SyncNumber(1), "answer").answer == "answer"
    assert not driver.durability.answer_when_durable(SyncNumber(2), "answer").done


def test_a_disk_that_syncs_at_once() -> None:
    driver = Driver(at_once=True)
    driver.append("A")
    assert driver.events == ["write 1", "sync file 0", "durable 1", "answer A"]


def test_answers_that_append_again_and_again_do_not_nest() -> None:
    driver = Driver(at_once=True)
    left = 5000

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            driver.durability.when_durable(driver.journal.append(), again)
            driver.durability.after_event()

    driver.durability.when_durable(driver.journal.append(), again)
    driver.durability.after_event()
    assert left == 0


def test_an_action_that_raises_is_reported_and_keeps_nobody_from_theirs() -> None:
    driver = Driver()

    def fail() -> None:
        raise ValueError("a defect")

    sync = driver.journal.append()
    driver.durability.when_durable(sync, fail)
    driver.append("A")
    driver.durability.synced(None)
    report = "report: callbacks have failed (1 sub-exception)"
    assert driver.events == ["write 1", "begin sync", "durable 1", "answer A", report, "advanced"]


def test_readers_that_cannot_be_woken_keep_no_answer_back() -> None:
    driver = Driver()

    def fail(logs: list[Log]) -> None:
        raise ValueError("a defect")

    driver.durability.logs_grew = fail
    driver.append("A")
    driver.durability.synced(None)
    assert driver.events == ["write 1", "begin sync", "durable 1", "answer A", "report: a defect", "advanced"]
    assert driver.durability.last_synced == 1


# -- a full disk


def test_on_a_full_disk_the_logs_are_synced_instead() -> None:
    driver = Driver()
    driver.journal.errors["write"] = NO_ROOM
    driver.append("A")
    assert driver.events == ["write 1", "sync logs of 1", "durable 1", "answer A", "advanced"]


def test_syncs_are_completed_in_order_where_the_second_needs_no_sync() -> None:
    driver = Driver()
    driver.append("A")
    driver.append("B")
    driver.journal.errors["write"] = NO_ROOM
    driver.durability.synced(None)
    assert [event for event in driver.events if event.startswith(("durable", "answer"))] == [
        "durable 1",
        "answer A",
        "durable 2",
        "answer B",
    ]
    assert driver.durability.last_synced == 2


def test_a_full_disk_whose_logs_cannot_be_synced_is_a_failure() -> None:
    driver = Driver()
    driver.journal.errors |= {"write": NO_ROOM, "sync logs": BROKEN}
    driver.append("A")
    assert driver.events == ["write 1", "sync logs of 1", "cache distrusted", "failed: [Errno 5] broken"]


# -- failures


def fail_by_writing(driver: Driver) -> None:
    driver.journal.errors["write"] = BROKEN
    driver.append("B")


def fail_by_beginning_to_sync(driver: Driver) -> None:
    driver.disk.error = BROKEN
    driver.append("B")


def fail_by_syncing(driver: Driver) -> None:
    driver.append("B")
    driver.durability.synced(BROKEN)


def fail_by_a_full_disk_when_syncing(driver: Driver) -> None:
    driver.append("B")
    driver.durability.synced(SyncError(errno.ENOSPC, "no room"))


def fail_by_syncing_out_of_turn(driver: Driver) -> None:
    driver.durability.synced(None)


def fail_by_beginning_a_checkpoint(driver: Driver) -> None:
    driver.journal.errors["begin checkpoint"] = BROKEN
    driver.durability.begin_checkpoint()


def fail_by_a_checkpoint(driver: Driver) -> None:
    driver.durability.begin_checkpoint()
    driver.durability.checkpoint_ended(BROKEN)


def fail_by_a_checkpoint_whose_sync_had_no_room(driver: Driver) -> None:
    driver.durability.begin_checkpoint()
    driver.durability.checkpoint_ended(SyncError(errno.ENOSPC, "no room"))


def fail_by_a_defect_in_a_checkpoint(driver: Driver) -> None:
    driver.durability.begin_checkpoint()
    driver.durability.checkpoint_ended(ValueError("a defect"))


def fail_by_finishing_a_checkpoint(driver: Driver) -> None:
    driver.durability.begin_checkpoint()
    driver.journal.errors["retire"] = BROKEN
    driver.durability.checkpoint_ended(None)


FAILURES = [
    fail_by_writing,
    fail_by_beginning_to_sync,
    fail_by_syncing,
    fail_by_a_full_disk_when_syncing,
    fail_by_syncing_out_of_turn,
    fail_by_beginning_a_checkpoint,
    fail_by_a_checkpoint,
    fail_by_a_checkpoint_whose_sync_had_no_room,
    fail_by_a_defect_in_a_checkpoint,
    fail_by_finishing_a_checkpoint,
]


@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failure_nothing_is_written_or_answered(
    failure: Callable[[Driver], None], caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver()
    driver.append("A")
    driver.durability.synced(None)
    _ = driver.events
    failure(driver)
    assert [event[:6] for event in driver.events][-1] == "failed"
    assert driver.durability.is_failed
    assert driver.durability.error is not None
    assert driver.durability.syncing is None
    assert "The broker ends" in caplog.text
    # Whatever happens from now on:
    driver.append("C")
    driver.durability.after_timers()
    driver.durability.wants_checkpoint = driver.store.has_unsynced_logs = True
    driver.durability.after_timers()
    driver.durability.checkpoint_regularly()
    driver.durability.checkpoint_ended(None)
    driver.durability.fail(NO_ROOM)
    assert driver.events == []
    with pytest.raises(type(driver.durability.error)):
        driver.durability.flush()
    assert driver.events == []


def test_a_failure_while_a_sync_is_under_way() -> None:
    driver = Driver()
    driver.append("A")
    driver.durability.fail(BROKEN)
    assert driver.events == ["write 1", "begin sync", "cache distrusted", "failed: [Errno 5] broken"]
    driver.durability.synced(None)  # it reaches the disk anyway, and nothing is reported
    assert driver.events == []


def test_what_is_on_disk_is_not_answered_where_the_next_write_fails() -> None:
    driver = Driver()
    driver.append("A")
    driver.append("B")
    _ = driver.events
    driver.journal.errors["write"] = BROKEN
    driver.durability.synced(None)
    assert driver.events == ["write 2", "cache distrusted", "failed: [Errno 5] broken"]


# -- checkpoints


def test_a_full_file_is_freed_by_a_checkpoint() -> None:
    driver = Driver()
    driver.append("A")
    driver.journal.has_full_file = True
    driver.durability.synced(None)
    assert driver.events[2:4] == ["checkpoint", "run checkpoint"]
    driver.append("B")  # goes to the other file meanwhile
    driver.durability.synced(None)
    driver.durability.begin_checkpoint()  # one at a time
    assert driver.events == ["write 2", "begin sync", "durable 2", "answer B", "advanced"]
    driver.durability.checkpoint_ended(None)
    assert driver.events == ["checkpoint finished", "compact"]
    assert driver.counters.totals["checkpoints"] == 1


def test_writing_waits_for_a_checkpoint_where_both_files_are_full() -> None:
    driver = Driver()
    driver.fill()
    driver.append("A")
    driver.append("B")
    assert driver.events == ["checkpoint", "run checkpoint"]
    driver.durability.checkpoint_ended(None)
    assert driver.events == ["checkpoint finished", "compact", "write 1", "begin sync"]
    driver.durability.synced(None)
    assert driver.events == ["durable 1", "answer A", "answer B", "advanced"]


def test_a_checkpoint_at_once_lets_the_writing_continue() -> None:
    driver = Driver(at_once=True)
    driver.fill()
    driver.append("A")
    assert driver.events == [
        "checkpoint",
        "checkpoint finished",
        "compact",
        "write 1",
        "sync file 0",
        "durable 1",
        "answer A",
    ]


def test_a_checkpoint_that_compaction_asks_for() -> None:
    driver = Driver()
    driver.durability.wants_checkpoint = True
    driver.durability.after_timers()
    driver.durability.after_timers()
    assert driver.events == ["checkpoint", "run checkpoint"]
    driver.durability.checkpoint_ended(None)
    driver.durability.after_timers()
    assert driver.events == ["checkpoint finished", "compact"]


def test_a_regular_checkpoint_is_left_out_where_there_is_nothing_for_it() -> None:
    driver = Driver()
    driver.durability.checkpoint_regularly()
    assert driver.events == []
    driver.store.has_unsynced_logs = True
    driver.durability.checkpoint_regularly()
    assert driver.events == ["checkpoint", "run checkpoint"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
def test_a_checkpoint_that_meets_a_shortage_is_tried_again_at_the_regular_time(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver()
    driver.fill()
    driver.append("A")
    driver.durability.checkpoint_ended(OSError(number, "a shortage"))
    assert driver.events == ["checkpoint", "run checkpoint", "checkpoint undone"]
    assert "tried again later" in caplog.text
    driver.append("B")  # not at every event
    driver.durability.after_timers()
    assert driver.events == []
    assert not driver.durability.is_failed
    driver.durability.checkpoint_regularly()
    driver.durability.checkpoint_ended(None)
    assert driver.events == [
        "checkpoint",
        "run checkpoint",
        "checkpoint finished",
        "compact",
        "write 1",
        "begin sync",
    ]
    driver.fill()
    driver.durability.synced(None)
    assert "run checkpoint" in driver.events  # from now on when one is needed


def test_a_file_that_cannot_be_retired_now_is_tried_again() -> None:
    driver = Driver()
    driver.fill()
    driver.durability.after_timers()
    driver.journal.errors["retire"] = NO_ROOM
    driver.durability.checkpoint_ended(None)
    assert driver.events == ["checkpoint", "run checkpoint", "checkpoint finished"]
    assert not driver.durability.is_failed
    driver.durability.checkpoint_regularly()
    driver.durability.checkpoint_ended(None)
    assert not driver.journal.has_full_file


def test_what_fails_after_a_checkpoint_is_reported() -> None:
    driver = Driver()

    def fail() -> None:
        raise ValueError("a defect")

    driver.durability.checkpoint_taken = fail
    driver.fill()
    driver.append("A")
    driver.durability.checkpoint_ended(None)
    assert driver.events[2:] == ["checkpoint finished", "report: a defect", "write 1", "begin sync"]


def test_an_interrupt_is_not_a_failure_of_the_disk() -> None:
    driver = Driver()
    driver.durability.begin_checkpoint()
    with pytest.raises(KeyboardInterrupt):
        driver.durability.checkpoint_ended(KeyboardInterrupt())
    assert not driver.durability.is_failed


# -- the end


def test_a_flush_does_all_in_this_thread() -> None:
    driver = Driver()
    driver.fill()
    driver.append("A")
    driver.durability.checkpoint_ended(NO_ROOM)
    _ = driver.events
    driver.durability.flush()
    assert driver.events == [
        "checkpoint",
        "checkpoint finished",
        "compact",
        "write 1",
        "sync file 0",
        "durable 1",
        "answer A",
    ]


def test_a_flush_that_fails_raises() -> None:
    driver = Driver(at_once=True)
    driver.journal.append()
    driver.journal.errors["sync"] = BROKEN
    with pytest.raises(OSError, match="broken"):
        driver.durability.flush()
    assert driver.durability.is_failed


def test_a_flush_without_room_raises() -> None:
    driver = Driver(at_once=True)
    driver.journal.is_blocked = True  # and no checkpoint would help
    driver.journal.append()
    with pytest.raises(OSError, match="no room"):
        driver.durability.flush()


def test_a_flush_during_a_sync_is_refused() -> None:
    driver = Driver()
    driver.append("A")
    with pytest.raises(RuntimeError, match="wait for it first"):
        driver.durability.flush()


def test_what_waits_for_nothing_is_released_in_the_end() -> None:
    driver = Driver()
    driver.durability.when_durable(SyncNumber(3), lambda: driver.all_events.append("released"))
    for release in driver.durability.release_waits():
        release()
    assert driver.events == ["released"]


def test_a_thread_that_does_all_at_once_tells_what_a_checkpoint_met(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class FailingCheckpoint(Checkpoint):
        def run(self) -> None:
            raise self.error

        error: OSError = NO_ROOM

    driver = Driver(at_once=True)
    here = ThisThread(driver.durability)
    ends: deque[BaseException | None] = deque()
    monkeypatch.setattr(driver.durability, "checkpoint_ended", ends.append)
    here.run_checkpoint(FailingCheckpoint(MemoryFiles(), "data", {}))
    here.run_checkpoint(driver.store.begin_checkpoint())
    assert list(ends) == [NO_ROOM, None]
    with caplog.at_level(logging.ERROR):
        here.report(ValueError("a defect"))
    assert "a defect" in caplog.text
    here.failed(BROKEN)
    here.journal_advanced()
