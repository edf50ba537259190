"""What the members of a group want: when there is a new target assignment, and what changes before there is one."""

from headwater.coordinators.groups.consumer.group import ConsumerGroupState, MemberState, keys_of

from .scene import Scene, settled_scene

# -- the interval between two assignments


def test_a_new_target_waits_until_the_last_one_is_old_enough() -> None:
    scene = settled_scene(1)
    first, second = scene.clients[:2]
    scene.interval_ms = 10_000
    made_ms = scene.group.target_timestamp_ms
    scene.clock.advance(made_ms + 9_999 - scene.clock.wall_ms())
    second.beat()
    scene.log.sync()
    assert (second.epoch, second.assigned, scene.group.state) == (
        first.epoch,
        frozenset(),
        ConsumerGroupState.ASSIGNING,
    )
    assert scene.group.epoch == first.epoch + 1
    first.beat(says_all=False)
    assert (len(first.assigned), scene.group.target_timestamp_ms) == (4, made_ms)
    scene.clock.advance(1)
    first.beat(says_all=False)  # any member's heartbeat makes the target
    scene.log.sync()
    assert (len(first.assigned), scene.group.target_timestamp_ms) == (2, made_ms + 10_000)
    scene.settle([first, second])
    assert (len(first.assigned), len(second.assigned)) == (2, 2)


def test_the_interval_outlives_a_crash_and_can_be_changed() -> None:
    scene = settled_scene(1)
    scene.interval_ms = 10_000
    scene.topics.grow("t", 6)
    scene.crash()
    first = scene.clients[0]
    first.beat()
    scene.log.sync()
    assert len(first.assigned) == 4
    scene.interval_ms = 0
    first.beat()
    scene.log.sync()
    assert len(first.assigned) == 6


def test_a_clock_that_is_set_back_delays_no_assignment() -> None:
    scene = settled_scene(1)
    scene.interval_ms = 10_000
    scene.clock.now_wall_ms -= 3_600_000
    scene.topics.grow("t", 6)
    scene.clients[0].beat()
    scene.log.sync()
    assert len(scene.clients[0].assigned) == 6


def test_what_a_member_no_longer_wants_is_given_up_before_there_is_a_new_target() -> None:
    scene = Scene()
    scene.topics.grow("u", 2)
    client = scene.clients[0]
    client.topics = frozenset("tu")
    scene.settle([client])
    scene.interval_ms = 10_000
    client.topics = frozenset("t")
    epoch = client.epoch
    client.beat()
    scene.log.sync()
    assert (len(client.assigned), client.epoch, scene.group.target_epoch) == (4, epoch, epoch)
    assert scene.member_state(client) is MemberState.UNREVOKED_PARTITIONS
    client.beat()
    scene.log.sync()
    assert scene.member_state(client) is MemberState.STABLE
    client.topics = frozenset("u")
    client.assigned = frozenset()  # it has given them up already
    client.beat()
    scene.log.sync()
    assert (client.assigned, scene.member_state(client)) == (frozenset(), MemberState.STABLE)
    assert scene.group.members[client.member_id].assigned_at == {}
    assert scene.group.targets[client.member_id]
    scene.settle([client])
    assert len(client.assigned) == 2


def test_a_member_that_changes_its_subscription_gives_up_all_of_it_together() -> None:
    scene = Scene()
    scene.topics.grow("u", 2)
    first, second = scene.clients[:2]
    first.topics = frozenset("tu")
    scene.settle([first])
    second.beat()
    first.beat()
    scene.log.sync()
    assert scene.member_state(first) is MemberState.UNREVOKED_PARTITIONS
    had, revoking = first.assigned, scene.group.members[first.member_id].revoking
    first.assigned |= frozenset(keys_of(revoking))  # it has not given them up yet
    first.topics = frozenset("t")
    first.beat()
    scene.log.sync()
    member = scene.group.members[first.member_id]
    assert {topic.decode().rstrip() for topic in member.assigned} == {"t"}
    assert frozenset(keys_of(member.revoking)) == frozenset(keys_of(revoking)) | {k for k in had if k[0][:1] == b"u"}
    first.beat()
    second.beat()
    scene.settle([first, second])


def test_a_topic_that_does_not_exist_counts_once_it_does() -> None:
    scene = Scene()
    client = scene.clients[0]
    client.topics = frozenset({"t", "later"})
    scene.settle([client])
    epoch, digest = client.epoch, scene.group.metadata_hash
    assert len(client.assigned) == 4
    scene.topics.grow("later", 1)
    scene.settle([client])
    assert (len(client.assigned), client.epoch) == (5, epoch + 1)
    assert scene.group.metadata_hash != digest


# -- regular expressions


def test_expressions_are_resolved_again_after_their_interval() -> None:
    scene = Scene()
    scene.topics.grow("u", 2)
    client = scene.clients[0]
    client.topics, client.expression = None, "[tu]"
    scene.settle([client])
    assert len(client.assigned) == 6
    epoch, resolved = client.epoch, scene.group.expressions["[tu]"]
    scene.topics.grow("v", 1)
    client.beat()
    scene.hidden = {"u"}  # an ACL that is taken away changes no topic
    left_ms = resolved.timestamp + 600_000 - scene.clock.wall_ms()
    for _ in range(int(left_ms // 30_000)):
        scene.advance(30_000)
        client.beat(says_all=False)
    scene.advance(left_ms % 30_000)
    client.beat(says_all=False)
    assert (client.epoch, scene.group.expressions["[tu]"]) == (epoch, resolved)
    scene.advance(1)
    client.beat(says_all=False)
    scene.log.sync()
    assert scene.group.expressions["[tu]"].topics == {"t"}
    scene.settle([client])
    assert (len(client.assigned), client.epoch) == (4, epoch + 1)
    timestamp = scene.group.expressions["[tu]"].timestamp
    for _ in range(21):
        scene.advance(30_000)
        client.beat(says_all=False)
        scene.log.sync()
    assert scene.group.expressions["[tu]"].timestamp > timestamp  # and it is not resolved with each heartbeat
    assert client.epoch == epoch + 1
