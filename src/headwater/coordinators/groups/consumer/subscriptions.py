"""What the members of KIP-848's groups want, and what follows from it: the topics that there are, and the target assignment.

Nothing here changes a group: the coordinator makes records of the results. A target assignment is made at most once in an
interval (KIP-1263). For example, a hundred members join within a second: the first one's heartbeat makes a target, and the
first heartbeat after the interval makes the next one, for all of them. Until then the others have no partitions.
Sources: GroupMetadataManager.java (maybeUpdateTargetAssignment, maybeUpdateRegularExpressions), TargetAssignmentBuilder.java.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from headwater.coordinators.groups.consumer.assignors import ASSIGNORS, Subscriber, Targets
from headwater.coordinators.groups.consumer.group import ConsumerGroup, ConsumerMember, ResolvedExpression
from headwater.coordinators.groups.consumer.patterns import client_pattern
from headwater.effects.clock import Clock


class Topics(Protocol):
    """What the groups need to know about topics. `topics_version` grows with each change."""

    topics_version: int

    def find_topic(self, name: str) -> tuple[bytes, int] | None:
        """A topic's id and number of partitions."""
        ...

    def topic_names(self) -> Iterable[str]:
        """The names of all topics."""
        ...

    def topic_name(self, topic_id: bytes) -> str | None:
        """The name of a topic that exists."""
        ...


class ConsumerGroupLimits(NamedTuple):
    """The broker's settings for these groups."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    size_max: int = 2**31 - 1
    assignors: tuple[str, ...] = ("uniform", "range")
    regex_refresh_interval_ms: int = 600_000


class Subscriptions:
    """The subscriptions of all groups. `assignment_interval_of` gives a group's interval in ms, which may change."""

    def __init__(
        self, clock: Clock, topics: Topics, limits: ConsumerGroupLimits, assignment_interval_of: Callable[[str], int]
    ) -> None:
        self.clock = clock
        self.topics = topics
        self.limits = limits
        self.assignment_interval_of = assignment_interval_of

    # -- regular expressions

    def is_refresh_due(self, group: ConsumerGroup) -> bool:
        """Whether regular expressions were resolved so long ago that ACLs may have changed what they find.

        They are all resolved at the same time, so none of them is older than the first one.
        """
        if not group.expressions:
            return False
        oldest = next(iter(group.expressions.values()))
        return self.clock.wall_ms() > oldest.timestamp + self.limits.regex_refresh_interval_ms

    def resolve(self, group: ConsumerGroup, may_see: Callable[[str], bool]) -> dict[str, ResolvedExpression | None]:
        """What changes: the topics of new regular expressions, and of all if the topics have changed or the time has come.

        None removes an expression that members no longer have.
        """
        is_due = self.is_refresh_due(group)
        wanted = {member.expression for member in group.members.values() if member.expression}
        changes: dict[str, ResolvedExpression | None] = dict.fromkeys(e for e in group.expressions if e not in wanted)
        for expression in sorted(wanted):
            known = group.expressions.get(expression)
            if known is not None and known.version == self.topics.topics_version and not is_due:
                continue
            pattern = client_pattern(expression)
            names = (name for name in self.topics.topic_names() if pattern.fullmatch(name))
            found = frozenset(name for name in names if may_see(name))
            if is_due or known is None or known.topics != found:
                changes[expression] = ResolvedExpression(found, self.topics.topics_version, self.clock.wall_ms())
        return changes

    # -- topics

    def topic_ids(self, group: ConsumerGroup, member: ConsumerMember) -> frozenset[bytes]:
        """The ids of the topics that a member wants and that exist."""
        found = (self.topics.find_topic(name) for name in group.subscription(member))
        return frozenset(topic[0] for topic in found if topic is not None)

    def digest(self, group: ConsumerGroup) -> int:
        """A hash of the subscribed topics as they are now. It is recorded with the group's epoch."""
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(group.subscribed_topics()):
            found = self.topics.find_topic(name)
            if found is not None:
                digest.update(b"%s\0%s%d\0" % (name.encode(), found[0], found[1]))
        return int.from_bytes(digest.digest(), "big", signed=True)

    # -- the target assignment

    def assignor_of(self, group: ConsumerGroup) -> str:
        """The assignor that the group's members prefer, or the first of the broker's."""
        return group.assignor or self.limits.assignors[0]

    def may_assign(self, group: ConsumerGroup) -> bool:
        """Whether the target assignment is old enough for another. A clock that was set back delays nothing."""
        if not group.target_timestamp_ms:
            return True
        age_ms = self.clock.wall_ms() - group.target_timestamp_ms
        return not 0 <= age_ms < self.assignment_interval_of(group.group_id)

    def targets(self, group: ConsumerGroup) -> Targets:
        """The target assignment for the group as it is now."""
        counts: dict[bytes, int] = {}
        subscribers = {}
        for member in group.members.values():
            found = (self.topics.find_topic(name) for name in group.subscription(member))
            topics = dict(topic for topic in found if topic is not None)
            counts.update(topics)
            current = group.targets.get(member.member_id, {})
            subscribers[member.member_id] = Subscriber(member.instance_id, frozenset(topics), current)
        return ASSIGNORS[self.assignor_of(group)](subscribers, counts)
