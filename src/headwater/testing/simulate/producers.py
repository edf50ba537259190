"""Simulated idempotent producers: several batches in flight per partition, sent again until they are answered.

It works as in Kafka's clients. The batches of a partition have consecutive sequence numbers. If one fails with a retriable
error, or is not answered, nothing more is sent to that partition until all batches in flight have returned; then everything
is sent again, in order. The broker must append each batch once and in this order, whatever it has seen of earlier attempts.
"""

from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.testing.simulate.client import RETRIABLE, Call, Client
from headwater.testing.simulate.history import Outcome, Send
from headwater.testing.simulate.records import Identity, batch_of
from headwater.testing.simulate.scene import Scene, TopicLife
from headwater.testing.simulate.world import Process

IN_FLIGHT_MAX = 5
RECORDS_MAX = 4
KEYS = 6
PRODUCE_BY_NAME, PRODUCE_BY_ID = 9, 13


def produce_request(send: Send, batch: bytes, topic: TopicLife, transactional_id: str | None = None) -> ProduceRequest:
    data = ProduceRequest.PartitionProduceData(send.partition, batch)
    content = ProduceRequest.TopicProduceData(name=topic.name, topic_id=topic.topic_id, partition_data=[data])
    return ProduceRequest(transactional_id, -1, 2000, [content])


class Producing(Client):
    """The base of all producers."""

    identity = Identity()

    def begin_send(self, topic: TopicLife, partition: int, values: tuple[bytes, ...], **more: Any) -> Send:
        timestamps = (self.world.clock.wall_ms(),) * len(values)
        keys: tuple[bytes, ...] = ()
        if topic.is_compacted:
            keys = tuple(b"k%d" % self.random.randrange(KEYS) for _ in values)
        send = Send(
            process=self.name,
            topic=topic.label,
            partition=partition,
            values=values,
            keys=keys,
            timestamps=timestamps,
            **more,
        )
        return self.history.begin(send)

    def init_producer_id(self, transactional_id: str | None = None, timeout_ms: int = 60_000) -> Call:
        """Gets a new id, or epoch; returns True when that is done, and False if the refusal is final."""
        while True:
            request = InitProducerIdRequest(
                transactional_id, timeout_ms, self.identity.producer_id, self.identity.epoch
            )
            answer = yield from self.call(ApiKey.INIT_PRODUCER_ID, 4, request)
            if answer is not None and answer.error_code == ErrorCode.NONE:
                self.identity = Identity(answer.producer_id, answer.producer_epoch)
                return True
            if answer is not None and answer.error_code not in RETRIABLE:
                return False
            if self.scene.is_over:
                return False
            yield from self.back_off()


class Lane:
    """The batches of one partition that have no answer yet, oldest first."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.next_sequence = 0
        self.in_flight = 0
        self.is_stalled = False


class Batch:
    """One batch, and how often it was sent."""

    __slots__ = ("content", "is_in_flight", "send", "sequence")

    def __init__(self, send: Send, content: bytes, sequence: int) -> None:
        self.send, self.content, self.sequence = send, content, sequence
        self.is_in_flight = False


class IdempotentProducer(Producing):
    """See the module's docstring."""

    def __init__(self, scene: Scene, name: str, topic: TopicLife, pause_ms: float) -> None:
        super().__init__(scene, name)
        self.topic, self.pause_ms = topic, pause_ms
        self.lanes = [Lane() for _ in range(topic.partitions)]
        self.sent = 0

    def run(self) -> Process:
        done = yield from self.init_producer_id()
        if not done:
            return
        while not self.scene.is_ending:
            for _ in range(self.random.choice((1, 1, 3))):
                self.send(self.random.randrange(len(self.lanes)))
            yield from self.sleep(self.random.random() * 2 * self.pause_ms)

    def send(self, partition: int) -> None:
        lane = self.lanes[partition]
        if len(lane.batches) >= IN_FLIGHT_MAX:
            return
        count = self.random.randint(1, RECORDS_MAX)
        values = tuple(b"%s:%d" % (self.name.encode(), self.sent + n) for n in range(count))
        self.sent += count
        send = self.begin_send(self.topic, partition, values, producer=self.name)
        batch = Batch(send, batch_of(send, self.identity, lane.next_sequence, self.random), lane.next_sequence)
        lane.next_sequence += count
        lane.batches.append(batch)
        self.is_busy = True
        if not lane.is_stalled:
            self.transmit(lane, batch)

    def transmit(self, lane: Lane, batch: Batch) -> None:
        lane.in_flight += 1
        batch.is_in_flight = True
        request = produce_request(batch.send, batch.content, self.topic)
        self.request(ApiKey.PRODUCE, PRODUCE_BY_NAME, request, lambda answer: self.answered(lane, batch, answer))

    def answered(self, lane: Lane, batch: Batch, answer: ProduceResponse | None) -> None:
        lane.in_flight -= 1
        batch.is_in_flight = False
        if answer is None:
            lane.is_stalled = True
        else:
            self.judge(lane, batch, answer.responses[0].partition_responses[0])
        if lane.is_stalled and not lane.in_flight:
            self.world.later(10 + self.random.random() * 200, lambda: self.send_again(lane))
        self.is_busy = any(lane.batches for lane in self.lanes)

    def judge(self, lane: Lane, batch: Batch, result: ProduceResponse.PartitionProduceResponse) -> None:
        error = result.error_code
        if error in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
            lane.batches.remove(batch)
            batch.send.offset = result.base_offset if error == ErrorCode.NONE and result.base_offset >= 0 else None
            self.history.end(batch.send, Outcome.OK)
            return
        lane.is_stalled = True
        if error == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and lane.batches[0] is not batch:
            return  # an earlier batch has failed
        if error not in RETRIABLE and not self.scene.excuses(batch.send.topic, batch.send.partition):
            self.unexpected(f"batch {batch.sequence} to {batch.send.topic}-{batch.send.partition}", error)

    def send_again(self, lane: Lane) -> None:
        if not lane.is_stalled or lane.in_flight or self.scene.is_over:
            return
        lane.is_stalled = False
        for batch in list(lane.batches):
            self.transmit(lane, batch)
