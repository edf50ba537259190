"""One consumer group of the new protocol (KIP-848): its members, and what each of them should have and has.

The group's epoch grows with every change of members, subscriptions or topics. The assignor makes a target assignment for
an epoch. Each member is moved to its target separately, by heartbeats: it first gives up what it should not have, then gets
what others have given up.

    Stable ──a newer target takes partitions──▶ UnrevokedPartitions ──it has given them up──▶ Stable
    UnrevokedPartitions ──it has given them up, others have not──▶ UnreleasedPartitions ──others have──▶ Stable
    Stable ──a newer target gives what others have──▶ UnreleasedPartitions ──a newer one takes──▶ UnrevokedPartitions

A partition belongs to one member at a time: `owners` has the member of each partition that is assigned or still being
given up. Sources: ConsumerGroup.java, CurrentAssignmentBuilder.java.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import NamedTuple, TypeAlias

Assignment: TypeAlias = Mapping[bytes, frozenset[int]]
"""Topic id to partitions; no topic has an empty set."""

LEAVE_EPOCH = -1
LEAVE_STATIC_EPOCH = -2
JOIN_EPOCH = 0


class MemberState(IntEnum):
    """As the records number them."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2


class ConsumerGroupState(Enum):
    """Named as ConsumerGroupDescribe names them."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class ClassicProtocols(NamedTuple):
    """What a member of the classic protocol sent when it joined."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class ResolvedExpression(NamedTuple):
    """The topics that a regular expression matched, with the version of the metadata and the time (ms)."""

    topics: frozenset[str]
    version: int
    timestamp: int


@dataclass(slots=True, frozen=True)
class ConsumerMember:
    """A member. It is immutable: a change makes a new one. Times are ms.

    `assigned_at` has the epoch at which it got each partition that is assigned or being given up. A member that has not seen
    later epochs may still commit such a partition.
    """

    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    expression: str | None = None
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicProtocols | None = None
    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: Assignment = field(default_factory=dict)
    revoking: Assignment = field(default_factory=dict)
    assigned_at: Mapping[tuple[bytes, int], int] = field(default_factory=dict)

    @property
    def has_left_for_now(self) -> bool:
        """A static member that will come back under another member id."""
        return self.epoch == LEAVE_STATIC_EPOCH

    def since(self) -> dict[tuple[bytes, int], int]:
        """The assigned partitions, with the epoch at which it got each."""
        return {key: self.came_at(key) for key in keys_of(self.assigned)}

    def came_at(self, key: tuple[bytes, int]) -> int:
        """The epoch at which it got a partition. Records of older versions do not have it."""
        return self.assigned_at.get(key, self.epoch)

    def at_epoch(self, epoch: int) -> "ConsumerMember":
        return replace(self, epoch=epoch, previous_epoch=self.epoch)


@dataclass(slots=True, eq=False)
class ConsumerGroup:
    """A group as it is now."""

    group_id: str
    epoch: int = 0
    metadata_hash: int = 0
    target_epoch: int = 0
    target_timestamp_ms: int = 0  # when the target was made; 0 if it was not made by an assignor
    members: dict[str, ConsumerMember] = field(default_factory=dict)
    static_members: dict[str, str] = field(default_factory=dict)  # instance id to member id
    targets: dict[str, Assignment] = field(default_factory=dict)
    expressions: dict[str, ResolvedExpression] = field(default_factory=dict)
    owners: dict[tuple[bytes, int], str] = field(default_factory=dict)
    seen_version: int = -1  # of the topics' metadata

    def copy(self) -> "ConsumerGroup":
        """A copy of the group, on which to try changes."""
        return replace(
            self,
            members=dict(self.members),
            static_members=dict(self.static_members),
            targets=dict(self.targets),
            expressions=dict(self.expressions),
            owners=dict(self.owners),
        )

    @property
    def state(self) -> ConsumerGroupState:
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        is_settled = all(
            member.state is MemberState.STABLE and member.epoch == self.target_epoch for member in self.members.values()
        )
        return ConsumerGroupState.STABLE if is_settled else ConsumerGroupState.RECONCILING

    @property
    def assignor(self) -> str | None:
        """The assignor that most members prefer; None if no member has a preference."""
        votes: dict[str, int] = {}
        for member in self.members.values():
            if member.assignor is not None:
                votes[member.assignor] = votes.get(member.assignor, 0) + 1
        return max(sorted(votes), key=lambda name: votes[name], default=None)

    def subscription(self, member: ConsumerMember) -> frozenset[str]:
        """The names of all topics that a member wants."""
        if member.expression:
            found = self.expressions.get(member.expression)
            if found is not None:
                return member.topics | found.topics
        return member.topics

    def subscribed_topics(self) -> frozenset[str]:
        return frozenset().union(*(self.subscription(member) for member in self.members.values()))

    # -- what records say

    def set_member(self, member: ConsumerMember) -> None:
        old = self.members.get(member.member_id)
        if old is not None:
            self.disown(old)
            if old.instance_id is not None and self.static_members.get(old.instance_id) == old.member_id:
                del self.static_members[old.instance_id]
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        for key in owned_keys(member):
            self.owners[key] = member.member_id

    def remove_member(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self.disown(member)
        if member.instance_id is not None and self.static_members.get(member.instance_id) == member_id:
            del self.static_members[member.instance_id]

    def disown(self, member: ConsumerMember) -> None:
        for key in owned_keys(member):
            if self.owners.get(key) == member.member_id:
                del self.owners[key]

    # -- towards the target

    def reconcile(
        self,
        member: ConsumerMember,
        owned: Assignment | None,
        subscribed: frozenset[bytes],
        *,
        subscribes: bool,
    ) -> ConsumerMember:
        """The member after its next step. `owned` is what it reports to have; None if it does not report.

        `subscribed` has the topics that it wants now. If it has just changed them, which `subscribes` says, then it gives
        up the others at once: its target may be older than its subscription.
        """
        match member.state:
            case MemberState.STABLE if member.epoch == self.target_epoch:
                return unsubscribe(member, owned, subscribed) if subscribes else member
            case MemberState.UNREVOKED_PARTITIONS if owned is None or overlaps(owned, member.revoking):
                return unsubscribe(member, owned, subscribed) if subscribes else member
            case _:
                return self.next_step(member, owned, subscribed)

    def next_step(
        self, member: ConsumerMember, owned: Assignment | None, subscribed: frozenset[bytes]
    ) -> ConsumerMember:
        targets = self.targets.get(member.member_id, {})
        target = {topic_id: partitions for topic_id, partitions in targets.items() if topic_id in subscribed}
        kept: dict[bytes, frozenset[int]] = {}
        revoking: dict[bytes, frozenset[int]] = {}
        added: dict[bytes, frozenset[int]] = {}
        has_unreleased = False
        for topic_id in {*target, *member.assigned}:
            wanted, current = target.get(topic_id, frozenset()), member.assigned.get(topic_id, frozenset())
            stays = wanted & current
            free = frozenset(
                p for p in wanted - stays if self.owners.get((topic_id, p), member.member_id) == member.member_id
            )
            has_unreleased = has_unreleased or len(free) < len(wanted - stays)
            for parts, where in ((stays, kept), (current - stays, revoking), (free, added)):
                if parts:
                    where[topic_id] = parts
        if revoking and (owned is None or overlaps(owned, revoking)):
            return replace(
                member.at_epoch(member.epoch), state=MemberState.UNREVOKED_PARTITIONS, assigned=kept, revoking=revoking
            )
        state = MemberState.UNRELEASED_PARTITIONS if has_unreleased else MemberState.STABLE
        since = member.since()
        assigned_at = {key: since[key] for key in keys_of(kept)} | dict.fromkeys(keys_of(added), self.target_epoch)
        return replace(
            member.at_epoch(self.target_epoch),
            state=state,
            assigned=union(kept, added),
            revoking={},
            assigned_at=assigned_at,
        )


def unsubscribe(member: ConsumerMember, owned: Assignment | None, subscribed: frozenset[bytes]) -> ConsumerMember:
    """The member without the topics that it no longer wants. It gives them up together with what it gives up already."""
    gone = {topic_id: partitions for topic_id, partitions in member.assigned.items() if topic_id not in subscribed}
    if not gone:
        return member
    kept = {topic_id: partitions for topic_id, partitions in member.assigned.items() if topic_id in subscribed}
    revoking = union(member.revoking, gone)
    if owned is None or overlaps(owned, revoking):
        return replace(
            member.at_epoch(member.epoch), state=MemberState.UNREVOKED_PARTITIONS, assigned=kept, revoking=revoking
        )
    assigned_at = {key: member.came_at(key) for key in keys_of(kept)}
    return replace(member.at_epoch(member.epoch), assigned=kept, assigned_at=assigned_at)


def keys_of(assignment: Assignment) -> Iterable[tuple[bytes, int]]:
    return ((topic_id, partition) for topic_id, partitions in assignment.items() for partition in partitions)


def owned_keys(member: ConsumerMember) -> Iterable[tuple[bytes, int]]:
    yield from keys_of(member.assigned)
    yield from keys_of(member.revoking)


def overlaps(one: Assignment, other: Assignment) -> bool:
    return any(partitions & other.get(topic_id, frozenset()) for topic_id, partitions in one.items())


def is_part_of(one: Assignment, other: Assignment) -> bool:
    return all(partitions <= other.get(topic_id, frozenset()) for topic_id, partitions in one.items())


def union(one: Assignment, other: Assignment) -> Assignment:
    empty: frozenset[int] = frozenset()
    return {topic_id: one.get(topic_id, empty) | other.get(topic_id, empty) for topic_id in {*one, *other}}
