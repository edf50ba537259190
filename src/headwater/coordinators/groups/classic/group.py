"""One classic consumer group: its members and its state.

    Empty ──a member joins──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader synced──▶ Stable
    CompletingRebalance, Stable ──a member joins, leaves or expires──▶ PreparingRebalance ──no member left──▶ Empty
    Empty, PreparingRebalance, CompletingRebalance, Stable ──the group is removed──▶ Dead

A request that refers to a dead group gets UNKNOWN_MEMBER_ID.

Only a complete generation is recorded: Stable with its members and their assignments, or Empty. So a restart finds a group
in one of these two states. A generation in the making need not survive: its clients wait for an answer, and join again if
they get none.

This module has the data and its queries; `membership.py` has the transitions. Source: ClassicGroup.java.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from headwater.effects.timers import RestartableTimer, Timer
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.stored_group_metadata import GroupMetadataValue
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber


class GroupState(Enum):
    """Named as DescribeGroups names them."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class JoinAnswer(NamedTuple):
    """`members` are (member id, instance id, metadata), for the leader only."""

    error: ErrorCode
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


class SyncAnswer(NamedTuple):
    error: ErrorCode
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(slots=True, eq=False)
class Member:
    """One member. Its metadata and assignment are opaque: consumers, Connect and schema registries have formats of their own."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: list[tuple[str, bytes]]
    assignment: bytes = b""
    joining: Deferred[JoinAnswer] | None = None
    syncing: Deferred[SyncAnswer] | None = None
    is_new: bool = True
    session: RestartableTimer | None = None

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    def metadata(self, protocol: str | None) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")


@dataclass(slots=True, eq=False)
class Group:
    """A group as it is now."""

    group_id: str
    state: GroupState = GroupState.EMPTY
    state_timestamp: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    generation: int = 0
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    static_members: dict[str, str] = field(default_factory=dict)  # instance id to member id
    pending: dict[str, Timer] = field(default_factory=dict)  # member ids that were assigned and are not yet used
    unsynced: set[str] = field(default_factory=set)
    join_timer: Timer | None = None
    sync_timer: Timer | None = None
    in_initial_delay: bool = False
    joined_since_delay: bool = False
    sync: SyncNumber = NO_SYNC  # the sync that makes the generation durable

    def supports(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a member with these protocols can be in the group."""
        names = set(protocols)
        if not self.members:
            return bool(protocol_type) and bool(names)
        return self.protocol_type == protocol_type and bool(names & self.common_protocols())

    def common_protocols(self) -> set[str]:
        """The protocols that every member has."""
        sets = [{name for name, _ in member.protocols} for member in self.members.values()]
        return set.intersection(*sets) if sets else set()

    def select_protocol(self) -> str:
        """The common protocol that most members prefer."""
        candidates = self.common_protocols()
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = next(name for name, _ in member.protocols if name in candidates)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def all_joined(self) -> bool:
        return not self.pending and all(member.joining is not None for member in self.members.values())

    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def add(self, member: Member) -> None:
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member: Member) -> None:
        del self.members[member.member_id]
        self.unsynced.discard(member.member_id)
        if member.instance_id is not None and self.static_members.get(member.instance_id) == member.member_id:
            del self.static_members[member.instance_id]
        if self.leader == member.member_id:
            self.leader = next(iter(self.members), None)

    def to_value(self, assignments: dict[str, bytes]) -> GroupMetadataValue:
        """The group as a record, with these assignments."""
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol,
            leader=self.leader,
            current_state_timestamp=self.state_timestamp,
            members=[
                GroupMetadataValue.MemberMetadata(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.metadata(self.protocol),
                    assignment=assignments.get(member.member_id, b""),
                )
                for member in self.members.values()
            ],
        )

    def replay(self, value: GroupMetadataValue) -> None:
        """Installs the generation that a record has: its members are in the group, all others are out.

        What is not in the record stays: parked answers, timers, and all the protocols of a member that is connected.
        """
        self.state = GroupState.STABLE if value.members else GroupState.EMPTY
        self.state_timestamp = value.current_state_timestamp
        self.protocol_type = value.protocol_type or None
        self.protocol = value.protocol
        self.generation = value.generation
        self.leader = value.leader
        known, self.members, self.static_members = self.members, {}, {}
        for m in value.members:
            member = known.get(m.member_id) or Member(m.member_id, m.group_instance_id, "", "", 0, 0, [], is_new=False)
            member.client_id, member.client_host = m.client_id, m.client_host
            member.session_timeout_ms = m.session_timeout
            member.rebalance_timeout_ms = m.rebalance_timeout if m.rebalance_timeout >= 0 else m.session_timeout
            if (value.protocol or "", m.subscription) not in member.protocols:
                member.protocols = [(value.protocol or "", m.subscription)]
            member.assignment = m.assignment
            self.add(member)
