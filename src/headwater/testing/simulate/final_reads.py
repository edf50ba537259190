"""The last reads of a run: every whole partition, by both kinds of readers, and every group's offsets."""

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.testing.simulate.client import Call
from headwater.testing.simulate.consumers import FETCH_BY_ID
from headwater.testing.simulate.history import Outcome, Poll
from headwater.testing.simulate.members import GroupMember
from headwater.testing.simulate.records import read_records
from headwater.testing.simulate.scene import TopicLife
from headwater.testing.simulate.world import Process

ATTEMPTS_MAX = 200
BYTES_MAX = 1 << 20


class FinalReader(GroupMember):
    """See the module's docstring."""

    has_read = False

    def run(self) -> Process:
        for topic in self.scene.topics:
            if topic.is_deleted or not any(topic.topic_id):
                continue
            for partition in range(topic.partitions):
                end = yield from self.read(topic, partition, is_committed=False)
                stable = yield from self.read(topic, partition, is_committed=True)
                if end != stable and not self.scene.has_damage:
                    self.world.find(f"{topic.label}-{partition} ends at {end}, and is stable up to {stable}")
        for group, topics in self.scene.groups.items():
            self.group = group
            for topic in topics:
                for partition in range(topic.partitions):
                    yield from self.fetch_offset((topic, partition))
        self.has_read = True

    def fetch_offset(self, place: tuple[TopicLife, int]) -> Call:
        self.scene.is_over = False  # the final reads are retried until they succeed
        offset = yield from super().fetch_offset(place)
        self.scene.is_over = True
        return offset

    def read(self, topic: TopicLife, partition: int, *, is_committed: bool) -> Call:
        """Reads a partition from its start to its end; returns the end."""
        self.is_committed = is_committed
        poll: Poll | None = None
        found: list[tuple[int, bytes]] = []
        for _ in range(ATTEMPTS_MAX):
            if poll is None:
                start = yield from self.log_start((topic, partition))
                if start is None:
                    if self.scene.excuses(topic.label, partition):
                        return -1
                    yield from self.back_off()
                    continue
                poll = Poll(
                    process=self.name,
                    topic=topic.label,
                    partition=partition,
                    position=start,
                    next_position=start,
                    is_committed=is_committed,
                    is_final=True,
                )
                self.history.begin(poll)
            request = self.fetch_request({(topic, partition): poll.next_position}, BYTES_MAX, 0)
            answer = yield from self.call(ApiKey.FETCH, FETCH_BY_ID, request)
            if answer is None or answer.error_code:
                yield from self.back_off()
                continue
            data = answer.responses[0].partitions[0]
            if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
                poll = None  # retention has moved the start
                found = []
                continue
            if data.error_code:
                if self.scene.excuses(topic.label, partition):
                    break
                self.unexpected(f"a fetch of {topic.label}-{partition}", data.error_code)
                return -1
            try:
                records, poll.next_position = read_records(data, poll.next_position, is_committed=is_committed)
            except ProtocolError as error:
                self.corrupt((topic, partition), error)
                break
            found += records
            poll.log_start = data.log_start_offset
            if poll.next_position >= (data.last_stable_offset if is_committed else data.high_watermark):
                break
        else:
            self.world.find(f"{topic.label}-{partition} cannot be read to its end")
        if poll is None:
            return -1
        poll.records = tuple(found)
        self.history.end(poll, Outcome.OK)
        return poll.next_position
