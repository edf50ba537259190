"""A transactional producer and a reader of committed records, on the harness."""

from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from headwater.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from headwater.protocol.messages.end_txn import EndTxnRequest
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from headwater.protocol.records import TRANSACTIONAL, Record, batches, build_batch, records
from tests.broker.harness import Harness, Pending

READ_COMMITTED = 1


class Producer:
    """A client with a transactional id. `version` 2 is KIP-890's protocol, 1 the one before."""

    def __init__(self, broker: Harness, transactional_id: str, version: int = 2, timeout_ms: int = 60_000) -> None:
        self.broker = broker
        self.transactional_id = transactional_id
        self.version = version
        self.timeout_ms = timeout_ms
        self.producer_id, self.epoch = -1, -1
        self.sequences: dict[tuple[str, int], int] = {}

    def init(self) -> Any:
        answer = self.broker.call(
            ApiKey.INIT_PRODUCER_ID, 4, InitProducerIdRequest(self.transactional_id, self.timeout_ms)
        )
        if answer.error_code == 0:
            self.took(answer)
        return answer

    def took(self, answer: Any) -> None:
        if (answer.producer_id, answer.producer_epoch) != (self.producer_id, self.epoch):
            self.producer_id, self.epoch, self.sequences = answer.producer_id, answer.producer_epoch, {}

    def add(self, topic: str, partition: int = 0) -> int:
        body = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(topic, [partition])],
        )
        answer = self.broker.call(ApiKey.ADD_PARTITIONS_TO_TXN, 3, body)
        return int(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)

    def send_produce(self, topic: str, *values: bytes, partition: int = 0) -> Pending:
        sequence = self.sequences.get((topic, partition), 0)
        self.sequences[topic, partition] = sequence + len(values)
        batch = build_batch(
            [Record(value, value, (), self.broker.clock.wall_ms()) for value in values],
            attributes=TRANSACTIONAL,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
        )
        data = ProduceRequest.PartitionProduceData(partition, bytes(batch))
        topics = [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])]
        body = ProduceRequest(self.transactional_id, -1, 1000, topics)
        return self.broker.send(ApiKey.PRODUCE, 12 if self.version >= 2 else 10, body)

    def produce(self, topic: str, *values: bytes, partition: int = 0) -> int:
        """The error code."""
        answer = self.send_produce(topic, *values, partition=partition).message
        return int(answer.responses[0].partition_responses[0].error_code)

    def send_end(self, *, commit: bool) -> Pending:
        body = EndTxnRequest(self.transactional_id, self.producer_id, self.epoch, commit)
        return self.broker.send(ApiKey.END_TXN, 5 if self.version >= 2 else 4, body)

    def end(self, *, commit: bool) -> int:
        answer = self.send_end(commit=commit).message
        if answer.error_code == 0 and self.version >= 2:
            self.took(answer)
        return int(answer.error_code)

    def send_offset(self, group_id: str, topic: str, offset: int, **member: Any) -> Pending:
        partition = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(0, offset)
        topics = [TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name=topic, partitions=[partition])]
        body = TxnOffsetCommitRequest(
            self.transactional_id, group_id, self.producer_id, self.epoch, topics=topics, **member
        )
        return self.broker.send(ApiKey.TXN_OFFSET_COMMIT, 5 if self.version >= 2 else 4, body)

    def commit_offset(self, group_id: str, topic: str, offset: int, **member: Any) -> int:
        return int(self.send_offset(group_id, topic, offset, **member).message.topics[0].partitions[0].error_code)

    def add_offsets(self, group_id: str) -> int:
        body = AddOffsetsToTxnRequest(self.transactional_id, self.producer_id, self.epoch, group_id)
        return int(self.broker.call(ApiKey.ADD_OFFSETS_TO_TXN, 3, body).error_code)


def committed_values(broker: Harness, topic: str, partition: int = 0) -> list[bytes]:
    """What a reader of committed records sees, as clients work it out: aborted transactions end at their marker."""
    log = broker.core.partitions.log(broker.core.metadata.topics[topic], partition)
    offset, found = log.start_offset, []
    while offset < log.last_stable_offset:
        data = broker.fetch(topic, offset, partition, isolation_level=READ_COMMITTED)
        assert data.error_code == 0
        assert data.records
        waiting = sorted((a.first_offset, a.producer_id) for a in data.aborted_transactions or ())
        aborted: set[int] = set()
        for header, batch in batches(data.records):
            while waiting and waiting[0][0] <= header.last_offset:
                aborted.add(waiting.pop(0)[1])
            if header.is_control:
                aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted):
                found += [r.value or b"" for r in records(header, batch) if r.offset >= offset]
            offset = header.next_offset
    return found


def fetched_offset(broker: Harness, group_id: str, topic: str, *, stable: bool = True) -> tuple[int, int]:
    """A group's committed offset, and the error code."""
    found = ask_offset(broker, group_id, topic, stable=stable).message.topics[0].partitions[0]
    return found.committed_offset, found.error_code


def ask_offset(broker: Harness, group_id: str, topic: str, *, stable: bool = True) -> Pending:
    """Asks for a group's committed offset."""
    wanted = OffsetFetchRequest.OffsetFetchRequestTopic(topic, [0])
    request = OffsetFetchRequest(group_id=group_id, topics=[wanted], require_stable=stable)
    return broker.send(ApiKey.OFFSET_FETCH, 7, request)
