"""A member of a group of any protocol type, without I/O: Kafka's classic protocol, from the member's side.

A group has a name and a protocol type, which says what the group is for: "consumer", "connect" or "sr". The broker that
coordinates the group knows its members and no more. What members tell each other goes through it as bytes: each member
gives its metadata when it joins; one of them, the leader, gets the metadata of all and answers with an assignment for
each. The caller's embedded protocol says what the bytes mean.

A member finds the coordinator, joins, and waits there until all have joined (JoinGroup); waits for the leader's assignments
(SyncGroup); and then says regularly that it lives (Heartbeat). Each round is a generation. When somebody comes or goes, a
heartbeat is answered with "rebalance in progress", and everybody joins again.

    state     what happens          next state
    JOINING   MEMBER_ID_GIVEN       JOINING     a new member gets an id first, so that asking twice makes one (KIP-394)
    JOINING   JOINED                SYNCING     the generation is complete
    JOINING   REBALANCED            JOINING
    JOINING   OUTDATED              JOINING     the generation is over
    JOINING   FORGOTTEN             JOINING     the coordinator does not know the member: it joins as a new one
    JOINING   UNANSWERED            JOINING     no answer, or the coordinator moved: it is looked for again
    JOINING   EXPIRED               JOINING
    JOINING   LEAVE                 LEAVING
    JOINING   REFUSED               FAILED
    SYNCING   SYNCED                STABLE      the assignment is there
    SYNCING   REBALANCED            JOINING
    SYNCING   OUTDATED              JOINING
    SYNCING   FORGOTTEN             JOINING
    SYNCING   UNANSWERED            JOINING
    SYNCING   EXPIRED               JOINING
    SYNCING   LEAVE                 LEAVING
    SYNCING   REFUSED               FAILED
    STABLE    HEARD                 STABLE      a heartbeat was answered
    STABLE    UNANSWERED            STABLE      until the lease is over
    STABLE    REBALANCED            JOINING
    STABLE    OUTDATED              JOINING
    STABLE    FORGOTTEN             JOINING
    STABLE    EXPIRED               JOINING     nothing was heard for as long as the lease lasts
    STABLE    LEAVE                 LEAVING
    STABLE    REFUSED               FAILED      for example fenced: another member has the same instance id
    LEAVING   GONE                  LEFT

**The lease.** A member that hears nothing must stop before the others continue without it. The coordinator removes a member
that is silent for the session timeout, and, while others join, one that does not join within the rebalance timeout. So an
assignment holds until the shorter of the two after the *sending* of the last request that was answered: the coordinator's
own clock starts later. Until then no other generation can be complete without this member. (Two exceptions: an administrator
removes a member at once, and a static member's place is taken at once by another process with its instance id.)

    member = Membership(settings, embedded)
    while (step := member.next_step(now_ms())) is not None:
        if isinstance(step, Pause):
            ...                                        # until step.until_ms
        else:
            member.answered(ask(step), now_ms())       # None if no answer came
        ...                                            # member.occurrences: Assigned, Rebalancing, Lost, Refused, Left
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from headwater.client.backoff import Backoff
from headwater.client.errors import ClientError, answered_error
from headwater.client.group_members import (
    Assigned,
    Call,
    EmbeddedProtocol,
    JoinedMember,
    Left,
    Lost,
    MemberSettings,
    Occurrence,
    Pause,
    Rebalancing,
    Refused,
)
from headwater.client.wire_settings import Address
from headwater.effects.entropy import Entropy
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest

REBALANCE_SLACK_MS = 5_000.0  # JoinGroup is answered when the rebalance timeout is over, and a little later
NO_GENERATION = -1


class State(Enum):
    """See the module's docstring."""

    JOINING = "waits for all to join"
    SYNCING = "waits for the leader's assignments"
    STABLE = "has an assignment"
    LEAVING = "says goodbye"
    LEFT = "has left the group"
    FAILED = "cannot be a member"


class Step(Enum):
    """What happens to a member: see the module's docstring."""

    MEMBER_ID_GIVEN = "the coordinator gives an id"
    JOINED = "the generation is complete"
    SYNCED = "the assignment came"
    HEARD = "the coordinator heard the heartbeat"
    REBALANCED = "others come or go, or this member wants to join again"
    OUTDATED = "the generation is over"
    FORGOTTEN = "the coordinator does not know the member"
    UNANSWERED = "no answer, or one that says to try again"
    EXPIRED = "the lease is over"
    LEAVE = "the caller wants to leave"
    GONE = "it has left"
    REFUSED = "the coordinator says no for good"


AGAIN = (Step.REBALANCED, Step.OUTDATED, Step.FORGOTTEN, Step.EXPIRED)
ACTIVE = (State.JOINING, State.SYNCING, State.STABLE)
NEXT = {
    (State.JOINING, Step.MEMBER_ID_GIVEN): State.JOINING,
    (State.JOINING, Step.JOINED): State.SYNCING,
    (State.JOINING, Step.UNANSWERED): State.JOINING,
    (State.SYNCING, Step.SYNCED): State.STABLE,
    (State.SYNCING, Step.UNANSWERED): State.JOINING,
    (State.STABLE, Step.HEARD): State.STABLE,
    (State.STABLE, Step.UNANSWERED): State.STABLE,
    **{(state, step): State.JOINING for state in ACTIVE for step in AGAIN},
    **{(state, Step.LEAVE): State.LEAVING for state in ACTIVE},
    **{(state, Step.REFUSED): State.FAILED for state in ACTIVE},
    (State.LEAVING, Step.GONE): State.LEFT,
}
# What an error in an answer means; any other is REFUSED.
MEANINGS = {
    ErrorCode.UNKNOWN_SERVER_ERROR: Step.UNANSWERED,
    ErrorCode.REQUEST_TIMED_OUT: Step.UNANSWERED,
    ErrorCode.NETWORK_EXCEPTION: Step.UNANSWERED,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: Step.UNANSWERED,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: Step.UNANSWERED,
    ErrorCode.NOT_COORDINATOR: Step.UNANSWERED,
    ErrorCode.KAFKA_STORAGE_ERROR: Step.UNANSWERED,
    ErrorCode.REBALANCE_IN_PROGRESS: Step.REBALANCED,
    ErrorCode.ILLEGAL_GENERATION: Step.OUTDATED,
    ErrorCode.UNKNOWN_MEMBER_ID: Step.FORGOTTEN,
    ErrorCode.MEMBER_ID_REQUIRED: Step.MEMBER_ID_GIVEN,
}
COORDINATOR_MOVED = (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR)
LOSING = (Step.OUTDATED, Step.FORGOTTEN, Step.EXPIRED)
STATIC_SINCE = {JoinGroupRequest: 5, SyncGroupRequest: 3, HeartbeatRequest: 3, LeaveGroupRequest: 3}


class Membership:
    """See the module's docstring. One request is under way at a time."""

    def __init__(self, settings: MemberSettings, embedded: EmbeddedProtocol, entropy: Entropy) -> None:
        self.settings, self.embedded = settings, embedded
        self.state = State.JOINING
        self.coordinator: Address | None = None
        self.member_id = ""
        self.generation = NO_GENERATION
        self.leader_id = self.protocol = ""
        self.assignments: Mapping[str, bytes] = {}  # the leader's, for the next SyncGroup
        self.current: Assigned | None = None  # what holds, until the lease is over
        self.is_held = False  # an assignment was reported, and not reported lost since
        self.lease_until_ms = 0.0
        self.asked: Call | None = None
        self.asked_ms = 0.0
        self.heartbeat_ms = 0.0  # when the next is due
        self.not_before_ms = 0.0
        self.backoff = Backoff(entropy)
        self.reason = "the member starts"  # why it joins (KIP-800)
        self.error: ClientError | None = None  # the latest one
        self.leaves_for_good = False
        self.occurrences: list[Occurrence] = []  # for the caller, which clears them after every step

    @property
    def is_leaving(self) -> bool:
        """Whether it leaves or has ended."""
        return self.state not in ACTIVE

    def holding(self, now_ms: float) -> Assigned | None:
        """The assignment if it holds now: no other member can have this part of it."""
        return self.current if now_ms < self.lease_until_ms else None

    # -- what to do next

    def next_step(self, now_ms: float) -> Call | Pause | None:
        """What to do next; None if there is nothing left to do."""
        assert self.asked is None, "an answer is waited for"
        if self.state in (State.LEFT, State.FAILED):
            return None
        if self.state is State.LEAVING:
            return self.goodbye(now_ms)
        self.expire(now_ms)
        until_ms = self.not_before_ms
        if self.state is State.STABLE and self.coordinator is not None:
            until_ms = max(until_ms, self.heartbeat_ms)
        if now_ms < until_ms:
            return Pause(min(until_ms, self.lease_until_ms) if self.is_held else until_ms)
        if self.coordinator is None:
            return self.ask(self.find(), now_ms, is_for_coordinator=False)
        if self.state is State.JOINING:
            return self.ask(self.join(), now_ms, self.settings.rebalance_timeout_ms + REBALANCE_SLACK_MS)
        if self.state is State.SYNCING:
            return self.ask(self.sync(), now_ms, self.settings.rebalance_timeout_ms + REBALANCE_SLACK_MS)
        settings = self.settings
        heartbeat = HeartbeatRequest(settings.group, self.generation, self.member_id, settings.instance_id)
        return self.ask(heartbeat, now_ms)

    def ask(
        self, message: Any, now_ms: float, timeout_ms: float | None = None, *, is_for_coordinator: bool = True
    ) -> Call:
        timeout_ms = self.settings.request_timeout_ms if timeout_ms is None else timeout_ms
        if self.state is State.STABLE:  # no longer than the lease, which it renews
            timeout_ms = max(1.0, min(timeout_ms, self.lease_until_ms - now_ms))
        at_least = STATIC_SINCE.get(type(message), 0) if self.settings.instance_id is not None else 0
        self.asked, self.asked_ms = Call(message, timeout_ms, is_for_coordinator, at_least), now_ms
        return self.asked

    def find(self) -> FindCoordinatorRequest:
        return FindCoordinatorRequest(self.settings.group, 0, [self.settings.group])

    def join(self) -> JoinGroupRequest:
        settings = self.settings
        protocols = [JoinGroupRequest.JoinGroupRequestProtocol(*pair) for pair in self.embedded.protocols()]
        return JoinGroupRequest(
            settings.group,
            settings.session_timeout_ms,
            settings.rebalance_timeout_ms,
            self.member_id,
            settings.instance_id,
            settings.protocol_type,
            protocols,
            self.reason,
        )

    def sync(self) -> SyncGroupRequest:
        settings = self.settings
        return SyncGroupRequest(
            settings.group,
            self.generation,
            self.member_id,
            settings.instance_id,
            settings.protocol_type,
            self.protocol,
            [SyncGroupRequest.SyncGroupRequestAssignment(*pair) for pair in self.assignments.items()],
        )

    def goodbye(self, now_ms: float) -> Call | None:
        """The request to leave; None for a static member that does not leave for good, or without a coordinator."""
        settings = self.settings
        is_silent = settings.instance_id is not None and not self.leaves_for_good
        if is_silent or not self.member_id or self.coordinator is None:
            self.leave_ended()
            return None
        identity = LeaveGroupRequest.MemberIdentity(self.member_id, settings.instance_id, "the member is closed")
        return self.ask(LeaveGroupRequest(settings.group, [identity], self.member_id), now_ms)

    # -- what happens

    def answered(self, answer: Any, now_ms: float) -> None:
        """The answer to the step's request, or None if none came."""
        asked, self.asked = self.asked, None
        assert asked is not None, "nothing was asked"
        if self.state is State.LEAVING:
            self.leave_ended()
        elif isinstance(asked.message, FindCoordinatorRequest):
            self.found(answer, now_ms)
        elif answer is None:
            self.unanswered(now_ms, is_moved=True)
        elif answer.error_code:
            self.refused(asked, answer, now_ms)
        elif isinstance(asked.message, JoinGroupRequest):
            self.joined(answer, now_ms)
        elif isinstance(asked.message, SyncGroupRequest):
            self.synced(answer)
        else:
            self.extend_lease(self.asked_ms)
            self.step(Step.HEARD)

    def found(self, answer: Any, now_ms: float) -> None:
        found = answer.coordinators[0] if answer is not None and answer.coordinators else answer
        if found is None or found.error_code:
            code = ErrorCode.NETWORK_EXCEPTION if found is None else found.error_code
            if MEANINGS.get(code) is not Step.UNANSWERED:
                self.fail(answered_error(code, f"finding the coordinator of group {self.settings.group}"))
                return
            self.unanswered(now_ms, is_moved=False)
        else:
            self.coordinator = Address(found.host, found.port)

    def joined(self, answer: Any, now_ms: float) -> None:
        self.member_id, self.generation = answer.member_id, answer.generation_id
        self.leader_id, self.protocol = answer.leader, answer.protocol_name or ""
        self.extend_lease(now_ms)
        self.step(Step.JOINED)
        self.assignments = {}
        # A static leader that comes back to an unchanged generation must not assign again (KIP-814).
        if self.leader_id == self.member_id and not answer.skip_assignment:
            members = [JoinedMember(m.member_id, m.group_instance_id, m.metadata) for m in answer.members]
            self.assignments = self.embedded.assign(self.protocol, members)

    def synced(self, answer: Any) -> None:
        self.extend_lease(self.asked_ms)
        self.backoff.succeeded()
        self.error = None
        self.step(Step.SYNCED)
        self.current = Assigned(
            self.generation, self.member_id, self.leader_id, self.protocol, bytes(answer.assignment)
        )
        self.is_held = True
        self.occurrences.append(self.current)

    def extend_lease(self, since_ms: float) -> None:
        self.lease_until_ms = since_ms + self.settings.lease_ms
        self.heartbeat_ms = since_ms + self.settings.heartbeat_interval_ms

    def refused(self, asked: Call, answer: Any, now_ms: float) -> None:
        """An error in an answer of the coordinator."""
        code = answer.error_code
        meaning = MEANINGS.get(code, Step.REFUSED)
        error = answered_error(code, f"group {self.settings.group} at {self.coordinator}")
        if meaning is Step.UNANSWERED:
            self.error = error
            self.unanswered(now_ms, is_moved=code in COORDINATOR_MOVED)
        elif (
            meaning is Step.MEMBER_ID_GIVEN and self.state is State.JOINING and answer.member_id and not self.member_id
        ):
            self.member_id = answer.member_id
            self.step(meaning)
        elif meaning in AGAIN:
            if self.state is not State.STABLE:
                self.not_before_ms = now_ms + self.backoff.record_failure()
            self.rejoin(meaning, error)
        else:
            self.fail(error)

    def unanswered(self, now_ms: float, *, is_moved: bool) -> None:
        if is_moved:
            self.coordinator = None
        self.not_before_ms = now_ms + self.backoff.record_failure()
        self.step(Step.UNANSWERED)
        self.expire(now_ms)

    def expire(self, now_ms: float) -> None:
        """Ends the lease if nothing was heard for too long."""
        if self.is_held and now_ms >= self.lease_until_ms:
            silent = (
                f"group {self.settings.group}: nothing was heard of its coordinator for {self.settings.lease_ms:g} ms"
            )
            self.rejoin(Step.EXPIRED, ClientError(silent))

    def rejoin(self, step: Step, error: ClientError) -> None:
        self.error = error
        self.reason = step.value
        self.step(step)
        if step is Step.FORGOTTEN:
            self.member_id = ""
        if step in LOSING:
            self.generation = NO_GENERATION
            self.give_up(Lost(str(error)))
        elif self.current is not None:
            self.current = None
            self.occurrences.append(Rebalancing())

    def give_up(self, occurrence: Lost | Left) -> None:
        """Makes the assignment void, and reports it lost if there was one."""
        was_held, self.current, self.is_held = self.is_held, None, False
        if was_held or isinstance(occurrence, Left):
            self.occurrences.append(occurrence)

    def step(self, step: Step) -> None:
        self.state = NEXT[self.state, step]

    # -- what the caller wants

    def join_again(self, reason: str) -> None:
        """Has all members join again, because this one's metadata has changed. Does nothing if it is joining anyway."""
        if self.state is State.STABLE and self.asked is None:
            self.rejoin(Step.REBALANCED, ClientError(reason))
            self.reason = reason

    def leave(self, *, for_good: bool = False) -> None:
        """Leaves: the others get its part at once. A static member does so only `for_good`, since it may come back."""
        if self.state in ACTIVE:
            self.asked = None  # whatever was asked, its answer is not waited for
            self.leaves_for_good = for_good
            self.current = None
            self.step(Step.LEAVE)

    def leave_ended(self) -> None:
        self.step(Step.GONE)
        self.give_up(Left())

    def fail(self, error: ClientError) -> None:
        """It cannot be a member."""
        if self.state in ACTIVE:
            self.asked = None
            self.error, self.current, self.is_held = error, None, False
            self.step(Step.REFUSED)
            self.occurrences.append(Refused(error))
