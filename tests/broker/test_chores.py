"""What the broker does by itself continues, whatever fails once."""

import errno
from random import Random

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from tests.broker.harness import Harness
from tests.storage.test_checkpoint import Fault

CREATE_T = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic("t", 1, 1)])
DELETE_T = DeleteTopicsRequest(topic_names=["t"])


def delete(broker: Harness, name: str) -> int:
    answer = broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]))
    return int(answer.responses[0].error_code)


@pytest.mark.parametrize("error", [ValueError("broken"), OSError(errno.EIO, "broken")])
def test_a_chore_that_raises_comes_again(error: Exception) -> None:
    broker = Harness()
    calls = 0

    def chore() -> None:
        nonlocal calls
        calls += 1
        raise error

    broker.core.repeat(1000, chore)
    for n in range(1, 4):
        broker.clock.advance(1000)
        if isinstance(error, OSError):
            broker.core.timers.run_due()
        else:
            with pytest.raises(ExceptionGroup):
                broker.core.timers.run_due()
        assert calls == n


def test_one_that_waits_for_the_journal_keeps_no_other_from_its_answer() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.hold_syncs = True
    answers = []

    def fail() -> None:
        raise ValueError("broken")

    group = broker.core.topics.create("u", 1, {})
    broker.core.when_durable(group, fail)
    broker.core.when_durable(group, lambda: answers.append("u"))
    with pytest.raises(ExceptionGroup):
        broker.sync()
    assert answers == ["u"]


class TestDeletedTopics:
    """A deletion that the disk gets in the way of."""

    @pytest.mark.parametrize("call", ["rename", "remove"])
    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
    def test_is_answered_and_its_old_records_never_come_back(
        self, call: str, number: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"old", b"old")
        broker.core.store.checkpoint()
        broker.files.fault = lambda found, path: number if found == call and "t-" in path else None
        assert delete(broker, "t") == 0
        assert "t-" in caplog.text
        broker.files.fault = None
        broker.create_topic("t")
        assert broker.produce("t", b"new").base_offset == 0
        assert [r.value for r in broker.read_all("t")] == [b"new"]
        broker.kill()
        assert [r.value for r in broker.read_all("t")] == [b"new"]
        assert not [n for n in broker.files.list_directory("data") if n.endswith(("-delete", "-stray"))]

    def test_a_topic_is_refused_while_the_directory_of_an_old_one_cannot_be_moved(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"old")
        broker.files.fault = Fault("rename", "data/t-0", errno.EIO)
        assert delete(broker, "t") == 0
        result = broker.call(ApiKey.CREATE_TOPICS, 7, CREATE_T).topics[0]
        assert result.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert broker.produce("t", b"new").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        broker.files.fault = None
        broker.create_topic("t")
        assert broker.produce("t", b"new").base_offset == 0
        assert [r.value for r in broker.read_all("t")] == [b"new"]

    def test_after_a_restart_too(self) -> None:
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"old")
        broker.files.fault = Fault("rename", "data/t-0", errno.EIO)
        assert delete(broker, "t") == 0
        broker.files.fault = None
        broker.kill()
        broker.create_topic("t")
        assert broker.produce("t", b"new").base_offset == 0
        assert [r.value for r in broker.read_all("t")] == [b"new"]

    def test_the_data_goes_only_when_the_deletion_is_durable(self) -> None:
        """M21: until then a crash must bring the topic back, with its records."""
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"1")
        broker.core.store.checkpoint()
        broker.hold_syncs = True
        pending = broker.send(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["t"]))
        assert not pending.is_done
        assert broker.files.exists("data/t-0/00000000000000000000.log")
        broker.sync()
        assert pending.message.responses[0].error_code == 0
        assert not broker.files.exists("data/t-0")

    def test_one_of_the_same_name_is_created_when_the_deletion_is_durable(self) -> None:
        """Until then the directory is the old one's. Its records were removed with the old ones."""
        broker = Harness()
        broker.create_topic("t")
        broker.produce("t", b"old")
        broker.hold_syncs = True
        deleted = broker.send(ApiKey.DELETE_TOPICS, 5, DELETE_T)
        created = broker.send(ApiKey.CREATE_TOPICS, 7, CREATE_T)
        metadata = MetadataRequest([MetadataRequest.MetadataRequestTopic(name="t")], allow_auto_topic_creation=True)
        described = broker.send(ApiKey.METADATA, 12, metadata).message.topics[0]
        assert described.error_code == ErrorCode.LEADER_NOT_AVAILABLE
        assert not deleted.is_done
        broker.hold_syncs = False
        broker.sync()
        assert created.message.topics[0].error_code == 0
        assert broker.produce("t", b"new").error_code == 0
        assert [r.value for r in broker.read_all("t")] == [b"new"]
        broker.restart()
        assert [r.value for r in broker.read_all("t")] == [b"new"]

    @pytest.mark.parametrize("seed", range(10))
    def test_a_power_cut_does_not_bring_the_directory_back_under_a_new_topic(self, seed: int) -> None:
        """It might come back without the id of its topic, and would be taken for the new one's."""
        files = MemoryFiles(crashable=True)
        broker = Harness(files)
        broker.create_topic("t")
        broker.produce("t", b"old")
        files.sync_directory("data")
        assert delete(broker, "t") == 0
        broker.create_topic("t")
        broker.core.store.abandon()
        files.crash(Random(seed))
        assert "t-0" not in files.list_directory("data")
        broker.core = broker.open()
        broker.produce("t", b"new")
        assert [r.value for r in broker.read_all("t")] == [b"new"]


def test_retention_leaves_a_log_that_cannot_be_read_and_does_the_others(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness()
    for name in ("broken", "other"):
        broker.create_topic(name, retention_ms="1000", segment_bytes=str(1 << 20))
        for _ in range(5):
            broker.produce(name, bytes(600_000))
    broker.restart()
    for name in ("broken", "other"):
        broker.core.partitions.log(broker.core.metadata.topics[name], 0)
    broker.files.fault = lambda call, path: errno.EIO if "broken-0" in path else None
    broker.clock.advance(10_000)
    broker.core.apply_retention()
    assert "data/broken-0: retention skips this log" in caplog.text
    assert broker.core.partitions.log(broker.core.metadata.topics["other"], 0).start_offset == 5
    broker.files.fault = None
    broker.core.apply_retention()
    assert broker.core.partitions.log(broker.core.metadata.topics["broken"], 0).start_offset == 5
