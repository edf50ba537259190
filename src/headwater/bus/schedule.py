"""Events that are published later: after a delay, at a time, or periodically. They use any clock, so a test can move it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.effects.clock import Clock, unwatch_moves, watch_moves
from headwater.effects.timers import Timer, Timers

logger = logging.getLogger(__name__)
WAITING_MAX = 1_000_000


class ScheduleError(ValueError):
    """A time, delay or cron expression is invalid, or too many events wait already."""


class Schedule:
    """Something that will happen, once or periodically. `cancel` prevents it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.timer: Timer | None = None
        self.is_cancelled = False
        self.runs = 0

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.timer is not None:
            self.timer.cancel()

    def __repr__(self) -> str:
        return f"<Schedule {self.name}>"


class Scheduler:
    """Timers on a loop. Use it only from the loop's thread; its clock may be moved from any thread."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.timers = Timers(clock)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.handle: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def call_at(self, deadline_ms: float, callback: Callable[[], None]) -> Timer:
        """Calls back at a time of the steady clock. Raises ScheduleError if too many events wait already."""
        if len(self.timers.heap) >= WAITING_MAX:
            raise ScheduleError(f"{WAITING_MAX} scheduled events are waiting already; no more are accepted")
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
            watch_moves(self.clock, self.clock_moved)
        timer = self.timers.call_later(max(0.0, deadline_ms - self.clock.steady_ms()), callback)
        self.arm()
        return timer

    def clock_moved(self) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.run)

    def arm(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None
        deadline_ms = self.timers.next_deadline_ms()
        if deadline_ms is not None and self.loop is not None:
            delay_s = max(0.0, (deadline_ms - self.clock.steady_ms()) / 1000)
            self.handle = self.loop.call_later(delay_s, self.run)

    def run(self) -> None:
        try:
            self.timers.run_due()
        finally:
            self.arm()

    async def sleep(self, delay_ms: float) -> None:
        """As asyncio.sleep, on this clock."""
        future = asyncio.get_running_loop().create_future()

        def due() -> None:
            if not future.done():
                future.set_result(None)

        timer = self.call_at(self.clock.steady_ms() + delay_ms, due)
        try:
            await future
        finally:
            timer.cancel()

    def once(self, name: str, delay_ms: float, make: Callable[[], Coroutine[Any, Any, object]]) -> Schedule:
        schedule = Schedule(name)

        def due() -> None:
            schedule.runs += 1
            self.start(make)

        schedule.timer = self.call_at(self.clock.steady_ms() + delay_ms, due)
        return schedule

    def again(
        self, name: str, following: Callable[[datetime], datetime], make: Callable[[], Coroutine[Any, Any, object]]
    ) -> Schedule:
        """Runs repeatedly: `following` maps each time to the next."""
        schedule = Schedule(name)

        def plan(after: datetime) -> None:
            moment = following(after)

            def due() -> None:
                if schedule.is_cancelled:
                    return
                schedule.runs += 1
                self.start(make)
                # The next time follows from the planned one, not from now. So a late run does not delay the next ones,
                # and none is lost when a clock jumps ahead.
                plan(moment)

            delay_ms = (moment - self.now()).total_seconds() * 1000
            schedule.timer = self.call_at(self.clock.steady_ms() + max(0.0, delay_ms), due)

        plan(self.now())
        return schedule

    def start(self, make: Callable[[], Coroutine[Any, Any, object]]) -> None:
        assert self.loop is not None

        async def run() -> None:
            await make()

        task = self.loop.create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its publisher has continued long ago, so it can only be logged.
            logger.error("a scheduled event could not be published: %s", error, exc_info=error)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall_ms() / 1000, UTC)

    def close(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.timers.heap.clear()
        unwatch_moves(self.clock, self.clock_moved)
        for task in list(self.tasks):
            task.cancel()


def delay_to_ms(clock: Clock, delay: timedelta | float | None, at: datetime | None) -> float | None:
    """How long to wait; None to publish now. `delay` is a timedelta or seconds. Raises ScheduleError."""
    if delay is not None and at is not None:
        raise ScheduleError("give delay or at, not both")
    if at is not None:
        if at.tzinfo is None:
            raise ScheduleError(f"{at} has no time zone; use for example datetime.now(UTC) + …")
        return max(0.0, at.timestamp() * 1000 - clock.wall_ms())
    if delay is None:
        return None
    seconds = as_period(delay).total_seconds()
    if seconds < 0:
        raise ScheduleError(f"a delay of {seconds} seconds is in the past")
    return seconds * 1000


def as_period(period: object) -> timedelta:
    """A timedelta, or seconds, as a timedelta. Raises ScheduleError."""
    if isinstance(period, timedelta):
        return period
    if isinstance(period, bool) or not isinstance(period, int | float):
        raise ScheduleError(f"{period!r} is not a time to wait; give a timedelta, or seconds")
    try:
        return timedelta(seconds=period)
    except (ValueError, OverflowError) as error:  # it is not a number, or is infinite
        raise ScheduleError(f"{period!r} seconds are not a time to wait: {error}") from error


def following_of(when: str | timedelta | float) -> Callable[[datetime], datetime]:
    """The next time of a cron expression (five fields, in UTC) or of a period (a timedelta, or seconds).

    Raises ScheduleError.
    """
    if not isinstance(when, str):
        period = as_period(when)
        if period <= timedelta(0):
            raise ScheduleError(f"a period must be longer than 0, not {when}")
        return lambda after: after + period
    from cronsim import CronSim, CronSimError  # on first use: few programs have schedules

    def following(after: datetime) -> datetime:
        moment: datetime = next(CronSim(when, after))
        return moment

    try:
        following(datetime(2026, 1, 1, tzinfo=UTC))
    except (CronSimError, StopIteration) as error:
        raise ScheduleError(f"{when!r} is not a cron expression: {error}") from error
    return following
