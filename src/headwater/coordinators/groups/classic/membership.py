"""The transitions of classic consumer groups: join, sync, heartbeat, leave and timeouts.

A request is answered at once or by a `Deferred`: a join waits for the other members or for the rebalance timeout, a sync for
the leader's assignment. What must survive (a generation with its members and assignments) is a record, which is appended
and replayed (`replay/decision.py`). The answer that shows it waits until the record is durable. Sources:
GroupMetadataManager.java, KIP-134 (initial delay), KIP-345 (static members), KIP-394 (member id required), KIP-814 (a static
leader that returns).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from headwater.bus.signal import Signal
from headwater.coordinators.groups.classic.group import Group, GroupState, JoinAnswer, Member, SyncAnswer
from headwater.coordinators.groups.records import group_record, read_group, read_key
from headwater.coordinators.state_records import append_error
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy, random_uuid
from headwater.effects.logs import get_logger
from headwater.effects.timers import RestartableTimer, Timers
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.stored_group_metadata import GroupMetadataKey, GroupMetadataValue
from headwater.replay.decision import Runtime, everything
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from headwater.replay.sync_number import SyncNumber

logger = get_logger(__name__)


@dataclass(slots=True, frozen=True)
class GroupLimits:
    """The broker's settings for groups."""

    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    initial_rebalance_delay_ms: int = 3_000
    size_max: int = 2**31 - 1


# A member's metadata is stored, and sent to the leader. Kafka's record of it has a megabyte at most.
MEMBER_BYTES_MAX = 1 << 20
SMALL_MEMBER_BYTES = 64 << 10
PROTOCOLS_MAX = 100  # clients have one or two, and three while they are upgraded
GROUP_BYTES_MAX = 64 << 20


def protocol_bytes(protocols: Iterable[tuple[str, bytes]]) -> int:
    return sum(len(name) + len(metadata) for name, metadata in protocols)


def has_room(group: Group | None, request: "JoinRequest") -> bool:
    """Whether the group has room for the member's metadata. Small metadata is not counted."""
    if len(request.protocols) > PROTOCOLS_MAX:
        return False
    size = protocol_bytes(request.protocols)
    if size <= SMALL_MEMBER_BYTES:
        return True
    others = group.members.values() if group is not None else ()
    kept = sum(protocol_bytes(m.protocols) for m in others if m.member_id != request.member_id)
    return size <= MEMBER_BYTES_MAX and kept + size <= GROUP_BYTES_MAX


class JoinRequest(NamedTuple):
    """A request to join. `may_need_member_id`: the client understands MEMBER_ID_REQUIRED (KIP-394)."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    may_need_member_id: bool
    may_skip_assignment: bool


class SyncRequest(NamedTuple):
    """A request to sync. `assignments` comes from the leader, and is empty from all other members."""

    group_id: str
    generation: int
    member_id: str
    instance_id: str | None
    protocol_type: str | None
    protocol: str | None
    assignments: dict[str, bytes]


class Membership:
    """All groups and their members: a replayed machine, whose decisions `runtime` carries out."""

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        entropy: Entropy,
        limits: GroupLimits,
        runtime: Runtime[StateRecord],
        rebalanced: Signal[str, int, int] | None = None,
    ) -> None:
        self.clock = clock
        self.timers = timers
        self.entropy = entropy
        self.limits = limits
        self.runtime = runtime
        # A group, its new generation, and the number of its members.
        self.rebalanced = rebalanced or Signal[str, int, int]("rebalanced")
        self.groups: dict[str, Group] = {}

    # -- join

    def join(self, request: JoinRequest, *, is_known: bool = False) -> JoinAnswer | Deferred[JoinAnswer]:
        """Answers with a JoinAnswer. `is_known`: the group has no members, but it has offsets."""
        limits = self.limits
        if not request.group_id:
            return JoinAnswer(ErrorCode.INVALID_GROUP_ID, request.member_id)
        if not limits.session_timeout_ms_min <= request.session_timeout_ms <= limits.session_timeout_ms_max:
            return JoinAnswer(ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id)
        group = self.groups.get(request.group_id)
        if not has_room(group, request):
            return JoinAnswer(ErrorCode.GROUP_MAX_SIZE_REACHED, request.member_id)
        if group is None:
            if request.member_id:
                is_wrong = is_known and not (request.protocol_type and request.protocols)
                code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL if is_wrong else ErrorCode.UNKNOWN_MEMBER_ID
                return JoinAnswer(code, request.member_id)
            group = self.groups[request.group_id] = Group(request.group_id, state_timestamp=self.clock.wall_ms())
        if not group.supports(request.protocol_type, [name for name, _ in request.protocols]):
            return JoinAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, request.member_id)
        if not request.member_id:
            return self.join_new(group, request)
        return self.join_known(group, request)

    def join_new(self, group: Group, request: JoinRequest) -> JoinAnswer | Deferred[JoinAnswer]:
        prefix = request.instance_id if request.instance_id is not None else request.client_id
        member_id = f"{prefix}-{self.new_uuid()}"
        if request.instance_id is not None and request.instance_id in group.static_members:
            return self.replace_static(group, request, member_id)
        if len(group.members) + len(group.pending) >= self.limits.size_max:
            return JoinAnswer(ErrorCode.GROUP_MAX_SIZE_REACHED)
        if request.instance_id is None and request.may_need_member_id:
            expire = self.timers.call_later(request.session_timeout_ms, lambda: self.drop_pending(group, member_id))
            group.pending[member_id] = expire
            return JoinAnswer(ErrorCode.MEMBER_ID_REQUIRED, member_id)
        return self.add_and_rebalance(group, request, member_id)

    def new_uuid(self) -> str:
        digits = random_uuid(self.entropy).hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def join_known(self, group: Group, request: JoinRequest) -> JoinAnswer | Deferred[JoinAnswer]:
        pending = group.pending.pop(request.member_id, None)
        if pending is not None:
            pending.cancel()
            return self.add_and_rebalance(group, request, request.member_id)
        member, error = self.find_member(group, request.member_id, request.instance_id)
        if member is None:
            return JoinAnswer(error, request.member_id)
        same = member.protocols == request.protocols
        if group.state is GroupState.COMPLETING_REBALANCE and same:
            return self.current_generation(group, member)
        if group.state is GroupState.STABLE and same and group.leader != member.member_id:
            return self.current_generation(group, member)
        return self.update_and_rebalance(group, member, request)

    def find_member(self, group: Group, member_id: str, instance_id: str | None) -> tuple[Member | None, ErrorCode]:
        """The member, or an error. A static member must name the member id that its instance was assigned last."""
        if instance_id is not None:
            current = group.static_members.get(instance_id)
            if current is None:
                return None, ErrorCode.UNKNOWN_MEMBER_ID
            if current != member_id:
                return None, ErrorCode.FENCED_INSTANCE_ID
        member = group.members.get(member_id)
        return member, ErrorCode.NONE if member is not None else ErrorCode.UNKNOWN_MEMBER_ID

    def current_generation(self, group: Group, member: Member) -> JoinAnswer:
        self.touch(group, member)
        return self.join_answer(group, member)

    def join_answer(self, group: Group, member: Member, *, skip_assignment: bool = False) -> JoinAnswer:
        is_leader = group.leader == member.member_id
        members = tuple((m.member_id, m.instance_id, m.metadata(group.protocol)) for m in group.members.values())
        return JoinAnswer(
            ErrorCode.NONE,
            member.member_id,
            group.generation,
            group.protocol_type,
            group.protocol,
            group.leader or "",
            members if is_leader else (),
            skip_assignment,
        )

    def replace_static(self, group: Group, request: JoinRequest, member_id: str) -> JoinAnswer | Deferred[JoinAnswer]:
        """A static member returns under a new id. A client that still uses the old id is fenced."""
        old = group.members[group.static_members[request.instance_id or ""]]
        member = self.new_member(request, member_id)
        member.assignment, member.is_new = old.assignment, old.is_new
        was_leader = group.leader == old.member_id
        if group.state is GroupState.STABLE and old.metadata(group.protocol) == member.metadata(group.protocol):
            return self.keep_generation(group, old, member, was_leader and request.may_skip_assignment, was_leader)
        group.remove(old)
        group.add(member)
        if was_leader:
            group.leader = member_id
        self.dismiss(old, ErrorCode.FENCED_INSTANCE_ID)
        return self.await_join(group, member)

    def keep_generation(
        self, group: Group, old: Member, member: Member, skip_assignment: bool, was_leader: bool
    ) -> JoinAnswer | Deferred[JoinAnswer]:
        """Continues without a rebalance, once the member's new id is durable."""
        others = {m.member_id: m for m in group.members.values() if m is not old}
        leader = member.member_id if was_leader else group.leader
        after = replace(group, leader=leader, members={**others, member.member_id: member})
        try:
            sync = self.write(group, after.to_value({m.member_id: m.assignment for m in after.members.values()}))
        except OSError as error:
            return JoinAnswer(append_error(error), member.member_id)
        kept = group.members[member.member_id]
        kept.protocols = member.protocols
        group.unsynced.discard(old.member_id)
        self.dismiss(old, ErrorCode.FENCED_INSTANCE_ID)
        self.touch(group, kept)
        answer = self.join_answer(group, kept, skip_assignment=skip_assignment)
        if was_leader and not skip_assignment:
            # An old client that sees itself as leader would assign again, so it is shown another leader (KIP-814).
            answer = answer._replace(leader="", members=())
        return self.runtime.answer_when_durable(sync, answer)

    def dismiss(self, member: Member, error: ErrorCode) -> None:
        """Answers the member's waiting requests with an error, since it is no longer in its group, and stops its timers."""
        if member.session is not None:
            member.session.cancel()
        if member.joining is not None:
            member.joining.complete(JoinAnswer(error, member.member_id))
        if member.syncing is not None:
            member.syncing.complete(SyncAnswer(error))

    def write(self, group: Group, value: GroupMetadataValue) -> SyncNumber:
        """Makes this the group's generation. If it raises OSError, the group is as before."""
        try:
            group.sync = self.runtime.apply(group.group_id, [group_record(group.group_id, value)])
        except OSError as error:
            logger.error("group %s cannot be written: %s", group.group_id, error)
            raise
        return group.sync

    def new_member(self, request: JoinRequest, member_id: str) -> Member:
        return Member(
            member_id,
            request.instance_id,
            request.client_id,
            request.client_host,
            request.session_timeout_ms,
            request.rebalance_timeout_ms if request.rebalance_timeout_ms >= 0 else request.session_timeout_ms,
            request.protocols,
        )

    def add_and_rebalance(
        self, group: Group, request: JoinRequest, member_id: str
    ) -> JoinAnswer | Deferred[JoinAnswer]:
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(self.new_member(request, member_id))
        group.joined_since_delay = True
        return self.await_join(group, group.members[member_id])

    def update_and_rebalance(self, group: Group, member: Member, request: JoinRequest) -> Deferred[JoinAnswer]:
        member.protocols = request.protocols
        member.session_timeout_ms = request.session_timeout_ms
        if request.rebalance_timeout_ms >= 0:
            member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.client_id, member.client_host = request.client_id, request.client_host
        return self.await_join(group, member)

    def await_join(self, group: Group, member: Member) -> Deferred[JoinAnswer]:
        if member.joining is not None:  # the client stopped waiting and joins again
            member.joining.complete(JoinAnswer(ErrorCode.UNKNOWN_MEMBER_ID, member.member_id))
        deferred: Deferred[JoinAnswer] = Deferred()
        member.joining = deferred
        self.touch(group, member)
        self.rebalance(group, f"member {member.member_id} joins")
        return deferred

    # -- rebalance

    def set_state(self, group: Group, state: GroupState) -> None:
        group.state = state
        group.state_timestamp = self.clock.wall_ms()

    def rebalance(self, group: Group, reason: str) -> None:
        """Asks all members to join again, unless they have been asked already."""
        if group.state in (GroupState.EMPTY, GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            logger.info("group %s: rebalance after generation %d, %s", group.group_id, group.generation, reason)
            was_empty = group.state is GroupState.EMPTY
            self.fail_syncs(group, ErrorCode.REBALANCE_IN_PROGRESS)
            self.set_state(group, GroupState.PREPARING_REBALANCE)
            delay_ms = self.limits.initial_rebalance_delay_ms
            if was_empty and delay_ms > 0:
                group.joined_since_delay, group.in_initial_delay = False, True
                left_ms = max(0, group.rebalance_timeout_ms() - delay_ms)
                group.join_timer = self.timers.call_later(delay_ms, lambda: self.after_delay(group, left_ms))
                return
            self.start_join_timer(group)
        self.complete_join_if_all_joined(group)

    def start_join_timer(self, group: Group) -> None:
        group.join_timer = self.timers.call_later(group.rebalance_timeout_ms(), lambda: self.complete_join(group))

    def after_delay(self, group: Group, left_ms: int) -> None:
        """Lets the first members of a group wait for more, as long as more join."""
        if group.joined_since_delay and left_ms > 0:
            group.joined_since_delay = False
            delay_ms = min(self.limits.initial_rebalance_delay_ms, left_ms)
            rest_ms = max(0, left_ms - delay_ms)
            group.join_timer = self.timers.call_later(delay_ms, lambda: self.after_delay(group, rest_ms))
            return
        self.complete_join(group)

    def complete_join_if_all_joined(self, group: Group) -> None:
        if group.state is GroupState.PREPARING_REBALANCE and group.all_joined() and not group.in_initial_delay:
            self.complete_join(group)

    def complete_join(self, group: Group) -> None:
        """Starts the next generation with the members that have joined."""
        if group.join_timer is not None:
            group.join_timer.cancel()
            group.join_timer = None
        group.in_initial_delay = False
        if group.state is not GroupState.PREPARING_REBALANCE:
            return
        for member in [m for m in group.members.values() if m.joining is None and not m.is_static]:
            self.drop_member(group, member)
        joined = [m for m in group.members.values() if m.joining is not None]
        if group.members and not joined:  # only static members, all of them away: wait for one
            self.start_join_timer(group)
            return
        group.generation += 1
        if not group.members:
            self.become_empty(group)
            return
        if group.leader is None or group.members[group.leader].joining is None:
            group.leader = joined[0].member_id
        group.protocol = group.select_protocol()
        self.set_state(group, GroupState.COMPLETING_REBALANCE)
        self.rebalanced.emit(group.group_id, group.generation, len(group.members))
        group.unsynced = set(group.members)
        for member in joined:
            deferred, member.joining, member.is_new = member.joining, None, False
            self.touch(group, member)
            if deferred is not None:
                deferred.complete(self.join_answer(group, member))
        generation = group.generation
        group.sync_timer = self.timers.call_later(
            group.rebalance_timeout_ms(), lambda: self.expire_syncs(group, generation)
        )

    def become_empty(self, group: Group) -> None:
        self.set_state(group, GroupState.EMPTY)
        group.protocol = group.leader = None
        with suppress(OSError):  # named by `write`: the next start finds members, which do not come back
            self.write(group, group.to_value({}))

    def expire_syncs(self, group: Group, generation: int) -> None:
        """Removes members that did not ask for their assignment in time."""
        if group.generation != generation or group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return
        late = [member for member_id, member in group.members.items() if member_id in group.unsynced]
        for member in late:
            self.drop_member(group, member)
        if late:
            self.after_removal(group, "members did not sync in time")

    def fail_syncs(self, group: Group, error: ErrorCode) -> None:
        for member in group.members.values():
            if member.syncing is not None:
                deferred, member.syncing = member.syncing, None
                deferred.complete(SyncAnswer(error))
        group.unsynced.clear()
        if group.sync_timer is not None:
            group.sync_timer.cancel()
            group.sync_timer = None

    # -- sync

    def sync(self, request: SyncRequest) -> SyncAnswer | Deferred[SyncAnswer]:
        """Answers with a SyncAnswer."""
        group = self.groups.get(request.group_id)
        if group is None:
            return SyncAnswer(ErrorCode.INVALID_GROUP_ID if not request.group_id else ErrorCode.UNKNOWN_MEMBER_ID)
        member, error = self.find_member(group, request.member_id, request.instance_id)
        if member is None:
            return SyncAnswer(error)
        if request.generation != group.generation:
            return SyncAnswer(ErrorCode.ILLEGAL_GENERATION)
        if request.protocol_type not in (None, group.protocol_type) or request.protocol not in (None, group.protocol):
            return SyncAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.state is GroupState.PREPARING_REBALANCE:
            return SyncAnswer(ErrorCode.REBALANCE_IN_PROGRESS)
        self.touch(group, member)
        group.unsynced.discard(request.member_id)
        if group.state is GroupState.STABLE:
            answer = SyncAnswer(ErrorCode.NONE, member.assignment, group.protocol_type, group.protocol)
            return self.runtime.answer_when_durable(group.sync, answer)
        if member.syncing is not None:
            member.syncing.complete(SyncAnswer(ErrorCode.UNKNOWN_MEMBER_ID))
        deferred: Deferred[SyncAnswer] = Deferred()
        member.syncing = deferred
        if request.member_id == group.leader:
            self.write_assignments(group, {i: request.assignments.get(i, b"") for i in group.members})
        return deferred

    def write_assignments(self, group: Group, assignments: dict[str, bytes]) -> None:
        """Completes the generation. When it is durable, answers the members that wait for it."""
        try:
            sync = self.write(group, group.to_value(assignments))
        except OSError as error:
            code = append_error(error)
            self.fail_syncs(group, code)
            self.rebalance(group, f"the assignment was not written: {code.name}")
            return
        for member in group.members.values():
            if member.syncing is not None:
                deferred, member.syncing = member.syncing, None
                self.touch(group, member)
                answer = SyncAnswer(ErrorCode.NONE, member.assignment, group.protocol_type, group.protocol)
                self.runtime.when_durable(sync, partial(deferred.complete, answer))

    # -- heartbeat, leave, sessions

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.INVALID_GROUP_ID if not group_id else ErrorCode.UNKNOWN_MEMBER_ID
        member, error = self.find_member(group, member_id, instance_id)
        if member is None:
            return error
        if generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        self.touch(group, member)
        is_rebalancing = group.state is GroupState.PREPARING_REBALANCE
        return ErrorCode.REBALANCE_IN_PROGRESS if is_rebalancing else ErrorCode.NONE

    def leave(self, group_id: str, leaving: Iterable[tuple[str, str | None]]) -> ErrorCode | list[ErrorCode]:
        """Removes (member id, instance id) pairs. Returns one error for all of them, or one for each."""
        if not group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self.groups.get(group_id)
        if group is None:
            return [ErrorCode.UNKNOWN_MEMBER_ID for _ in leaving]
        results = [self.leave_one(group, member_id, instance_id) for member_id, instance_id in leaving]
        if ErrorCode.NONE in results:
            self.after_removal(group, "members left")
        return results

    def leave_one(self, group: Group, member_id: str, instance_id: str | None) -> ErrorCode:
        if instance_id is not None and not member_id:  # an administrator removes a static member
            member_id = group.static_members.get(instance_id, "")
        pending = group.pending.pop(member_id, None)
        if pending is not None:
            pending.cancel()
            return ErrorCode.NONE
        member, error = self.find_member(group, member_id, instance_id)
        if member is None:
            return error
        self.drop_member(group, member)
        return ErrorCode.NONE

    def drop_member(self, group: Group, member: Member) -> None:
        self.dismiss(member, ErrorCode.UNKNOWN_MEMBER_ID)
        group.remove(member)

    def drop_pending(self, group: Group, member_id: str) -> None:
        if group.pending.pop(member_id, None) is not None:
            self.complete_join_if_all_joined(group)

    def after_removal(self, group: Group, reason: str) -> None:
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self.rebalance(group, reason)
        else:
            self.complete_join_if_all_joined(group)

    def touch(self, group: Group, member: Member) -> None:
        """Restarts the member's session."""
        if member.session is None:
            member.session = RestartableTimer(self.timers, lambda: self.expire_member(group, member))
        member.session.restart(member.session_timeout_ms)

    def expire_member(self, group: Group, member: Member) -> None:
        if group.members.get(member.member_id) is not member:
            return
        if member.joining is not None or member.syncing is not None:  # it waits for an answer, so it is alive
            self.touch(group, member)
            return
        logger.info("group %s: member %s is gone", group.group_id, member.member_id)
        self.drop_member(group, member)
        self.after_removal(group, "a session expired")

    # -- replay

    def replay(self, record: StateRecord) -> None:
        """Changes a group as the record says. Raises ProtocolError for a record that cannot be read."""
        key = read_key(record.key)
        if not isinstance(key, GroupMetadataKey):
            raise ProtocolError("the record is not one of a classic group")
        if record.value is None:
            self.forget(key.group)
            return
        group = self.groups.get(key.group)
        if group is None:
            group = self.groups[key.group] = Group(key.group)
        group.replay(read_group(record.value))

    def forget(self, group_id: str) -> None:
        """Removes a group. Its timers find no member, and members that wait for it have to join again."""
        group = self.groups.pop(group_id, None)
        if group is None:
            return
        group.state = GroupState.DEAD
        for timer in (group.join_timer, group.sync_timer, *group.pending.values()):
            if timer is not None:
                timer.cancel()
        for member in group.members.values():
            self.dismiss(member, ErrorCode.REBALANCE_IN_PROGRESS)

    def snapshot(self, belongs: Callable[[str], bool] = everything) -> Iterator[StateRecord]:
        """Records that make those groups from nothing. Call this only when none of them is between two generations."""
        for group_id, group in self.groups.items():
            if belongs(group_id):
                assignments = {m.member_id: m.assignment for m in group.members.values()}
                yield group_record(group_id, group.to_value(assignments))

    def started(self) -> None:
        """Call this when all records are replayed: members then have a whole session to send a heartbeat."""
        for group in self.groups.values():
            for member in group.members.values():
                self.touch(group, member)
