"""Everything once, in every version that both brokers have, in an order in which later steps build on earlier ones."""

from collections.abc import Callable
from typing import Any

from headwater.protocol.apis import ApiKey
from tests.security.matrix import message

from .requests import batch, fetch, produce, same
from .side import Side, Step

BROKER_KEYS = [
    "log.retention.ms",
    "log.retention.hours",
    "log.cleanup.policy",
    "message.max.bytes",
    "min.insync.replicas",
    "create.topic.policy.class.name",
    "group.consumer.session.timeout.ms",
]


def script() -> list[Step]:
    """Everything, in order: later steps build on earlier ones."""
    return [
        *topic_steps(),
        *record_steps(),
        *group_steps(),
        *transaction_steps(),
        *admin_steps(),
        *quota_steps(),
        *token_steps(),
    ]


def topic_steps() -> list[Step]:
    m = message(ApiKey.CREATE_TOPICS)
    key = ApiKey.CREATE_TOPICS
    config = m.CreatableTopicConfig
    wrong = [
        ("no partitions", m.CreatableTopic("x1", 0, 1)),
        ("no replicas", m.CreatableTopic("x1", 1, 0)),
        ("too many replicas", m.CreatableTopic("x1", 1, 3)),
        ("a bad name", m.CreatableTopic("x 1", 1, 1)),
        ("a name that is there", m.CreatableTopic("t", 1, 1)),
        ("a name that collides", m.CreatableTopic("a_b", 1, 1)),
        ("an unknown configuration", m.CreatableTopic("x1", 1, 1, configs=[config("no.such", "1")])),
        ("a bad value", m.CreatableTopic("x1", 1, 1, configs=[config("retention.ms", "x")])),
        ("an assignment to nobody", m.CreatableTopic("x1", -1, -1, [m.CreatableReplicaAssignment(0, [7])])),
    ]
    steps = [Step(f"create with {what}", key, same(key, [topic], 5000, True)) for what, topic in wrong]
    key = ApiKey.DELETE_TOPICS
    steps.append(Step("delete nothing", key, same(key, topic_names=["none"], timeout_ms=5000), (1, 3, 5)))
    key, m = ApiKey.CREATE_PARTITIONS, message(ApiKey.CREATE_PARTITIONS)
    for count in (0, 1, 2, 3):
        wanted = m.CreatePartitionsTopic("t", count, None)
        steps.append(Step(f"to {count} partitions", key, same(key, [wanted], 5000, True)))
    steps.append(Step("partitions of nothing", key, same(key, [m.CreatePartitionsTopic("none", 3, None)], 5000, True)))
    key, m = ApiKey.METADATA, message(ApiKey.METADATA)
    for name in ("t", "none", "a b"):
        steps.append(Step(f"metadata of {name}", key, same(key, [m.MetadataRequestTopic(name=name)], False)))
    key, m = ApiKey.DESCRIBE_TOPIC_PARTITIONS, message(ApiKey.DESCRIBE_TOPIC_PARTITIONS)
    steps.append(Step("describe partitions", key, same(key, [m.TopicRequest("t"), m.TopicRequest("none")], 10)))
    return steps


def record_steps() -> list[Step]:
    key = ApiKey.PRODUCE
    good = tuple(range(3, 14))
    steps = [
        Step("produce", key, produce("t", batch(b"1", b"2")), good),
        Step("produce to nowhere", key, produce("t", batch(b"1"), 9), good),
        Step("produce to no topic", key, produce("none", batch(b"1")), tuple(range(3, 13))),
        Step("produce with odd acks", key, produce("t", batch(b"1"), acks=5), good),
        Step("produce corrupt", key, produce("t", batch(b"1")[:-1] + b"\xff"), good),
    ]
    for name, value, epoch, sequence, versions in (
        ("produce a first sequence", b"i", 0, 0, (9,)),
        ("produce it again", b"i", 0, 0, good),
        ("produce with a gap", b"i", 0, 5, good),
        ("produce a newer epoch", b"j", 2, 0, (9,)),
        ("produce an older epoch", b"k", 1, 0, good),
        ("produce a newer epoch's gap", b"l", 3, 4, good),
    ):
        data = batch(value, producer_id=900, producer_epoch=epoch, base_sequence=sequence)
        steps.append(Step(name, key, produce("t", data), versions))
    key = ApiKey.FETCH
    steps += [
        Step(f"fetch from {offset}", key, fetch("t", offset), tuple(range(4, 18))) for offset in (0, 5, 22, 500, -1)
    ]
    steps.append(Step("fetch nowhere", key, fetch("t", 0, partition=9), tuple(range(4, 18))))
    key, m = ApiKey.LIST_OFFSETS, message(ApiKey.LIST_OFFSETS)
    for timestamp in (-1, -2, -3, -4, -5, 0, 1_795_000_000_000, 1_999_000_000_000):
        for partition in (0, 9):
            wanted = m.ListOffsetsTopic("t", [m.ListOffsetsPartition(partition, -1, timestamp)])
            steps.append(Step(f"offset at {timestamp} of {partition}", key, same(key, -1, 0, [wanted])))
    key, m = ApiKey.OFFSET_FOR_LEADER_EPOCH, message(ApiKey.OFFSET_FOR_LEADER_EPOCH)
    for epoch in (0, 5):
        wanted = m.OffsetForLeaderTopic(
            "t", [m.OffsetForLeaderPartition(0, -1, epoch), m.OffsetForLeaderPartition(9, -1, 0)]
        )
        steps.append(Step(f"end of epoch {epoch}", key, same(key, -1, [wanted])))
    key, m = ApiKey.DELETE_RECORDS, message(ApiKey.DELETE_RECORDS)
    for offset in (5, 3, 999, -2):
        wanted = m.DeleteRecordsTopic("t", [m.DeleteRecordsPartition(0, offset)])
        steps.append(Step(f"delete records before {offset}", key, same(key, [wanted], 5000)))
    key, m = ApiKey.DESCRIBE_PRODUCERS, message(ApiKey.DESCRIBE_PRODUCERS)
    steps.append(Step("describe producers", key, same(key, [m.TopicRequest("t", [0, 9])])))
    return steps


def group_steps() -> list[Step]:
    key, m = ApiKey.FIND_COORDINATOR, message(ApiKey.FIND_COORDINATOR)
    steps = [
        Step("find a group's coordinator", key, same(key, "g", 0), (0, 1, 2, 3)),
        Step("find coordinators", key, same(key, key_type=0, coordinator_keys=["g", "h"]), (4, 5, 6)),
    ]
    join, j = ApiKey.JOIN_GROUP, message(ApiKey.JOIN_GROUP)
    protocols = [j.JoinGroupRequestProtocol("p", b"\0\0")]

    def take_member(side: Side, answer: Any) -> None:
        side.known["member"], side.known["generation"] = answer.member_id, getattr(answer, "generation_id", -1)

    steps += [
        Step("join with a short session", join, same(join, "g", 1, 5, "", None, "consumer", protocols)),
        Step("join an unnamed group", join, same(join, "", 10_000, 10_000, "", None, "consumer", protocols)),
        Step("join as somebody", join, same(join, "g", 10_000, 10_000, "somebody", None, "consumer", protocols)),
        Step("join without protocols", join, same(join, "g", 10_000, 10_000, "", None, "consumer", [])),
        Step("join", join, same(join, "g", 10_000, 10_000, "", None, "consumer", protocols), (3,), take_member),
    ]
    for name, generation in (("as it is", 1), ("of another generation", 7)):
        key, m = ApiKey.SYNC_GROUP, message(ApiKey.SYNC_GROUP)

        def sync(side: Side, m: Any = m, generation: int = generation) -> Any:
            given = [m.SyncGroupRequestAssignment(side.known["member"], b"\0\0mine")]
            return m("g", generation, side.known["member"], None, "consumer", "p", given)

        steps.append(Step(f"sync {name}", key, sync))
        key = ApiKey.HEARTBEAT

        def beat(side: Side, generation: int = generation) -> Any:
            return message(ApiKey.HEARTBEAT)("g", generation, side.known["member"])

        steps.append(Step(f"heartbeat {name}", key, beat))
        steps.append(Step(f"heartbeat {name} of a stranger", key, same(key, "g", generation, "stranger")))
        key, m = ApiKey.OFFSET_COMMIT, message(ApiKey.OFFSET_COMMIT)

        def commit(side: Side, m: Any = m, generation: int = generation) -> Any:
            parts = [m.OffsetCommitRequestPartition(n, 5, -1, "meta") for n in (0, 9)]
            topic = m.OffsetCommitRequestTopic(name="t", topic_id=side.known["t"], partitions=parts)
            return m("g", generation, side.known["member"], topics=[topic])

        steps.append(Step(f"commit {name}", key, commit))
    key = ApiKey.DESCRIBE_GROUPS
    steps.append(Step("describe groups", key, same(key, ["g", "none"])))
    key = ApiKey.LIST_GROUPS
    steps.append(Step("list groups", key, same(key)))
    steps.append(Step("list empty groups", key, same(key, ["Empty"]), (4, 5)))
    key, m = ApiKey.OFFSET_FETCH, message(ApiKey.OFFSET_FETCH)
    steps.append(
        Step(
            "fetch offsets",
            key,
            same(key, group_id="g", topics=[m.OffsetFetchRequestTopic("t", [0, 1])]),
            tuple(range(1, 8)),
        )
    )

    def fetch_groups(side: Side, m: Any = m) -> Any:
        topics = [m.OffsetFetchRequestTopics(side.known["t"], "t", [0, 1])]
        return m(groups=[m.OffsetFetchRequestGroup("g", topics=topics), m.OffsetFetchRequestGroup("h", topics=None)])

    steps.append(Step("fetch offsets of groups", key, fetch_groups, (8, 9, 10)))
    key, m = ApiKey.OFFSET_DELETE, message(ApiKey.OFFSET_DELETE)
    for group in ("g", "none"):
        topics = [m.OffsetDeleteRequestTopic("t", [m.OffsetDeleteRequestPartition(0)])]
        steps.append(Step(f"delete offsets of {group}", key, same(key, group, topics)))
    key = ApiKey.DELETE_GROUPS
    steps.append(Step("delete groups", key, same(key, ["g", "none"])))
    key, m = ApiKey.LEAVE_GROUP, message(ApiKey.LEAVE_GROUP)
    steps.append(
        Step(
            "a stranger leaves",
            key,
            same(key, group_id="g", member_id="stranger", members=[m.MemberIdentity("stranger")]),
        )
    )
    steps.append(
        Step("leave", key, lambda side: message(ApiKey.LEAVE_GROUP)(group_id="g", member_id=side.known["member"]), (2,))
    )
    steps += consumer_group_steps()
    return steps


def consumer_group_steps() -> list[Step]:
    m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

    def beat(name: str, epoch: int, member: str = "m", **more: Any) -> Step:
        values = {"rebalance_timeout_ms": 10_000, "subscribed_topic_names": ["t"], "topic_partitions": [], **more}
        beats = ApiKey.CONSUMER_GROUP_HEARTBEAT
        return Step(name, beats, same(beats, "c", member, epoch, **values), (1,))

    steps = [
        beat("heartbeat of no group", 5),
        beat("join without a subscription", 0, subscribed_topic_names=None),
        beat("join without a timeout", 0, rebalance_timeout_ms=-1),
        beat("join with partitions", 0, topic_partitions=[m.TopicPartitions(bytes(16), [1])]),
        beat("join with an odd assignor", 0, server_assignor="odd"),
        beat("join with an odd expression", 0, subscribed_topic_regex="("),
        beat("join the new way", 0),
        beat("the next epoch", 1, topic_partitions=None),
        beat("an epoch that is too high", 9),
        beat("the next epoch, by a stranger", 1, member="stranger"),
    ]
    key = ApiKey.CONSUMER_GROUP_DESCRIBE
    steps.append(Step("describe a consumer group", key, same(key, ["none"])))
    key = ApiKey.DESCRIBE_GROUPS
    steps.append(Step("describe it the old way", key, same(key, ["c"])))
    steps.append(beat("leave the new way", -1))
    return steps


def later_commit() -> Step:
    """Of an offset for which a transaction is open."""
    key, m = ApiKey.OFFSET_COMMIT, message(ApiKey.OFFSET_COMMIT)
    topics = [m.OffsetCommitRequestTopic(name="t", partitions=[m.OffsetCommitRequestPartition(0, 5)])]
    return Step("a later commit without a transaction", key, same(key, "tg", topics=topics), (8,))


def transaction_steps() -> list[Step]:
    key = ApiKey.INIT_PRODUCER_ID

    def take(side: Side, answer: Any) -> None:
        if answer.error_code == 0 and answer.producer_id >= 0:
            side.known["pid"], side.known["epoch"] = answer.producer_id, answer.producer_epoch

    def mine(side: Side) -> tuple[str, int, int]:
        return "tx", side.known["pid"], side.known["epoch"]

    steps = [
        Step("a transaction's coordinator", ApiKey.FIND_COORDINATOR, same(ApiKey.FIND_COORDINATOR, "tx", 1), (1, 2, 3)),
        Step("an empty transactional id", key, same(key, "", 10_000)),
        Step("no time for transactions", key, same(key, "tx", 0)),
        Step("too much time for transactions", key, same(key, "tx", 900_001)),
        Step("init a producer", key, same(key, "tx", 60_000), (4,), take),
        Step("init it again", key, same(key, "tx", 60_000), (4,), take),
        Step("init as a stranger", key, same(key, "tx", 60_000, 424242, 3), (3, 4, 5)),
    ]
    add, a = ApiKey.ADD_PARTITIONS_TO_TXN, message(ApiKey.ADD_PARTITIONS_TO_TXN)

    def add_partitions(topic: str, epoch_shift: int = 0) -> Callable[[Side], Any]:
        def make(side: Side) -> Any:
            transactional_id, pid, epoch = mine(side)
            return a(
                v3_and_below_transactional_id=transactional_id,
                v3_and_below_producer_id=pid,
                v3_and_below_producer_epoch=epoch + epoch_shift,
                v3_and_below_topics=[a.AddPartitionsToTxnTopic(topic, [0])],
            )

        return make

    def transactional(side: Side, sequence: int = 0) -> Any:
        _, pid, epoch = mine(side)
        data = batch(b"tx", attributes=0x10, producer_id=pid, producer_epoch=epoch, base_sequence=sequence)
        return produce("x", data, transactional_id="tx")(side)

    def end(commit: bool, epoch_shift: int = 0) -> Callable[[Side], Any]:
        def make(side: Side) -> Any:
            transactional_id, pid, epoch = mine(side)
            return message(ApiKey.END_TXN)(transactional_id, pid, epoch + epoch_shift, commit)

        return make

    describe = ApiKey.DESCRIBE_TRANSACTIONS
    old = (0, 1, 2, 3)
    steps += [
        Step("commit nothing", ApiKey.END_TXN, end(True), (0, 2, 4)),
        Step("produce what was not added", ApiKey.PRODUCE, transactional, (9, 10, 11)),
        Step("add nowhere", add, add_partitions("none"), old),
        Step("add with an older epoch", add, add_partitions("x", -1), old),
        Step("add", add, add_partitions("x"), old),
        Step("produce in a transaction", ApiKey.PRODUCE, transactional, (9,)),
        Step("describe an open transaction", describe, same(describe, ["tx", "none"])),
        Step("fetch what is open", ApiKey.FETCH, fetch("x", 0, 1), (11, 12)),
        Step("end with an older epoch", ApiKey.END_TXN, end(True, -1), (1, 2, 3, 4)),
        Step("commit", ApiKey.END_TXN, end(True), (4,)),
        Step("commit again", ApiKey.END_TXN, end(True), (4,)),
        Step("abort what is committed", ApiKey.END_TXN, end(False), (4,)),
        Step("fetch what is committed", ApiKey.FETCH, fetch("x", 0, 1), (11, 12)),
        Step("produce the new way", ApiKey.PRODUCE, lambda side: transactional(side, 1), (12,)),
        Step("abort the new way", ApiKey.END_TXN, end(False), (5,), take),
        Step("abort nothing the new way", ApiKey.END_TXN, end(False), (5,), take),
        Step("commit nothing the new way", ApiKey.END_TXN, end(True), (5,)),
        Step("fetch what is aborted", ApiKey.FETCH, fetch("x", 0, 1), (11, 12)),
        Step("list transactions", ApiKey.LIST_TRANSACTIONS, same(ApiKey.LIST_TRANSACTIONS)),
        Step("list odd transactions", ApiKey.LIST_TRANSACTIONS, same(ApiKey.LIST_TRANSACTIONS, ["Odd"])),
    ]
    offsets, o = ApiKey.TXN_OFFSET_COMMIT, message(ApiKey.TXN_OFFSET_COMMIT)

    def commit_offsets(**more: Any) -> Callable[[Side], Any]:
        def make(side: Side) -> Any:
            parts = [o.TxnOffsetCommitRequestPartition(0, 3)]
            transactional_id, pid, epoch = mine(side)
            topics = [o.TxnOffsetCommitRequestTopic(name="t", partitions=parts)]
            return o(transactional_id, "tg", pid, epoch, topics=topics, **more)

        return make

    stable = ApiKey.OFFSET_FETCH
    f = message(stable)
    fetch_stable = same(stable, group_id="tg", topics=[f.OffsetFetchRequestTopic("t", [0])], require_stable=True)
    steps += [
        Step(
            "offsets of a stale member", offsets, commit_offsets(generation_id_or_member_epoch=4, member_id="m"), (3, 4)
        ),
        Step("offsets that were not added", offsets, commit_offsets(), (3, 4)),
        Step("offsets the new way", offsets, commit_offsets(), (5,)),
        Step("fetch unstable offsets", stable, fetch_stable, (7,)),
        later_commit(),
        Step("commit offsets the new way", ApiKey.END_TXN, end(True), (5,), take),
        # Answered when the commit before it has ended, in Kafka too: only then are its offsets stable.
        Step("commit no offsets the new way", ApiKey.END_TXN, end(True), (5,), take),
        Step("fetch stable offsets", stable, fetch_stable, (7,)),
    ]
    return steps


def logger_steps() -> list[Step]:
    """The levels of loggers. Only `root` has the same name in both brokers."""
    steps = []
    key, m = ApiKey.INCREMENTAL_ALTER_CONFIGS, message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    for name, logger, operation, value in (
        ("1", "root", 0, "DEBUG"),
        ("1", "root", 0, "LOUD"),
        ("1", "root", 0, "info"),
        ("1", "root", 0, None),
        ("1", "root", 1, None),
        ("1", "root", 2, "INFO"),
        ("1", "root", 3, "INFO"),
        ("1", "root", 9, "INFO"),
        ("1", "no.such", 0, "INFO"),
        ("1", "no.such", 1, None),
        ("7", "root", 0, "INFO"),
        ("x", "root", 0, "INFO"),
        ("", "root", 0, "INFO"),
    ):
        change = m.AlterConfigsResource(8, name, [m.AlterableConfig(logger, operation, value)])
        steps.append(Step(f"check level {name} {logger} {operation} {value}", key, same(key, [change], True)))
    describe, d = ApiKey.DESCRIBE_CONFIGS, message(ApiKey.DESCRIBE_CONFIGS)
    for level in ("FATAL", "WARN"):
        change = m.AlterConfigsResource(8, "1", [m.AlterableConfig("root", 0, level)])
        steps += [
            Step(f"set the level {level}", key, same(key, [change], False)),
            Step(
                f"describe the level {level}",
                describe,
                same(describe, [d.DescribeConfigsResource(8, "1", ["root"])], True),
            ),
        ]
    for name in ("7", "x", ""):
        steps.append(
            Step(
                f"describe the loggers of {name}", describe, same(describe, [d.DescribeConfigsResource(8, name, None)])
            )
        )
    return steps


def admin_steps() -> list[Step]:
    key, m = ApiKey.DESCRIBE_CONFIGS, message(ApiKey.DESCRIBE_CONFIGS)
    steps = [
        Step("describe a topic's configurations", key, same(key, [m.DescribeConfigsResource(2, "t", None)], True)),
        Step(
            "describe them with their documentation",
            key,
            same(key, [m.DescribeConfigsResource(2, "t", None)], True, True),
        ),
        Step(
            "describe the broker's configurations",
            key,
            same(key, [m.DescribeConfigsResource(4, "1", BROKER_KEYS)], True, True),
        ),
        Step("describe the brokers' defaults", key, same(key, [m.DescribeConfigsResource(4, "", None)], True, True)),
        Step("describe no topic's configurations", key, same(key, [m.DescribeConfigsResource(2, "a b", None)])),
        Step("describe no group's configurations", key, same(key, [m.DescribeConfigsResource(32, "", None)])),
        Step("describe nothing's configurations", key, same(key, [m.DescribeConfigsResource(2, "none", None)])),
        Step("describe another broker", key, same(key, [m.DescribeConfigsResource(4, "7", None)])),
        Step("describe a group's configurations", key, same(key, [m.DescribeConfigsResource(32, "g", None)], True)),
    ]
    key, m = ApiKey.INCREMENTAL_ALTER_CONFIGS, message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    for kind, name, config, operation, value in (
        (2, "t", "retention.ms", 0, "5000000"),
        (2, "t", "retention.ms", 0, "x"),
        (2, "t", "no.such", 0, "1"),
        (2, "t", "retention.ms", 2, "1"),
        (2, "t", "cleanup.policy", 2, "compact"),
        (2, "none", "retention.ms", 0, "5"),
        (2, "", "retention.ms", 0, "5"),
        (2, "a b", "retention.ms", 0, "5"),
        (2, "t", "retention.ms", 0, None),
        (4, "1", "no.such", 0, "5"),
        (4, "", "no.such", 0, "5"),
        (4, "1", "no.such", 2, "5"),
        (4, "1", "min.insync.replicas", 0, "1"),
        (4, "", "min.insync.replicas", 0, "1"),
        (4, "", "min.insync.replicas", 1, None),
        (4, "", "min.insync.replicas", 0, "0"),
        (4, "x", "log.retention.ms", 0, "5"),
        (4, "1", "node.id", 0, "5"),
        (4, "7", "log.retention.ms", 0, "5"),
        (4, "1", "log.retention.ms", 0, "x"),
        (32, "g", "consumer.session.timeout.ms", 0, "5"),
        (32, "g", "no.such", 0, "5"),
        (32, "", "consumer.session.timeout.ms", 0, "50000"),
        (99, "x", "y", 0, "z"),
    ):
        change = m.AlterConfigsResource(kind, name, [m.AlterableConfig(config, operation, value)])
        steps.append(Step(f"alter {kind} {name} {config} {operation} {value}", key, same(key, [change], True)))
    steps += logger_steps()
    key, m = ApiKey.ALTER_CONFIGS, message(ApiKey.ALTER_CONFIGS)
    for kind, name, config, value in (
        (8, "1", "root", "INFO"),
        (2, "t", "retention.ms", None),
        (2, "t", "no.such", "1"),
        (4, "1", "no.such", "1"),
        (4, "1", "node.id", "1"),
        (32, "g", "no.such", "1"),
    ):
        change = m.AlterConfigsResource(kind, name, [m.AlterableConfig(config, value)])
        steps.append(Step(f"replace {kind} {name} {config} {value}", key, same(key, [change], True)))
    key, m = ApiKey.ELECT_LEADERS, message(ApiKey.ELECT_LEADERS)
    for kind in (0, 1):
        wanted = [m.TopicPartitions("t", [0, 9]), m.TopicPartitions("none", [0])]
        steps.append(Step(f"elect leaders {kind}", key, same(key, kind, wanted)))
    key, m = ApiKey.ALTER_PARTITION_REASSIGNMENTS, message(ApiKey.ALTER_PARTITION_REASSIGNMENTS)
    parts = [(0, [1]), (1, None), (9, [1]), (0, [2]), (1, []), (0, [1, 1])]
    for number, replicas in parts:
        wanted = m.ReassignableTopic("t", [m.ReassignablePartition(number, replicas)])
        steps.append(Step(f"reassign {number} to {replicas}", key, same(key, topics=[wanted])))
    key = ApiKey.LIST_PARTITION_REASSIGNMENTS
    steps.append(Step("list reassignments", key, same(key)))
    key, m = ApiKey.ALTER_REPLICA_LOG_DIRS, message(ApiKey.ALTER_REPLICA_LOG_DIRS)
    wanted = m.AlterReplicaLogDir("/nowhere", [m.AlterReplicaLogDirTopic("t", [0])])
    steps.append(Step("move to nowhere", key, same(key, [wanted])))
    key, m = ApiKey.DESCRIBE_QUORUM, message(ApiKey.DESCRIBE_QUORUM)
    steps.append(Step("describe no quorum", key, same(key, [m.TopicData("t", [m.PartitionData(0)])])))
    key, m = ApiKey.UPDATE_FEATURES, message(ApiKey.UPDATE_FEATURES)
    for feature, level, kind in (
        ("transaction.version", 2, 1),
        ("transaction.version", 1, 1),
        ("transaction.version", 1, 2),
        ("transaction.version", 9, 1),
        ("no.such", 1, 1),
    ):
        update = m.FeatureUpdateKey(feature, level, kind)
        steps.append(Step(f"{feature} to {level} by {kind}", key, same(key, 1000, [update], True), (1, 2)))
    key, m = ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, message(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS)
    steps.append(Step("describe nobody", key, same(key, [m.UserName("nobody")])))
    key = ApiKey.DESCRIBE_ACLS
    steps.append(Step("describe entries", key, same(key, 1, None, 1, None, None, 1, 1)))
    key = ApiKey.LIST_CONFIG_RESOURCES
    steps.append(Step("list odd resources", key, same(key, [77]), (1,)))
    key = ApiKey.SASL_HANDSHAKE
    steps.append(Step("a handshake without SASL", key, same(key, "PLAIN")))
    return steps


def quota_steps() -> list[Step]:
    key, m = ApiKey.ALTER_CLIENT_QUOTAS, message(ApiKey.ALTER_CLIENT_QUOTAS)
    describe, d = ApiKey.DESCRIBE_CLIENT_QUOTAS, message(ApiKey.DESCRIBE_CLIENT_QUOTAS)
    steps = [Step("describe no quotas", describe, same(describe))]
    bytes_key, time_key, rate_key = "producer_byte_rate", "request_percentage", "connection_creation_rate"
    for entity, change in (
        ([("user", "u")], (bytes_key, 1e6, False)),
        ([("user", "u")], (time_key, 12.5, False)),
        ([("user", "u"), ("client-id", None)], (bytes_key, 5.0, False)),
        ([("client-id", "c")], ("controller_mutation_rate", 2.5, False)),
        ([("user", None)], (bytes_key, 7e12, False)),  # it is for all that comes later, too
        ([("user", "u")], (bytes_key, 1.5, False)),
        ([("user", "u")], (bytes_key, 0.0, False)),
        ([("user", "u")], (bytes_key, -1.0, False)),
        ([("user", "u")], ("speed", 1.0, False)),
        ([("user", "u")], ("connection_creation_rate", 1.0, False)),
        ([("group", "u")], (bytes_key, 1.0, False)),
        ([], (bytes_key, 1.0, False)),
        ([("user", "u")], (time_key, 0.0, True)),
        ([("user", "u")], ("speed", 0.0, True)),
        ([("user", "nobody")], (bytes_key, 0.0, True)),
        ([("ip", "10.0.0.1")], (rate_key, 5.0, False)),
        ([("ip", None)], (rate_key, 1e6, False)),
        ([("ip", "10.0.0.2")], (bytes_key, 5.0, False)),
        ([("ip", "10.0.0.2")], (rate_key, 1.5, False)),
        ([("ip", "10.0.0.2")], (rate_key, 0.0, False)),
        ([("ip", "10.0.0.2")], (rate_key, 3e9, False)),
        ([("ip", "10.0.0.256")], (rate_key, 5.0, False)),
        ([("ip", "")], (rate_key, 5.0, False)),
        ([("ip", "10.0.0.1"), ("user", "u")], (rate_key, 5.0, False)),
        ([("ip", "10.0.0.3")], (rate_key, 0.0, True)),
        ([("ip", "::1")], (rate_key, 1e6, False)),
        ([("ip", "10.0.0.1")], (rate_key, 0.0, True)),
    ):
        entry = m.EntryData([m.EntityData(*part) for part in entity], [m.OpData(*change)])
        steps.append(Step(f"set {change} of {entity}", key, same(key, [entry], False)))
    twice = m.EntryData([m.EntityData("user", "w")], [m.OpData(bytes_key, 1.0), m.OpData(bytes_key, 2.0)])
    steps.append(Step("set a quota twice", key, same(key, [twice], False)))
    for components, is_strict in (
        ([("user", 0, "u")], True),
        ([("user", 0, "u"), ("client-id", 1, None)], True),
        ([("user", 1, None)], True),
        ([("client-id", 2, None)], True),
        ([("user", 0, "nobody")], False),
        ([("user", 0, None)], False),
        ([("user", 1, "u")], False),
        ([("user", 2, "u")], False),
        ([("user", 7, None)], False),
        ([("", 0, "u")], False),
        ([("group", 0, "u")], False),
        ([("user", 0, "u"), ("user", 0, "u")], False),
        ([("user", 0, "u"), ("ip", 1, None)], False),
        ([("ip", 0, "::1")], False),
        ([("ip", 1, None)], True),
        ([("ip", 2, None)], True),
    ):
        wanted = [d.ComponentData(*component) for component in components]
        steps.append(Step(f"quotas of {components}", describe, same(describe, wanted, is_strict)))
    return steps


def token_steps() -> list[Step]:
    """In the clear all of them are refused; `token_walk` has what users ask."""
    create, renew, expire, describe = (
        ApiKey.CREATE_DELEGATION_TOKEN,
        ApiKey.RENEW_DELEGATION_TOKEN,
        ApiKey.EXPIRE_DELEGATION_TOKEN,
        ApiKey.DESCRIBE_DELEGATION_TOKEN,
    )
    return [
        Step("make a token", create, same(create)),
        Step("make another user's token", create, same(create, "User", "u"), (3,)),
        Step("renew a token", renew, same(renew, b"x", 5)),
        Step("end a token", expire, same(expire, b"x", 5)),
        Step("describe tokens", describe, same(describe, None)),
    ]
