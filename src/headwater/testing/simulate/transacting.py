"""Simulated transactional producers: commits, aborts, transactions left open, zombies, and both protocols.

Version 2 is KIP-890's: the epoch rises with each transaction, so a late request cannot count for the next one. Version 1 is
the protocol before that. There a late EndTxn or TxnOffsetCommit can count for the next transaction; Kafka has the same hole.
So if a producer of version 1 gets no answer to one of these requests, it asks for a new epoch, which closes the hole.

A zombie is a producer that keeps sending although another has taken over its transactional id. From then on the broker must
refuse everything that the zombie sends.
"""

from collections.abc import Sequence
from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from headwater.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from headwater.protocol.messages.end_txn import EndTxnRequest
from headwater.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from headwater.testing.simulate.client import RETRIABLE, Call
from headwater.testing.simulate.history import CommitOffset, EndTransaction, Outcome, Send
from headwater.testing.simulate.producers import Producing, produce_request
from headwater.testing.simulate.records import Identity, batch_of
from headwater.testing.simulate.scene import Scene, TopicLife
from headwater.testing.simulate.world import Process

FENCED = frozenset(
    {
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.INVALID_TXN_STATE,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
        ErrorCode.TRANSACTION_ABORTABLE,
        ErrorCode.UNKNOWN_PRODUCER_ID,
    }
)
MEMBER_IS_OUT = frozenset(
    {
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.STALE_MEMBER_EPOCH,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.FENCED_INSTANCE_ID,
    }
)
SENDS_MAX = 4
RECORDS_MAX = 3
LEFT_OPEN_CHANCE = 0.04
ZOMBIE_CHANCE = 0.06
ZOMBIE_TRANSACTIONS = 3


class Transacting(Producing):
    """One transaction after another. A step returns False if the transaction cannot continue."""

    version = 2
    transactional_id = ""
    transaction = ""
    timeout_ms = 10_000

    def begin_life(self) -> Call:
        """Claims the transactional id: an earlier open transaction is aborted, or ended as already decided."""
        self.identity = Identity()
        self.sequences: dict[tuple[str, int], int] = {}
        self.in_transaction: set[tuple[str, int]] = set()
        return (yield from self.init_producer_id(self.transactional_id, self.timeout_ms))

    def begin_transaction(self, name: str) -> None:
        self.transaction = name
        self.in_transaction.clear()

    def attempt(self, key: int, version: int, request: Any, errors: Any) -> Call:
        """Sends until an answer is final: (error, whether an earlier attempt may have been carried out, answer)."""
        was_uncertain = False
        while True:
            answer = yield from self.call(key, version, request)
            error = errors(answer) if answer is not None else None
            if error is not None and error not in RETRIABLE:
                return error, was_uncertain, answer
            if error is None or error not in (ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.UNSTABLE_OFFSET_COMMIT):
                was_uncertain = True
            if self.scene.is_over:
                return ErrorCode.NETWORK_EXCEPTION, True, None
            yield from self.back_off()

    def refused(self, what: str, error: int, *, is_member: bool = False) -> bool:
        """Always False. Reports a refusal that the broker should not have given."""
        is_known = error in FENCED or error == ErrorCode.NETWORK_EXCEPTION or (is_member and error in MEMBER_IS_OUT)
        if not is_known and not self.scene.has_damage:
            self.unexpected(f"{what} of {self.transaction}", error)
        return False

    # -- records

    def send(self, topic: TopicLife, partition: int, values: tuple[bytes, ...]) -> Call:
        """Sends one batch in the transaction."""
        if self.version < 2 and (topic.name, partition) not in self.in_transaction:
            added = yield from self.add_partition(topic, partition)
            if not added:
                return None
        more = {"producer": self.name, "transaction": self.transaction}
        send: Send = self.begin_send(topic, partition, values, **more)
        sequence = self.sequences.get((topic.name, partition), 0)
        self.sequences[topic.name, partition] = sequence + len(values)
        batch = batch_of(send, self.identity, sequence, self.random)
        request = produce_request(send, batch, topic, self.transactional_id)
        version = 12 if self.version >= 2 else 11
        error, was_uncertain, answer = yield from self.attempt(
            ApiKey.PRODUCE, version, request, lambda a: a.responses[0].partition_responses[0].error_code
        )
        if error in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
            offset = answer.responses[0].partition_responses[0].base_offset
            send.offset = offset if error == ErrorCode.NONE and offset >= 0 else None
            self.history.end(send, Outcome.OK)
            return send
        self.history.end(send, self.outcome(error, was_uncertain=was_uncertain), ErrorCode(error).name)
        self.refused("a send", error)
        return None

    def add_partition(self, topic: TopicLife, partition: int) -> Call:
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.identity.producer_id,
            v3_and_below_producer_epoch=self.identity.epoch,
            v3_and_below_topics=[AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(topic.name, [partition])],
        )
        error, _, _ = yield from self.attempt(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            3,
            request,
            lambda a: a.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
        )
        if error:
            return self.refused("a partition", error)
        self.in_transaction.add((topic.name, partition))
        return True

    # -- offsets

    def send_offset(
        self, group: str, topic: TopicLife, partition: int, offset: int, epoch: int = -1, member_id: str = ""
    ) -> Call:
        """Sends a group's offset in the transaction."""
        if self.version < 2:
            add = AddOffsetsToTxnRequest(self.transactional_id, self.identity.producer_id, self.identity.epoch, group)
            error, _, _ = yield from self.attempt(ApiKey.ADD_OFFSETS_TO_TXN, 3, add, lambda a: a.error_code)
            if error:
                return self.refused("a group", error)
        commit = CommitOffset(
            process=self.name,
            group=group,
            topic=topic.label,
            partition=partition,
            offset=offset,
            transaction=self.transaction,
        )
        self.history.begin(commit)
        wanted = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(partition, offset)
        request = TxnOffsetCommitRequest(
            self.transactional_id,
            group,
            self.identity.producer_id,
            self.identity.epoch,
            epoch,
            member_id,
            topics=[TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name=topic.name, partitions=[wanted])],
        )
        error, was_uncertain, _ = yield from self.attempt(
            ApiKey.TXN_OFFSET_COMMIT,
            5 if self.version >= 2 else 4,
            request,
            lambda a: a.topics[0].partitions[0].error_code,
        )
        self.history.end(commit, self.outcome(error, was_uncertain=was_uncertain), ErrorCode(error).name)
        if error:
            return self.refused("an offset", error, is_member=bool(member_id))
        return self.version >= 2 or not was_uncertain  # in version 1 it may arrive late, in the next transaction

    # -- the end

    def end_transaction(self, *, commit: bool) -> Call:
        """Commits or aborts; False if the producer has to restart."""
        end = self.history.begin(EndTransaction(process=self.name, transaction=self.transaction, commit=commit))
        request = EndTxnRequest(self.transactional_id, self.identity.producer_id, self.identity.epoch, commit)
        if self.version < 2:
            return (yield from self.end_once(end, request))
        error, was_uncertain, answer = yield from self.attempt(ApiKey.END_TXN, 5, request, lambda a: a.error_code)
        self.history.end(end, self.outcome(error, was_uncertain=was_uncertain), ErrorCode(error).name)
        if error:
            return self.refused("the end", error)
        identity = Identity(answer.producer_id, answer.producer_epoch)
        if identity != self.identity:
            self.identity, self.sequences = identity, {}
        return True

    def end_once(self, end: EndTransaction, request: EndTxnRequest) -> Call:
        """Version 1: an EndTxn without an answer is not sent again, because it could end the next transaction."""
        while True:
            answer = yield from self.call(ApiKey.END_TXN, 4, request)
            if answer is None:
                return False
            if answer.error_code != ErrorCode.CONCURRENT_TRANSACTIONS:
                break
            yield from self.back_off()
        error = answer.error_code
        if error in RETRIABLE:
            return False
        self.history.end(end, self.outcome(error, was_uncertain=False), ErrorCode(error).name)
        return not error or self.refused("the end", error)


class TransactionalProducer(Transacting):
    """Writes to several partitions in each transaction, and now and then a group's offset."""

    def __init__(
        self,
        scene: Scene,
        transactional_id: str,
        topics: Sequence[TopicLife],
        *,
        version: int,
        pause_ms: float,
        instance: int = 0,
    ) -> None:
        super().__init__(scene, f"{transactional_id}.{instance}")
        self.transactional_id, self.version, self.instance = transactional_id, version, instance
        self.topics, self.pause_ms = topics, pause_ms
        self.numbers = 0
        self.left = -1  # transactions until a zombie stops

    def run(self) -> Process:
        done = yield from self.begin_life()
        while done and not self.scene.is_ending and self.left:
            self.is_busy = True
            continues = yield from self.run_transaction()
            self.is_busy = False
            self.left -= 1
            if not continues:
                if self.left >= 0:
                    return  # the other producer has the id now
                done = yield from self.begin_life()
            yield from self.sleep(self.random.random() * 2 * self.pause_ms)

    def become_zombie(self) -> None:
        """Starts another instance with this producer's transactional id, which this one does not notice."""
        if self.left >= 0:
            return
        self.left = ZOMBIE_TRANSACTIONS
        successor = TransactionalProducer(
            self.scene,
            self.transactional_id,
            self.topics,
            version=self.version,
            pause_ms=self.pause_ms,
            instance=self.instance + 1,
        )
        self.scene.add(successor, successor.run())

    def run_transaction(self) -> Call:
        self.numbers += 1
        self.begin_transaction(f"{self.name}/{self.numbers}")
        last: tuple[TopicLife, int, Send] | None = None
        count = 0
        for _ in range(self.random.randint(1, SENDS_MAX)):
            topic = self.random.choice(self.topics)
            partition = self.random.randrange(topic.partitions)
            size = self.random.randint(1, RECORDS_MAX)
            values = tuple(b"%s:%d" % (self.transaction.encode(), count + n) for n in range(size))
            count += size
            send = yield from self.send(topic, partition, values)
            if send is None:
                return False
            last = topic, partition, send
            if self.world.chance(ZOMBIE_CHANCE / 3):
                self.become_zombie()
        if self.world.chance(0.3) and last is not None and last[2].offset is not None:
            topic, partition, send = last
            offset = (send.offset or 0) + 1
            done = yield from self.send_offset(f"of-{self.transactional_id}", topic, partition, offset)
            if not done:
                return False
        if self.world.chance(LEFT_OPEN_CHANCE):
            return False  # it abandons its transaction, and starts again
        if self.world.chance(ZOMBIE_CHANCE):
            self.become_zombie()
        return (yield from self.end_transaction(commit=self.world.chance(0.75)))
