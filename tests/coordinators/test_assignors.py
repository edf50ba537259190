"""What every target assignment must be, for any members, subscriptions, topics and history."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from headwater.coordinators.groups.consumer.assignors import ASSIGNORS, Subscriber, assign_range, assign_uniform

TOPIC_IDS = [bytes([n]) * 16 for n in range(4)]
Targets = dict[str, Mapping[bytes, frozenset[int]]]  # of each member: the partitions of each topic
counts = st.dictionaries(st.sampled_from(TOPIC_IDS), st.integers(0, 12))
subscriptions = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.frozensets(st.sampled_from(TOPIC_IDS)), min_size=1, max_size=8
)


def loads(targets: Targets) -> dict[str, int]:
    return {member_id: sum(map(len, target.values())) for member_id, target in targets.items()}


@given(st.sampled_from(sorted(ASSIGNORS)), counts, st.lists(subscriptions, min_size=1, max_size=4))
def test_every_partition_goes_to_one_subscriber(
    name: str, topics: dict[bytes, int], history: list[dict[str, frozenset[bytes]]]
) -> None:
    before: Targets = {}
    for wanted in history:
        members = {
            member_id: Subscriber(None, topic_ids.intersection(topics), before.get(member_id, {}))
            for member_id, topic_ids in wanted.items()
        }
        before = ASSIGNORS[name](members, topics)
        assert before.keys() == members.keys()
        assigned = [(topic_id, n) for target in before.values() for topic_id, parts in target.items() for n in parts]
        subscribed = frozenset().union(*(member.topic_ids for member in members.values()))
        assert sorted(assigned) == sorted((t, n) for t in subscribed for n in range(topics[t]))
        assert all(set(before[i]) <= members[i].topic_ids for i in members)


@given(counts, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_uniform_is_balanced_and_moves_no_more_than_it_must(topics: dict[bytes, int], sizes: list[int]) -> None:
    before: Targets = {}
    for size in sizes:
        names = [f"m{n}" for n in range(size)]
        members = {name: Subscriber(None, frozenset(topics), before.get(name, {})) for name in names}
        after = assign_uniform(members, topics)
        found = loads(after)
        assert max(found.values()) - min(found.values()) <= 1
        stays = sum(
            len(parts & before.get(name, {}).get(topic_id, frozenset()))
            for name in names
            for topic_id, parts in after[name].items()
        )
        most = sorted(found.values(), reverse=True)
        owned = sorted((sum(map(len, before.get(name, {}).values())) for name in names), reverse=True)
        assert stays == sum(min(a, b) for a, b in zip(most, owned, strict=True))
        before = after


def test_a_topic_without_partitions_makes_nothing_more_even() -> None:
    empty, full = TOPIC_IDS[:2]
    members = {"a": Subscriber(None, frozenset({empty, full}), {}), "b": Subscriber(None, frozenset({empty}), {})}
    assert assign_uniform(members, {empty: 0, full: 4}) == {"a": {full: frozenset(range(4))}, "b": {}}


@given(counts, subscriptions)
def test_uniform_evens_out_where_subscriptions_differ(
    topics: dict[bytes, int], wanted: dict[str, frozenset[bytes]]
) -> None:
    members = {name: Subscriber(None, ids.intersection(topics), {}) for name, ids in wanted.items()}
    after = assign_uniform(members, topics)
    found = loads(after)
    for topic_id in topics:
        takers = [name for name in members if topic_id in members[name].topic_ids]
        for name in takers:
            if topic_id in after[name]:
                assert found[name] - min(found[other] for other in takers) <= 1


def test_range_gives_neighbours_and_static_members_come_first() -> None:
    topics = {TOPIC_IDS[0]: 5, TOPIC_IDS[1]: 5}
    members = {
        "b": Subscriber(None, frozenset(topics), {}),
        "a": Subscriber("z", frozenset(topics), {}),
        "c": Subscriber("y", frozenset(topics), {}),
    }
    targets = assign_range(members, topics)
    for topic_id in topics:
        assert [targets[i][topic_id] for i in ("c", "a", "b")] == [{0, 1}, {2, 3}, {4}]
