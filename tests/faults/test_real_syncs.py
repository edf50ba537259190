"""What the kernel saw: a real broker under strace, through a kill, a recovery and clean stops, breaks no rule of durability."""

import shutil
from pathlib import Path

import pytest

from tests.syncs.load import Load
from tests.syncs.traced import TracedBroker

SETTINGS = (
    "headwater.journal.file.bytes=262144",
    "log.flush.offset.checkpoint.interval.ms=300",
    "log.cleaner.backoff.ms=100",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=2",
    "transaction.state.log.num.partitions=2",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
)
ANSWERS = [
    "Produce",
    "Fetch",
    "CreateTopics",
    "DeleteTopics",
    "CreatePartitions",
    "DeleteRecords",
    "OffsetCommit",
    "TxnOffsetCommit",
    "DeleteGroups",
    "InitProducerId",
    "AddPartitionsToTxn",
    "EndTxn",
    "IncrementalAlterConfigs",
    "CreateAcls",
    "AlterUserScramCredentials",
]
SEEN = ("renames", "recovery points", "journal files written over", "batches written over", "removed segments", "sums")


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: make interop-tools")
def test_nothing_is_relied_on_before_it_is_on_disk(tmp_path: Path) -> None:
    broker = TracedBroker(tmp_path, *SETTINGS)
    checker = broker.checker
    try:
        for life, is_killed in enumerate((True, False, False)):
            broker.start()
            Load(broker.address, broker.data, life).run()
            if is_killed:
                broker.kill()
            else:
                broker.stop()
            assert checker.problems[:20] == [], f"{len(checker.problems)} problems in the life {life}"
    finally:
        broker.abandon()
    print(broker.calls, "calls", dict(checker.answers), dict(checker.seen))
    assert [name for name in ANSWERS if not checker.answers[name]] == []  # each of them was there to be checked
    assert [name for name in SEEN if not checker.seen[name]] == []
    assert checker.seen["clean stops"] == 2
