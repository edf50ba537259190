"""A heartbeat of KIP-848's protocol: its content, its validation, and its effect on the member."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from headwater.coordinators.groups.consumer.group import (
    JOIN_EPOCH,
    LEAVE_STATIC_EPOCH,
    Assignment,
    ConsumerMember,
    is_part_of,
)
from headwater.coordinators.groups.consumer.patterns import PatternError, client_pattern
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError

SUBSCRIPTION_CHARACTERS_MAX = 1 << 20  # Kafka's record of it has a megabyte at most


class Heartbeat(NamedTuple):
    """A request. None stands for what has not changed. `may_see` returns whether the client may know about a topic."""

    group_id: str
    member_id: str
    epoch: int
    instance_id: str | None
    rack_id: str | None
    rebalance_timeout_ms: int
    topics: frozenset[str] | None
    expression: str | None
    assignor: str | None
    owned: Assignment | None
    client_id: str
    client_host: str
    may_see: Callable[[str], bool]

    @property
    def says_nothing(self) -> bool:
        """Whether it says only that its member lives."""
        return (
            self.topics is None
            and self.expression is None
            and self.assignor is None
            and self.owned is None
            and self.rack_id is None
            and self.rebalance_timeout_ms < 0
        )

    @property
    def is_full(self) -> bool:
        """Whether it has all fields; then the answer has all fields, too."""
        has_subscription = self.topics is not None or self.expression is not None
        return self.rebalance_timeout_ms >= 0 and has_subscription and self.owned is not None


class HeartbeatAnswer(NamedTuple):
    """An answer. `assignment` is None if the member knows it already."""

    error: ErrorCode
    message: str | None = None
    member_id: str | None = None
    epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: Assignment | None = None


def check(request: Heartbeat, assignors: tuple[str, ...]) -> None:
    """Raises ApiError for a request that is invalid in any state of the group."""
    problem = None
    if not request.group_id.strip():
        problem = "GroupId can't be empty."
    elif not request.member_id.strip() and request.epoch != JOIN_EPOCH:
        problem = "MemberId can't be empty."
    elif request.instance_id is not None and not request.instance_id.strip():
        problem = "InstanceId can't be empty."
    elif request.rack_id is not None and not request.rack_id.strip():
        problem = "RackId can't be empty."
    elif request.topics is not None and sum(map(len, request.topics)) > SUBSCRIPTION_CHARACTERS_MAX:
        problem = f"SubscribedTopicNames has more than {SUBSCRIPTION_CHARACTERS_MAX} characters."
    elif request.epoch == JOIN_EPOCH:
        problem = join_problem(request)
    elif request.epoch == LEAVE_STATIC_EPOCH and request.instance_id is None:
        problem = "InstanceId can't be null."
    elif request.epoch < LEAVE_STATIC_EPOCH:
        problem = f"MemberEpoch is {request.epoch}, but must be greater than or equal to -2."
    if problem is not None:
        raise ApiError(ErrorCode.INVALID_REQUEST, problem)
    if request.assignor is not None and request.assignor not in assignors:
        raise ApiError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )
    if request.expression:
        check_expression(request.expression)


def join_problem(request: Heartbeat) -> str | None:
    if request.rebalance_timeout_ms < 0:
        return "RebalanceTimeoutMs must be provided in first request."
    if request.owned is None or request.owned:
        return "TopicPartitions must be empty when (re-)joining."
    if request.topics is None and not request.expression:
        return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
    return None


def check_expression(expression: str) -> None:
    """Raises ApiError for an expression that RE2 rejects."""
    try:
        client_pattern(expression)
    except PatternError as error:
        message = f"SubscribedTopicRegex `{expression}` is not a valid regular expression: {error}."
        raise ApiError(ErrorCode.INVALID_REGULAR_EXPRESSION, message) from error


def check_epoch(member: ConsumerMember, epoch: int, owned: Assignment | None) -> None:
    """Raises ApiError for an epoch that is not the member's.

    The previous epoch is allowed if the member has no partition that it should not have: an answer may have been lost.
    """
    if epoch == member.epoch:
        return
    has_lost_answer = epoch == member.previous_epoch and owned is not None and is_part_of(owned, member.assigned)
    if epoch > member.epoch or not has_lost_answer:
        relation = "greater" if epoch > member.epoch else "smaller"
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group "
            f"coordinator ({member.epoch}). The member must abandon all its partitions and rejoin.",
        )


def subscribe(member: ConsumerMember, request: Heartbeat) -> ConsumerMember:
    """The member with the changes that the request makes."""
    return replace(
        member,
        instance_id=request.instance_id if request.instance_id is not None else member.instance_id,
        rack_id=request.rack_id if request.rack_id is not None else member.rack_id,
        client_id=request.client_id,
        client_host=request.client_host,
        topics=request.topics if request.topics is not None else member.topics,
        expression=request.expression if request.expression is not None else member.expression,
        rebalance_timeout_ms=request.rebalance_timeout_ms
        if request.rebalance_timeout_ms >= 0
        else member.rebalance_timeout_ms,
        assignor=request.assignor if request.assignor is not None else member.assignor,
        classic=None,
    )
