"""The timeouts that remove members of consumer groups: the end of a session, and of the time to give up partitions.

Timers need not survive a restart: after it, every member has a whole session again.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from headwater.effects.timers import RestartableTimer, Timer, Timers

Key: TypeAlias = tuple[str, str]  # group id and member id


class Sessions:
    """The timers of all members. `expired` is called with the group and the member of a session that is over."""

    def __init__(self, timers: Timers, expired: Callable[[str, str], None]) -> None:
        self.timers = timers
        self.expired = expired
        self.sessions: dict[Key, RestartableTimer] = {}
        self.revocation_timers: dict[Key, Timer] = {}

    def has(self, group_id: str, member_id: str) -> bool:
        """Whether the member has a session."""
        return (group_id, member_id) in self.sessions

    def has_revocation(self, group_id: str, member_id: str) -> bool:
        """Whether a timer runs for the member to give up partitions."""
        return (group_id, member_id) in self.revocation_timers

    def start(self, group_id: str, member_id: str, timeout_ms: float) -> None:
        """Starts or restarts a session."""
        key = (group_id, member_id)
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = RestartableTimer(self.timers, partial(self.end, key))
        session.restart(timeout_ms)

    def end(self, key: Key) -> None:
        del self.sessions[key]
        self.expired(*key)

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
        session = self.sessions.pop((group_id, member_id), None)
        if session is not None:
            session.cancel()
