"""The timeouts that remove members of consumer groups: the end of a session, and of the time to give up partitions.

Timers need not survive a restart: after it, every member has a whole session again.
"""

from collections.abc import Callable
from typing import TypeAlias

from headwater.effects.timers import Timer, Timers

Key: TypeAlias = tuple[str, str]  # group id and member id


class Sessions:
    """The timers of all members. `expired` is called with the group and the member of a session that is over."""

    def __init__(self, timers: Timers, expired: Callable[[str, str], None]) -> None:
        self.timers = timers
        self.expired = expired
        self.deadlines: dict[Key, float] = {}  # when sessions end, on the steady clock
        self.session_timers: dict[Key, Timer] = {}
        self.revocation_timers: dict[Key, Timer] = {}

    def has(self, group_id: str, member_id: str) -> bool:
        """Whether the member has a session."""
        return (group_id, member_id) in self.deadlines

    def has_revocation(self, group_id: str, member_id: str) -> bool:
        """Whether a timer runs for the member to give up partitions."""
        return (group_id, member_id) in self.revocation_timers

    def start(self, group_id: str, member_id: str, timeout_ms: float) -> None:
        """Starts or restarts a session.

        A running timer is not moved, which is cheaper: when it is due, it checks whether the session was prolonged meanwhile.
        """
        key = (group_id, member_id)
        deadline_ms = self.timers.clock.steady_ms() + timeout_ms
        self.deadlines[key] = deadline_ms
        timer = self.session_timers.get(key)
        if timer is None or timer.deadline_ms > deadline_ms:
            if timer is not None:
                timer.cancel()
            self.arm(key, timeout_ms)

    def arm(self, key: Key, delay_ms: float) -> None:
        def look() -> None:
            deadline_ms = self.deadlines.get(key)
            if deadline_ms is None:
                return
            left_ms = deadline_ms - self.timers.clock.steady_ms()
            if left_ms > 0:
                self.arm(key, left_ms)
            else:
                del self.deadlines[key]
                self.session_timers.pop(key, None)
                self.expired(*key)

        self.session_timers[key] = self.timers.call_later(delay_ms, look)

    def start_revocation(self, group_id: str, member_id: str, timeout_ms: float, check: Callable[[], None]) -> None:
        """Calls `check` when a member should have given up partitions."""
        self.stop_revocation(group_id, member_id)
        key = (group_id, member_id)

        def due() -> None:
            self.revocation_timers.pop(key, None)
            check()

        self.revocation_timers[key] = self.timers.call_later(timeout_ms, due)

    def stop_revocation(self, group_id: str, member_id: str) -> None:
        """The member has given up all that it had to."""
        timer = self.revocation_timers.pop((group_id, member_id), None)
        if timer is not None:
            timer.cancel()

    def stop(self, group_id: str, member_id: str) -> None:
        """The member is no longer in the group."""
        self.stop_revocation(group_id, member_id)
        self.deadlines.pop((group_id, member_id), None)
        timer = self.session_timers.pop((group_id, member_id), None)
        if timer is not None:
            timer.cancel()
