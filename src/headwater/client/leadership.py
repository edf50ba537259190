"""One leader among several processes, elected by membership of a group.

Each process is a member of one group and gives its identity, for example the address at which it is reached. The member
that the coordinator makes the group's leader is the leader; it gives its own identity to all members. It stays leader until it
leaves or is lost, since a coordinator keeps the group's leader while it can.

    with LeaderElection(broker, "registry", b"10.0.0.1:8081") as election:
        election.leader           # b"10.0.0.2:8081", or None while nobody is
        election.term()           # raises NotLeaderError: 10.0.0.2:8081 leads

The election is right in the sense of `membership`'s lease: a process that can no longer be sure that it leads says that it
does not. That protects reads that must come from a leader. For writes it is not enough (the process may be held up between
the question and the write), so `replayed_topic` fences them.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import NotLeaderError
from headwater.client.group_members import Assigned, JoinedMember, MemberSettings, Occurrence
from headwater.client.member import Member
from headwater.effects.clock import Clock

PROTOCOL = "v0"
PROTOCOL_TYPE = "headwater-leader"


class Identities:
    """The embedded protocol: each member gives its identity, and gets the leader's."""

    def __init__(self, identity: bytes) -> None:
        self.identity = identity

    def protocols(self) -> Sequence[tuple[str, bytes]]:
        return [(PROTOCOL, self.identity)]

    def assign(self, protocol: str, members: Sequence[JoinedMember]) -> Mapping[str, bytes]:
        return {member.member_id: self.identity for member in members}


class LeaderElection:
    """See the module's docstring. `on_change` is called in the member's thread after each change, with the leader's identity."""

    def __init__(
        self,
        broker: BrokerLike,
        group: str,
        identity: bytes,
        *,
        on_change: Callable[[bytes | None], object] | None = None,
        session_timeout_ms: int = 10_000,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        member = MemberSettings(
            group, PROTOCOL_TYPE, session_timeout_ms=session_timeout_ms, heartbeat_interval_ms=session_timeout_ms // 5
        )
        self.on_change = on_change
        self.error: Exception | None = None
        self.member = Member(broker, member, Identities(identity), self.changed, settings=settings, clock=clock)

    @property
    def leader(self) -> bytes | None:
        """The identity of the leader, as long as this process can be sure of it."""
        found = self.member.holding()
        return None if found is None else found.assignment

    @property
    def is_leader(self) -> bool:
        found = self.member.holding()
        return found is not None and found.is_leader

    def term(self) -> int:
        """The generation in which this process leads. Raises NotLeaderError."""
        found = self.member.holding()
        if found is None or not found.is_leader:
            refusal = self.member.core.error
            reason = f" ({refusal})" if refusal is not None and found is None else ""
            named = "nobody is known to lead" if found is None else f"{found.assignment.decode(errors='replace')} leads"
            raise NotLeaderError(f"group {self.member.group}: {named}{reason}")
        return found.generation

    def changed(self, occurrence: Occurrence) -> None:
        if self.on_change is not None:
            self.on_change(occurrence.assignment if isinstance(occurrence, Assigned) else None)

    def start(self) -> Self:
        """Begins to take part."""
        self.member.start()
        return self

    def close(self) -> None:
        """Leaves; another process leads at once."""
        self.member.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.member.__exit__(kind, error, trace)
