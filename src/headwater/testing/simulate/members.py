"""Simulated members of consumer groups: consumers that commit what they read, and copiers that work exactly once.

A member commits its own positions with its epoch. Now and then a member leaves. Or it stops for longer than its session
lasts, and then commits as if nothing had happened: by then another member has its partitions, so the broker must refuse it.

A copier reads the committed records of one topic, writes a copy of each to another, and commits its position in the same
transaction (KIP-447): whatever crashes, each record must be copied once.
"""

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.testing.simulate.client import RETRIABLE, Call
from headwater.testing.simulate.consumers import Consuming
from headwater.testing.simulate.history import CommitOffset, FetchOffset, Outcome
from headwater.testing.simulate.membership import SESSION_MS, ClassicMembership, Membership, ModernMembership
from headwater.testing.simulate.scene import Place, Scene, TopicLife
from headwater.testing.simulate.transacting import MEMBER_IS_OUT, Transacting
from headwater.testing.simulate.world import Process

BEAT_MS = 1500.0
LEAVE_CHANCE = 0.02
FREEZE_CHANCE = 0.01
COPY_PREFIX = b"copy:"


class GroupMember(Consuming):
    """The base of consumers and copiers: their work as group members."""

    membership: Membership
    positions: dict[Place, int]
    committed: dict[Place, int]
    next_beat_ms = 0.0

    def enter(self, group: str, topics: list[TopicLife], *, is_modern: bool) -> None:
        self.group = group
        kind = ModernMembership if is_modern else ClassicMembership
        self.membership = kind(self, group, topics)
        self.positions, self.committed = {}, {}

    def load_positions(self) -> Call:
        """Loads the committed offsets of the assigned partitions, which must be stable."""
        self.positions, self.committed = {}, {}
        for place in list(self.membership.assigned):
            offset = yield from self.fetch_offset(place)
            if offset is None:
                return False
            self.positions[place] = self.committed[place] = max(0, offset)
        return True

    def fetch_offset(self, place: Place) -> Call:
        topic, partition = place
        wanted = OffsetFetchRequest.OffsetFetchRequestTopics(name=topic.name, partition_indexes=[partition])
        group = OffsetFetchRequest.OffsetFetchRequestGroup(self.group, topics=[wanted])
        while not self.scene.is_over:
            fetch = FetchOffset(process=self.name, group=self.group, topic=topic.label, partition=partition)
            self.history.begin(fetch)
            answer = yield from self.call(ApiKey.OFFSET_FETCH, 8, OffsetFetchRequest([group], require_stable=True))
            if answer is not None:
                result = answer.groups[0]
                error = result.error_code or result.topics[0].partitions[0].error_code
                if not error:
                    fetch.offset = result.topics[0].partitions[0].committed_offset
                    self.history.end(fetch, Outcome.OK)
                    return fetch.offset
                self.history.end(fetch, Outcome.FAILED, ErrorCode(error).name)
                if error not in RETRIABLE and not self.scene.has_damage:
                    self.unexpected("an offset fetch", error)
                    return None
            yield from self.back_off()
        return None

    def commit(self) -> Call:
        """Commits the positions that have moved."""
        moved = {p: o for p, o in self.positions.items() if o > self.committed.get(p, 0)}
        if not moved:
            return
        commits: dict[tuple[str, int], tuple[Place, CommitOffset]] = {}
        topics: dict[str, OffsetCommitRequest.OffsetCommitRequestTopic] = {}
        for (topic, partition), offset in moved.items():
            commit = CommitOffset(
                process=self.name, group=self.group, topic=topic.label, partition=partition, offset=offset
            )
            commits[topic.name, partition] = (topic, partition), self.history.begin(commit)
            entry = topics.setdefault(topic.name, OffsetCommitRequest.OffsetCommitRequestTopic(name=topic.name))
            entry.partitions.append(OffsetCommitRequest.OffsetCommitRequestPartition(partition, offset))
        membership = self.membership
        request = OffsetCommitRequest(self.group, membership.epoch, membership.member_id, topics=list(topics.values()))
        answer = yield from self.call(ApiKey.OFFSET_COMMIT, 9, request)
        if answer is None:
            return
        for entry in answer.topics:
            for partition in entry.partitions:
                place, commit = commits[entry.name, partition.partition_index]
                self.committed_to(place, commit, partition.error_code)

    def committed_to(self, place: Place, commit: CommitOffset, error: int) -> None:
        if not error:
            self.committed[place] = commit.offset
            self.history.end(commit, Outcome.OK)
        elif error in MEMBER_IS_OUT:
            self.history.end(commit, Outcome.FAILED, ErrorCode(error).name)
        else:
            self.history.end(commit, Outcome.UNKNOWN, ErrorCode(error).name)
            if error not in RETRIABLE and not self.scene.has_damage:
                self.unexpected("a commit", error)

    def is_beat_due(self) -> bool:
        if self.world.now_ms < self.next_beat_ms:
            return False
        self.next_beat_ms = self.world.now_ms + BEAT_MS
        return True


class GroupConsumer(GroupMember):
    """Reads and commits."""

    def __init__(self, scene: Scene, name: str, group: str, topics: list[TopicLife], *, is_modern: bool) -> None:
        super().__init__(scene, name)
        self.enter(group, topics, is_modern=is_modern)
        self.is_committed = scene.world.chance(0.5)

    def run(self) -> Process:
        yield from self.sleep(self.random.random() * 3000)
        while not self.scene.is_ending:
            joined = yield from self.membership.join()
            if joined:
                loaded = yield from self.load_positions()
                if loaded:
                    yield from self.work()
            yield from self.sleep(self.random.random() * 3000)

    def work(self) -> Process:
        while not self.scene.is_ending:
            if self.positions:
                yield from self.fetch(self.positions, wait_ms=300)
            if self.world.chance(0.4):
                yield from self.commit()
            if self.is_beat_due():
                stays = yield from self.membership.beat()
                if not stays:
                    yield from self.commit()
                    settled = yield from self.membership.settle()
                    loaded = settled and (yield from self.load_positions())
                    if not loaded:
                        return
            if self.world.chance(FREEZE_CHANCE):
                yield from self.sleep(SESSION_MS * (1 + self.random.random()))
                yield from self.commit()
            if self.world.chance(LEAVE_CHANCE):
                yield from self.commit()
                yield from self.membership.leave()
                return
            yield from self.sleep(100 + self.random.random() * 1200)


class Copier(GroupMember, Transacting):
    """Consumes, transforms and produces, with one transaction for the records that it read from one partition."""

    is_committed = True

    def __init__(
        self,
        scene: Scene,
        name: str,
        group: str,
        topics: tuple[TopicLife, TopicLife],
        *,
        is_modern: bool,
    ) -> None:
        super().__init__(scene, name)
        source, self.target = topics
        self.transactional_id = name
        self.enter(group, [source], is_modern=is_modern)
        self.numbers = 0

    def run(self) -> Process:
        yield from self.sleep(self.random.random() * 2000)
        while not self.scene.is_ending:
            joined = yield from self.membership.join()
            ready = joined and (yield from self.begin_life())
            loaded = ready and (yield from self.load_positions())
            if loaded:
                yield from self.work()
            yield from self.sleep(self.random.random() * 2000)

    def work(self) -> Process:
        while not self.scene.is_ending:
            if self.is_beat_due():
                stays = yield from self.membership.beat()
                if not stays:
                    settled = yield from self.membership.settle()
                    loaded = settled and (yield from self.load_positions())
                    if not loaded:
                        return
            if self.positions:
                self.is_busy = True
                done = yield from self.copy_some()
                self.is_busy = False
                if not done:
                    return
            if self.world.chance(FREEZE_CHANCE):
                yield from self.sleep(SESSION_MS * (1 + self.random.random()))
            if self.world.chance(LEAVE_CHANCE):
                yield from self.membership.leave()
                return
            yield from self.sleep(100 + self.random.random() * 1200)

    def copy_some(self) -> Call:
        """Runs one transaction; False if this member has to restart from the committed offsets."""
        place = self.random.choice(list(self.positions))
        topic, partition = place
        one = {place: self.positions[place]}
        polls = yield from self.fetch(one, 1500, 200)
        if not polls:
            self.positions[place] = one[place]
            return True
        self.numbers += 1
        self.begin_transaction(f"{self.name}/{self.numbers}")
        values = tuple(COPY_PREFIX + value for _, value in polls[0].records)
        if values:
            send = yield from self.send(self.target, partition, values)
            if send is None:
                return False
        membership = self.membership
        done = yield from self.send_offset(
            self.group, topic, partition, one[place], membership.epoch, membership.member_id
        )
        if not done:
            yield from self.end_transaction(commit=False)
            return False
        commit = not self.world.chance(0.1)
        ended = yield from self.end_transaction(commit=commit)
        if ended and commit:
            self.positions[place] = one[place]
        return ended
