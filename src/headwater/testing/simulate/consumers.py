"""Simulated consumers without a group: they read partitions from the start, committed records only or all."""

from collections.abc import Sequence

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.testing.simulate.client import RETRIABLE, Call, Client
from headwater.testing.simulate.history import Outcome, Poll
from headwater.testing.simulate.records import read_records
from headwater.testing.simulate.scene import Place, Scene, TopicLife
from headwater.testing.simulate.world import Process

EARLIEST = -2
MAX_WAIT_MS = 500
FETCH_BY_NAME, FETCH_BY_ID = 12, 16


class Consuming(Client):
    """The base of all consumers: fetches, and records what was read."""

    is_committed = False
    group = ""

    def fetch(self, positions: dict[Place, int], bytes_max: int = 4000, wait_ms: int = MAX_WAIT_MS) -> Call:
        """Fetches once from some partitions, and moves their positions; returns the polls that had records."""
        began = self.history.clock()
        asked = dict(positions)
        answer = yield from self.call(ApiKey.FETCH, FETCH_BY_ID, self.fetch_request(asked, bytes_max, wait_ms))
        if answer is None or answer.error_code:
            yield from self.back_off()
            return []
        by_id = {(topic.topic_id, partition): (topic, partition) for topic, partition in asked}
        polls, outside = [], []
        for response in answer.responses:
            for data in response.partitions:
                place = by_id[response.topic_id, data.partition_index]
                if data.error_code == ErrorCode.NONE:
                    poll = self.poll_of(place, asked[place], data, began)
                    if poll.next_position > poll.position:
                        positions[place] = poll.next_position
                        polls.append(poll)
                elif data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
                    outside.append(place)
                else:
                    self.fetch_failed(place, data.error_code)
        for place in outside:
            yield from self.reset(positions, place)
        return polls

    def fetch_request(self, positions: dict[Place, int], bytes_max: int, wait_ms: int) -> FetchRequest:
        topics: dict[bytes, FetchRequest.FetchTopic] = {}
        for (topic, partition), position in positions.items():
            entry = topics.setdefault(topic.topic_id, FetchRequest.FetchTopic(topic.topic_id))
            wanted = FetchRequest.FetchPartition(partition, fetch_offset=position, partition_max_bytes=bytes_max)
            entry.partitions.append(wanted)
        return FetchRequest(
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=1 << 20,
            isolation_level=int(self.is_committed),
            session_epoch=-1,
            topics=list(topics.values()),
        )

    def poll_of(self, place: Place, position: int, data: FetchResponse.PartitionData, began: int) -> Poll:
        topic, partition = place
        poll = Poll(
            process=self.name,
            topic=topic.label,
            partition=partition,
            position=position,
            is_committed=self.is_committed,
            group=self.group,
            began=began,
            log_start=data.log_start_offset,
        )
        try:
            poll.records, poll.next_position = read_records(data, position, is_committed=self.is_committed)
        except ProtocolError as error:
            self.corrupt(place, error)
            return poll
        if poll.next_position > position:
            self.history.operations.append(poll)
            self.history.end(poll, Outcome.OK)
        return poll

    def corrupt(self, place: Place, error: ProtocolError) -> None:
        """Handles a batch that is not what was written: clients notice that by its checksum."""
        topic, partition = place
        if not self.scene.excuses(topic.label, partition):
            self.world.find(f"{self.name} read {error} in {topic.label}-{partition}")

    def fetch_failed(self, place: Place, error: int) -> None:
        topic, partition = place
        if error in (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) and topic.may_be_gone:
            return
        if error not in RETRIABLE and not self.scene.excuses(topic.label, partition):
            self.unexpected(f"a fetch of {topic.label}-{partition}", error)

    def reset(self, positions: dict[Place, int], place: Place) -> Call:
        """Handles a position outside of the log. Its records may have been removed, but the log must not have become shorter."""
        start = yield from self.log_start(place)
        if start is None:
            return
        topic, partition = place
        if start < positions.get(place, start) and not self.scene.excuses(topic.label, partition):
            self.world.find(f"{self.name}: {topic.label}-{partition} ends before {positions[place]}, which it had")
        positions[place] = start

    def log_start(self, place: Place) -> Call:
        """The first offset of a partition; None if there is no answer."""
        topic, partition = place
        wanted = ListOffsetsRequest.ListOffsetsPartition(partition, -1, EARLIEST)
        request = ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(topic.name, [wanted])])
        answer = yield from self.call(ApiKey.LIST_OFFSETS, 8, request)
        if answer is None or answer.topics[0].partitions[0].error_code:
            return None
        return answer.topics[0].partitions[0].offset


class Consumer(Consuming):
    """Reads its partitions from the start, and now and then starts again at a random offset that it has seen."""

    def __init__(
        self, scene: Scene, name: str, topics: Sequence[TopicLife], *, is_committed: bool, pause_ms: float
    ) -> None:
        super().__init__(scene, name)
        self.topics, self.is_committed, self.pause_ms = topics, is_committed, pause_ms
        self.positions: dict[Place, int] = {}

    def run(self) -> Process:
        while not self.scene.is_ending:
            for topic in self.topics:
                for partition in range(topic.partitions):
                    self.positions.setdefault((topic, partition), 0)
            yield from self.fetch(self.positions, self.random.choice((500, 4000, 50_000)))
            if self.world.chance(0.02):
                place = self.random.choice(list(self.positions))
                self.positions[place] = self.random.randrange(self.positions[place] + 1)
            yield from self.sleep(self.random.random() * 2 * self.pause_ms)


class RecycledConsumer(Consuming):
    """Reads the present life of the recycled topic, by its id."""

    def run(self) -> Process:
        positions: dict[Place, int] = {}
        while not self.scene.is_ending:
            topic = self.scene.recycled
            if topic is None:
                yield from self.sleep(200)
                continue
            if (topic, 0) not in positions:
                positions = {(topic, 0): 0}
            yield from self.fetch(positions, wait_ms=200)
            yield from self.sleep(self.random.random() * 600)
