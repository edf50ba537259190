"""Two clients that share a transactional id."""

from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from tests.security.matrix import error_codes, message

from .requests import batch, fetch, produce, same
from .side import Side, Step
from .walks import Walk, step

NOBODY = (424_242, 0)  # the id and epoch of a client that has not asked for them
PREPARED = {"PrepareCommit", "PrepareAbort", "PrepareEpochFence"}


class TransactionWalk(Walk):
    """Every request of a producer's and of a copier's, with what is current, old, repeated or made up."""

    weights = {
        "init": 3,
        "add_partitions": 3,
        "produce": 6,
        "add_offsets": 2,
        "commit_offsets": 3,
        "end": 5,
        "fetch": 3,
        "describe": 2,
        "describe_producers": 2,
        "commit_plainly": 2,
        "delete_offsets": 1,
        "delete_group": 1,
        "fetch_offsets": 2,
        "list_offsets": 1,
    }

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.id = f"tx-{seed}"

    def settle(self, side: Side) -> None:
        describe = ApiKey.DESCRIBE_TRANSACTIONS
        side.ask_until(
            lambda answer: answer.transaction_states[0].transaction_state not in PREPARED,
            describe,
            0,
            message(describe)([self.id]),
        )

    # -- who speaks

    def client(self) -> str:
        return str(self.often("a", "b"))

    def identity(self, side: Side, client: str, shift: int = 0) -> tuple[int, int]:
        producer_id, epoch = side.known.get(f"{self.name} {client}", NOBODY)
        return producer_id, max(0, epoch + shift)

    def take(self, client: str) -> Any:
        def remember(side: Side, answer: Any) -> None:
            if answer.error_code == ErrorCode.NONE and answer.producer_id >= 0:
                side.known[f"{self.name} {client}"] = answer.producer_id, answer.producer_epoch

        return remember

    def is_open_to_another(self, side: Side, epoch: int) -> bool:
        """Whether a transaction is open with another epoch.

        An InitProducerId that names an old epoch is refused by both; but Kafka aborts the current client's transaction
        before it looks at the epoch.
        """
        key = ApiKey.DESCRIBE_TRANSACTIONS
        found = side.wire.call(key, 0, message(key)([self.id])).transaction_states[0]
        return bool(found.transaction_state == "Ongoing" and found.producer_epoch != epoch)

    def is_open_here(self, side: Side, partition: int, producer_id: int, epoch: int) -> bool:
        """Whether the producer has written to this partition in the transaction that is open."""
        key = ApiKey.DESCRIBE_PRODUCERS
        m = message(key)
        found = side.wire.call(key, 0, m([m.TopicRequest(self.topic, [partition])])).topics[0].partitions[0]
        return any(
            (p.producer_id, p.producer_epoch) == (producer_id, epoch) and p.current_txn_start_offset >= 0
            for p in found.active_producers
        )

    # -- the requests

    def init(self) -> Step:
        client = self.client()
        kind = self.random.choice(["fresh", "fresh", "on", "on an old epoch", "with another's id"])

        def make(side: Side) -> Any:
            producer_id, epoch = self.identity(side, client, -1 if kind == "on an old epoch" else 0)
            if kind == "fresh" or self.is_open_to_another(side, epoch):
                producer_id = epoch = -1
            elif kind == "with another's id":
                producer_id += 1_000_000
            return message(ApiKey.INIT_PRODUCER_ID)(self.id, 60_000, producer_id, epoch)

        versions = self.version(0, 5)
        return step(f"{client} inits {kind}", ApiKey.INIT_PRODUCER_ID, versions, make, remember=self.take(client))

    def add_partitions(self) -> Step:
        client, shift = self.client(), self.often(0, -1, 1)
        partitions = self.random.choice([[0], [1], [0, 1], [0, 9]])
        m = message(ApiKey.ADD_PARTITIONS_TO_TXN)

        def make(side: Side) -> Any:
            producer_id, epoch = self.identity(side, client, shift)
            topics = [m.AddPartitionsToTxnTopic(self.topic, partitions)]
            return m([], self.id, producer_id, epoch, topics)

        name = f"{client} adds {partitions}, epoch {shift:+}"
        return step(name, ApiKey.ADD_PARTITIONS_TO_TXN, self.version(0, 3), make)

    def produce(self) -> Step:
        client, shift, partition = self.client(), self.often(0, -1), self.random.randint(0, 1)
        drawn = self.often("next", "again", "too far", "first")

        def place(side: Side) -> str:
            return f"{self.name} sequence {partition} {self.identity(side, client, shift)}"

        def make(side: Side) -> Any:
            producer_id, epoch = self.identity(side, client, shift)
            following = side.known.get(place(side), 0)
            # Kafka remembers for a while what it did not let in, and goes by it (its VerificationStateEntry): nothing
            # odd is sent but within a transaction.
            side.known["order"] = order = drawn if self.is_open_here(side, partition, producer_id, epoch) else "next"
            sequence = {"next": following, "again": max(0, following - 1), "too far": following + 5, "first": 0}[order]
            data = batch(b"v", attributes=0x10, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
            return produce(self.topic, data, partition, self.id)(side)

        def remember(side: Side, answer: Any) -> None:
            if side.known["order"] == "next" and not any(error_codes(answer)):
                side.known[place(side)] = side.known.get(place(side), 0) + 1

        name = f"{client} produces the {drawn} to {partition}, epoch {shift:+}"
        return step(name, ApiKey.PRODUCE, self.version(9, 12), make, remember=remember)

    def add_offsets(self) -> Step:
        client, shift = self.client(), self.often(0, -1, 1)

        def make(side: Side) -> Any:
            return message(ApiKey.ADD_OFFSETS_TO_TXN)(self.id, *self.identity(side, client, shift), self.group)

        return step(f"{client} adds offsets, epoch {shift:+}", ApiKey.ADD_OFFSETS_TO_TXN, self.version(0, 3), make)

    def commit_offsets(self) -> Step:
        client, shift, offset = self.client(), self.often(0, -1, 1), self.random.randint(0, 9)
        partition = self.often(0, 1, 9)
        generation, member = self.often((-1, ""), (3, ""), (3, "nobody"))
        m = message(ApiKey.TXN_OFFSET_COMMIT)

        def make(side: Side) -> Any:
            parts = [m.TxnOffsetCommitRequestPartition(partition, offset)]
            topics = [m.TxnOffsetCommitRequestTopic(name=self.topic, partitions=parts)]
            who = self.identity(side, client, shift)
            return m(self.id, self.group, *who, generation, member, topics=topics)

        name = f"{client} commits offset {offset} of {partition} as {member!r} of {generation}, epoch {shift:+}"
        return step(name, ApiKey.TXN_OFFSET_COMMIT, self.version(0, 5), make)

    def commit_plainly(self) -> Step:
        """Without a transaction: of two commits the later one counts."""
        offset, partition, key = self.random.randint(10, 19), self.random.randint(0, 1), ApiKey.OFFSET_COMMIT
        m = message(key)
        topics = [
            m.OffsetCommitRequestTopic(name=self.topic, partitions=[m.OffsetCommitRequestPartition(partition, offset)])
        ]
        return step(
            f"commit {offset} of {partition} plainly", key, self.version(2, 9), same(key, self.group, topics=topics)
        )

    def delete_offsets(self) -> Step:
        partition, key = self.random.randint(0, 1), ApiKey.OFFSET_DELETE
        m = message(key)
        topics = [m.OffsetDeleteRequestTopic(self.topic, [m.OffsetDeleteRequestPartition(partition)])]
        return step(f"delete the offset of {partition}", key, (0,), same(key, self.group, topics))

    def delete_group(self) -> Step:
        key = ApiKey.DELETE_GROUPS
        return step("delete the group", key, self.version(0, 2), same(key, [self.group]))

    def end(self) -> Step:
        client, shift, commit = self.client(), self.often(0, -1, 1), self.random.random() < 0.6

        def make(side: Side) -> Any:
            return message(ApiKey.END_TXN)(self.id, *self.identity(side, client, shift), commit)

        name = f"{client} {'commits' if commit else 'aborts'}, epoch {shift:+}"
        return step(name, ApiKey.END_TXN, self.version(0, 5), make, remember=self.take(client))

    # -- what is to be seen

    def fetch(self) -> Step:
        partition, isolation = self.random.randint(0, 1), self.random.randint(0, 1)
        make = fetch(self.topic, 0, isolation, partition)
        return step(f"fetch {partition}, isolation {isolation}", ApiKey.FETCH, self.version(11, 17), make)

    def describe(self) -> Step:
        key = ApiKey.DESCRIBE_TRANSACTIONS
        return step("describe", key, (0,), same(key, [self.id]))

    def describe_producers(self) -> Step:
        key = ApiKey.DESCRIBE_PRODUCERS
        topics = [message(key).TopicRequest(self.topic, [0, 1])]
        return step("describe producers", key, (0,), same(key, topics))

    def fetch_offsets(self) -> Step:
        key, stable = ApiKey.OFFSET_FETCH, self.random.random() < 0.5
        topics = [message(key).OffsetFetchRequestTopic(self.topic, [0, 1])]
        make = same(key, group_id=self.group, topics=topics, require_stable=stable)
        return step(f"fetch offsets, stable {stable}", key, (7,), make)

    def list_offsets(self) -> Step:
        key, isolation = ApiKey.LIST_OFFSETS, self.random.randint(0, 1)
        m = message(key)
        topics = [m.ListOffsetsTopic(self.topic, [m.ListOffsetsPartition(n, -1, -1) for n in (0, 1)])]
        return step(f"list offsets, isolation {isolation}", key, self.version(4, 9), same(key, -1, isolation, topics))
