"""The assignors of KIP-848's groups: plain functions from subscriptions to a target assignment.

`uniform` balances all partitions over the members and moves as few as possible. `range` gives each member a contiguous
range of every topic, so that partitions with the same number go to the same member. Both assign every partition of a topic
that has a subscriber to exactly one member. Sources: UniformAssignor.java, RangeAssignor.java.

For example, two members and the topics a and b with three partitions each: `range` gives a-0, a-1, b-0, b-1 to the first
member and a-2, b-2 to the second. `uniform` gives each of them three partitions.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from headwater.coordinators.groups.consumer.group import Assignment


class Subscriber(NamedTuple):
    """A member as an assignor sees it: the topics that it wants, and the partitions that it has now."""

    instance_id: str | None
    topic_ids: frozenset[bytes]
    current: Assignment


Subscribers = Mapping[str, Subscriber]
PartitionCounts = Mapping[bytes, int]
Targets = dict[str, Assignment]


def assign_range(members: Subscribers, counts: PartitionCounts) -> Targets:
    """Gives neighbouring partitions of each topic to the members, in order; static members by their instance id."""
    ordered = sorted(members, key=lambda i: (members[i].instance_id is None, members[i].instance_id or i))
    targets: dict[str, dict[bytes, frozenset[int]]] = {member_id: {} for member_id in members}
    for topic_id, count in counts.items():
        takers = [member_id for member_id in ordered if topic_id in members[member_id].topic_ids]
        start = 0
        for position, member_id in enumerate(takers):
            size = count // len(takers) + (position < count % len(takers))
            if size:
                targets[member_id][topic_id] = frozenset(range(start, start + size))
            start += size
    return dict(targets)


def assign_uniform(members: Subscribers, counts: PartitionCounts) -> Targets:
    """As even as the subscriptions allow: no member has two partitions more than another that subscribes to one of them."""
    subscriptions = {subscriber.topic_ids for subscriber in members.values()}
    balance = Balance(members, counts)
    if len(subscriptions) == 1:
        balance.keep_up_to_quota()
    else:
        balance.keep_all()
    balance.assign_rest()
    if len(subscriptions) > 1:
        balance.even_out()
    return balance.targets()


class Balance:
    """The uniform assignor's work in progress."""

    def __init__(self, members: Subscribers, counts: PartitionCounts) -> None:
        self.members = members
        self.counts = counts
        self.ordered = sorted(members)
        self.owned: dict[str, set[tuple[bytes, int]]] = {member_id: set() for member_id in members}
        self.takers: dict[bytes, list[str]] = {
            topic_id: [i for i in self.ordered if topic_id in members[i].topic_ids] for topic_id in counts
        }
        wanted = [(topic_id, n) for topic_id, count in counts.items() if self.takers[topic_id] for n in range(count)]
        self.unassigned = dict.fromkeys(wanted)

    def current(self, member_id: str) -> list[tuple[bytes, int]]:
        """The partitions that the member has and may keep, in order."""
        member = self.members[member_id]
        keys = [(topic_id, n) for topic_id, parts in member.current.items() for n in sorted(parts)]
        return [key for key in keys if key in self.unassigned and key[0] in member.topic_ids]

    def take(self, member_id: str, key: tuple[bytes, int]) -> None:
        del self.unassigned[key]
        self.owned[member_id].add(key)

    def keep_up_to_quota(self) -> None:
        quota, extra = divmod(len(self.unassigned), len(self.ordered))
        for member_id in self.ordered:
            current = self.current(member_id)
            size = quota + (extra > 0 and len(current) > quota)
            extra -= size > quota
            for key in current[:size]:
                self.take(member_id, key)

    def keep_all(self) -> None:
        for member_id in self.ordered:
            for key in self.current(member_id):
                self.take(member_id, key)

    def assign_rest(self) -> None:
        """Assigns the partitions that are left: topics with few subscribers first, each partition to the one with least."""
        for key in sorted(self.unassigned, key=lambda key: len(self.takers[key[0]])):
            member_id = min(self.takers[key[0]], key=lambda i: len(self.owned[i]))
            self.take(member_id, key)

    def even_out(self) -> None:
        """Moves partitions from members with more to subscribers of the topic with less, while that makes it more even."""
        for _ in range(sum(self.counts.values())):
            moved = False
            for topic_id, takers in self.takers.items():
                if len(takers) < 2:
                    continue
                least = min(takers, key=lambda i: len(self.owned[i]))
                most = max(takers, key=lambda i: (any(k[0] == topic_id for k in self.owned[i]), len(self.owned[i])))
                if len(self.owned[most]) - len(self.owned[least]) > 1:
                    key = next((k for k in sorted(self.owned[most]) if k[0] == topic_id), None)
                    if key is not None:
                        self.owned[most].discard(key)
                        self.owned[least].add(key)
                        moved = True
            if not moved:
                return

    def targets(self) -> Targets:
        result: Targets = {}
        for member_id, keys in self.owned.items():
            topics: dict[bytes, set[int]] = {}
            for topic_id, partition in sorted(keys):
                topics.setdefault(topic_id, set()).add(partition)
            result[member_id] = {topic_id: frozenset(parts) for topic_id, parts in topics.items()}
        return result


ASSIGNORS: dict[str, Callable[[Subscribers, PartitionCounts], Targets]] = {
    "uniform": assign_uniform,
    "range": assign_range,
}
