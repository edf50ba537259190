"""Damage in the data directory: it is named, it is not served, and nobody's data is removed for it."""

import errno
import logging
from collections.abc import Iterator

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.storage.checkpoints import PARTITION_METADATA, read_topic_id
from headwater.storage.errors import FormatError, StorageError
from tests.broker.harness import Harness
from tests.storage.times import max_timestamp

METADATA_LOG = "data/__cluster_metadata-0/00000000000000000000.log"


def commit_offset(broker: Harness) -> None:
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, 1)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])
    broker.call(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest("group", topics=[topic]))


def delete_topic(broker: Harness, name: str) -> None:
    answer = broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]))
    assert answer.responses[0].error_code == 0


def contents(files: MemoryFiles, directory: str) -> dict[str, bytes]:
    return {name: read_file(files, f"{directory}/{name}") for name in files.list_directory(directory)}


def written_broker(*, clean: bool = True) -> Harness:
    """A broker that has been stopped, with a topic, a record and a group's offset."""
    broker = Harness(pairs={"offsets.topic.num.partitions": 1})
    broker.create_topic("orders")
    broker.produce("orders", b"1")
    commit_offset(broker)
    broker.core.close() if clean else broker.core.store.abandon()
    return broker


def write(files: MemoryFiles, path: str, content: bytes) -> None:
    file = files.open(path, create=True)
    file.truncate(0)
    file.write([content], 0)


def flip(files: MemoryFiles, path: str, position: int, bit: int = 1) -> None:
    content = bytearray(read_file(files, path))
    content[position] ^= bit
    write(files, path, bytes(content))


def tree(files: MemoryFiles, path: str = "data") -> dict[str, bytes]:
    """All logs below a directory, with their content."""

    def entries(path: str) -> Iterator[tuple[str, bytes]]:
        for name in files.list_directory(path):
            try:
                yield f"{path}/{name}", read_file(files, f"{path}/{name}")
            except FileNotFoundError:
                yield from entries(f"{path}/{name}")

    return {path: content for path, content in entries(path) if path.endswith(".log")}


class TestStateTopics:
    """Metadata and transactions decide what is kept: the broker does not start on damaged ones."""

    def test_any_flipped_bit_stops_the_start_with_a_name_and_an_offset(self) -> None:
        broker, log = written_broker(), METADATA_LOG
        size = len(read_file(broker.files, log))
        for position in range(size):
            if not decides_something(broker.files, log, position):
                continue
            flip(broker.files, log, position)
            before = tree(broker.files)
            try:
                broker.open().store.abandon()
            except StorageError as error:
                assert log.rpartition("/")[0] in str(error)
                assert "\n" not in str(error)
            else:
                raise AssertionError(position)
            finally:
                broker.files.locks.clear()
            after = tree(broker.files)
            assert {path: after[path] for path in before} == before
            flip(broker.files, log, position)
            assert broker.files.exists("data/.kafka_cleanshutdown")
        assert "orders" in broker.open().metadata.topics

    @pytest.mark.parametrize("damage", ["flipped", "missing"])
    def test_groups_whose_log_is_damaged_have_no_coordinator(
        self, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = written_broker()
        log = "data/__consumer_offsets-0/00000000000000000000.log"
        broker.core = broker.open()
        broker.core.partitions.log(broker.core.metadata.topics["__consumer_offsets"], 0).roll()
        commit_offset(broker)
        broker.core.close()
        if damage == "missing":
            broker.files.remove(log)
        else:
            flip(broker.files, log, 80)
        for _ in range(2):
            broker.core = broker.open()
            find = FindCoordinatorRequest(key_type=0, coordinator_keys=["group"])
            (found,) = broker.call(ApiKey.FIND_COORDINATOR, 4, find).coordinators
            assert found.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
            wanted = OffsetFetchRequest.OffsetFetchRequestTopic("orders", [0])
            answer = broker.call(ApiKey.OFFSET_FETCH, 7, OffsetFetchRequest(group_id="group", topics=[wanted]))
            assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
            partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, 9)
            topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])
            committed = broker.call(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest("group", topics=[topic]))
            assert committed.topics[0].partitions[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
            assert [r.value for r in broker.read_all("orders")] == [b"1"]
            assert "Groups that can be read there: group" in caplog.text
            broker.core.close()

    @pytest.mark.parametrize("clean", [True, False])
    def test_metadata_that_is_cut_at_any_length(self, clean: bool) -> None:
        broker = written_broker()
        whole = read_file(broker.files, METADATA_LOG)
        before = tree(broker.files)
        if not clean:
            broker.files.remove("data/.kafka_cleanshutdown")
        for size in range(len(whole)):
            write(broker.files, METADATA_LOG, whole[:size])
            with pytest.raises(StorageError, match="__cluster_metadata-0"):
                broker.open()
            assert tree(broker.files).keys() == before.keys()
            assert broker.files.exists("data/.kafka_cleanshutdown") == clean
        write(broker.files, METADATA_LOG, whole)
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("orders")] == [b"1"]

    @pytest.mark.parametrize("with_checkpoint", [True, False])
    def test_metadata_that_is_gone(self, with_checkpoint: bool) -> None:
        broker = written_broker()
        for name in broker.files.list_directory("data/__cluster_metadata-0"):
            broker.files.remove(f"data/__cluster_metadata-0/{name}")
        broker.files.remove("data/__cluster_metadata-0")
        if not with_checkpoint:
            broker.files.remove("data/recovery-point-by-topic-id-checkpoint")
        before = tree(broker.files)
        with pytest.raises(StorageError, match="__cluster_metadata-0"):
            broker.open()
        assert tree(broker.files) == before


def decides_something(files: MemoryFiles, log: str, position: int) -> bool:
    """Whether a position in a log of whole batches is not in a leader epoch, which no CRC covers and nothing is decided by."""
    content, at = read_file(files, log), 0
    while not 0 <= position - at < (size := 12 + int.from_bytes(content[at + 8 : at + 12], "big")):
        at += size
    return not 12 <= position - at < 16


class TestPartitionMetadata:
    @pytest.mark.parametrize("name", ["orders-0", "__consumer_offsets-0", "__cluster_metadata-0"])
    @pytest.mark.parametrize("is_summed", [True, False])
    def test_any_flipped_bit_leaves_the_log_in_use(self, name: str, is_summed: bool) -> None:
        broker = written_broker()
        path = f"data/{name}/{PARTITION_METADATA}"
        whole = read_file(broker.files, path)
        whole = whole if is_summed else whole[: whole.rindex(b"\n")]
        for position in range(len(whole)):
            for bit in (1, 4, 32):
                write(broker.files, path, whole)
                flip(broker.files, path, position, bit)
                broker.core = broker.open()
                assert [r.value for r in broker.read_all("orders")] == [b"1"], (position, bit)
                assert broker.core.groups.offsets.groups.keys() == {"group"}
                broker.core.close()

    @pytest.mark.parametrize("content", [None, b"", b"version: 0\n", b"\xff\xff"])
    def test_a_missing_or_torn_file_is_written_again(self, content: bytes | None) -> None:
        broker = written_broker()
        path = f"data/orders-0/{PARTITION_METADATA}"
        broker.files.remove(path)
        if content is not None:
            write(broker.files, path, content)
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("orders")] == [b"1"]
        topic_id = broker.core.metadata.topics["orders"].topic_id
        assert read_topic_id(broker.files, "data/orders-0") == (topic_id, True)


class TestStrays:
    def test_a_log_that_the_metadata_does_not_know_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        broker, other = written_broker(), written_broker()
        for name in other.files.list_directory("data/orders-0"):
            broker.files.make_directory("data/unknown-0")
            write(broker.files, f"data/unknown-0/{name}", read_file(other.files, f"data/orders-0/{name}"))
        with caplog.at_level(logging.WARNING):
            broker.core = broker.open()
        (stray,) = [name for name in broker.files.list_directory("data") if name.endswith("-stray")]
        assert stray.startswith("unknown-0.")
        assert "data/unknown-0 is a stray log" in caplog.text
        assert stray in caplog.text
        assert broker.files.list_directory(f"data/{stray}") == other.files.list_directory("data/orders-0")
        broker.restart()
        assert broker.files.exists(f"data/{stray}")

    @pytest.mark.parametrize(
        ("content", "is_kept"),
        [
            ({}, False),
            ({f"{0:020d}.log": b"", "partition.metadata": b"", f"{0:020d}.index": b""}, False),
            ({f"{0:020d}.log": b"x", "partition.metadata": b""}, True),
            ({f"{0:020d}.log": b"", "partition.metadata": b"", f"{0:020d}.timeindex": b"x"}, True),
            ({f"{0:020d}.log": b"", "notes": b""}, True),
            ({f"{0:020d}.log": b"", ".cleaning": b""}, True),
        ],
    )
    def test_an_unknown_log_of_empty_files_is_removed(self, content: dict[str, bytes], is_kept: bool) -> None:
        """A power cut leaves the names of what was never synced: here of a topic that was deleted soon after."""
        broker = written_broker()
        broker.files.make_directory("data/unknown-0")
        for name, data in content.items():
            write(broker.files, f"data/unknown-0/{name}", data)
        broker.core = broker.open()
        left = [name for name in broker.files.list_directory("data") if "unknown" in name]
        if is_kept:
            (stray,) = left
            assert contents(broker.files, f"data/{stray}") == content
        else:
            assert left == ([] if content else ["unknown-0"])  # an empty directory is nobody's

    def test_another_topics_log_under_a_topics_name_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        """Two directories were swapped by hand."""
        broker = written_broker()
        broker.core = broker.open()
        broker.create_topic("other")
        broker.produce("other", b"2")
        broker.core.close()
        broker.files.rename("data/orders-0", "data/x")
        broker.files.rename("data/other-0", "data/orders-0")
        broker.files.rename("data/x", "data/other-0")
        before = sorted(tree(broker.files).values())
        broker.core = broker.open()
        broker.core.partitions.find(broker.core.metadata.topics["orders"], 0)
        assert "belongs to another topic" in caplog.text
        assert sorted(tree(broker.files).values()) == before

    def test_what_is_not_a_log_is_left_alone(self) -> None:
        files = MemoryFiles()
        kept = (
            "photos-delete/1.log",
            "backup-of-orders-1/a.log",
            "3.1f-x-delete/b.log",
            "2024-7/c.log",
            "report-3.log",
        )
        for path in kept:
            files.make_directory(f"data/{path.rpartition('/')[0]}")
            write(files, f"data/{path}", b"mine")
        write(files, "data/notes-2024", b"mine")
        broker = Harness(files)
        broker.create_topic("backup-of-orders", 2)
        assert broker.produce("backup-of-orders", b"1", partition=0).error_code == 0
        with pytest.raises(StorageError, match="backup-of-orders-1 is not a log of this broker"):
            broker.core.partitions.log(broker.core.metadata.topics["backup-of-orders"], 1)
        broker.restart()
        delete_topic(broker, "backup-of-orders")
        broker.restart()
        for path in kept:
            assert read_file(files, f"data/{path}") == b"mine"
        assert read_file(files, "data/notes-2024") == b"mine"

    def test_logs_without_their_directorys_own_file_are_not_a_new_directory(self) -> None:
        broker = written_broker()
        for name in ("meta.properties", "meta.properties.copy"):
            broker.files.remove(f"data/{name}")
        before = tree(broker.files)
        with pytest.raises(FormatError, match="has logs"):
            broker.open()
        assert tree(broker.files) == before

    def test_a_deleted_topics_log_is_removed_though_a_crash_came_before(self) -> None:
        """The deletion is on record, and the directory bears the topic's id: that is not a stray."""
        broker = written_broker(clean=False)
        broker.core = broker.open()
        kept = contents(broker.files, "data/orders-0")
        delete_topic(broker, "orders")
        broker.core.store.abandon()
        broker.files.make_directory("data/orders-0")
        for name, content in kept.items():
            write(broker.files, f"data/orders-0/{name}", content)
        broker.core = broker.open()
        assert not [n for n in broker.files.list_directory("data") if n.startswith("orders-0") or n.endswith("-delete")]

    def test_a_deleted_topics_log_is_not_taken_for_the_new_ones(self) -> None:
        broker = written_broker(clean=False)
        broker.core = broker.open()
        kept = contents(broker.files, "data/orders-0")
        delete_topic(broker, "orders")
        broker.create_topic("orders")
        broker.core.store.abandon()
        broker.files.make_directory("data/orders-0")
        for name, content in kept.items():
            write(broker.files, f"data/orders-0/{name}", content)
        broker.core = broker.open()
        assert broker.read_all("orders") == []
        assert not [n for n in broker.files.list_directory("data") if n.endswith(("-stray", "-delete"))]

    def test_files_of_others_in_a_deleted_topics_directory_are_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = written_broker()
        broker.core = broker.open()
        write(broker.files, "data/orders-0/notes.txt", b"mine")
        delete_topic(broker, "orders")
        (left,) = [name for name in broker.files.list_directory("data") if name.endswith("-delete")]
        assert broker.files.list_directory(f"data/{left}") == ["notes.txt"]
        assert "notes.txt" in caplog.text
        broker.restart()
        assert broker.files.list_directory(f"data/{left}") == ["notes.txt"]

    @pytest.mark.parametrize("call", ["list", "rename", "remove"])
    def test_what_cannot_be_looked_at_or_moved_stops_nothing(self, call: str, caplog: pytest.LogCaptureFixture) -> None:
        broker, other = written_broker(), written_broker()
        for directory in ("unknown-0", "3.1f-x-delete"):
            broker.files.make_directory(f"data/{directory}")
            for name in other.files.list_directory("data/orders-0"):
                write(broker.files, f"data/{directory}/{name}", read_file(other.files, f"data/orders-0/{name}"))
        write(broker.files, f"data/3.1f-x-delete/{PARTITION_METADATA}", b"")
        broker.files.fault = lambda found, path: (
            errno.EACCES if found == call and ("unknown-0" in path or "-delete" in path) else None
        )
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("orders")] == [b"1"]
        assert "Permission denied" in caplog.text
        broker.files.fault = None
        kept = [path for path in tree(broker.files) if "unknown-0" in path]
        assert len(kept) == 1


class TestOneDamagedLog:
    """It stops nothing but itself."""

    LOG = "data/orders-0/00000000000000000000.log"

    def two_topics(self) -> Harness:
        """A broker that was killed: of three records per topic a checkpoint has the first, and the journal the last."""
        broker = Harness()
        for name in ("orders", "other"):
            broker.create_topic(name)
            broker.produce(name, b"1")
        broker.core.store.checkpoint()
        for name in ("orders", "other"):
            broker.produce(name, b"2")
        broker.core.store.journal.retire_all()
        broker.core.store.journal.start()
        for name in ("orders", "other"):
            broker.produce(name, b"3")
        broker.core.store.abandon()
        return broker

    def break_log(self, broker: Harness) -> bytes:
        """Cuts off what no checkpoint has synced, so that the journal does not follow; returns the log as it was."""
        whole = read_file(broker.files, self.LOG)
        write(broker.files, self.LOG, whole[: len(whole) // 3])
        return whole

    def test_records_that_are_gone_cost_their_own_offsets_only(self) -> None:
        broker = self.two_topics()
        write(broker.files, self.LOG, read_file(broker.files, self.LOG)[:20])  # not even the first is whole
        broker.core.store.journal.files[0].file.write([bytes(20)], 0)  # and the journal has nothing
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("other")] == [b"1", b"2", b"3"]
        assert broker.fetch("orders").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert broker.produce("orders", b"x").base_offset == 1
        assert broker.fetch("orders", 1).records
        broker.restart()
        assert broker.fetch("orders").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert broker.fetch("orders", 1).records

    def test_all_else_is_served_after_an_unclean_stop(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = self.two_topics()
        whole = self.break_log(broker)
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("other")] == [b"1", b"2", b"3"]
        assert broker.produce("orders", b"x").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert broker.fetch("orders").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert broker.produce("other", b"4").error_code == 0
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert "orders-0" in line
        # What the journal had for it comes into it when it has been mended.
        broker.core.store.checkpoint()
        broker.restart()
        broker.core.close()
        write(broker.files, self.LOG, whole[: 2 * len(whole) // 3])
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("orders")] == [b"1", b"2", b"3"]
        assert broker.produce("orders", b"4").base_offset == 3
        broker.kill()
        assert [r.value for r in broker.read_all("orders")] == [b"1", b"2", b"3", b"4"]
        broker.restart()
        assert [r.value for r in broker.read_all("orders")] == [b"1", b"2", b"3", b"4"]
        broker.restart()
        broker.read_all("orders")
        assert not [name for name in broker.files.list_directory("data/journal") if name.endswith(".rescued")]

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.EIO])
    def test_files_that_cannot_be_opened_stop_nothing_else(self, number: int) -> None:
        broker = self.two_topics()
        broker.files.fault = lambda call, path: number if call == "open" and path == self.LOG else None
        broker.core = broker.open()
        assert [r.value for r in broker.read_all("other")] == [b"1", b"2", b"3"]
        assert broker.produce("orders", b"x").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        broker.files.fault = None
        broker.restart()
        assert [r.value for r in broker.read_all("orders")] == [b"1", b"2", b"3"]

    def test_what_was_rescued_and_is_removed_by_retention_later_stops_nothing(self) -> None:
        broker = self.two_topics()
        broker.files.fault = lambda call, path: errno.EIO if call == "open" and path == self.LOG else None
        broker.core = broker.open()
        broker.files.fault = None
        broker.kill()
        assert [r.value for r in broker.read_all("orders")] == [b"1", b"2", b"3"]
        log = broker.core.partitions.log(broker.core.metadata.topics["orders"], 0)
        log.roll()
        broker.produce("orders", b"4")
        broker.core.store.checkpoint()
        assert broker.core.store.advance_start({log: 3}) == 1
        broker.kill()
        assert [r.value for r in broker.read_all("orders")] == [b"4"]

    def test_what_was_rescued_goes_with_its_topic(self) -> None:
        broker = self.two_topics()
        self.break_log(broker)
        broker.core = broker.open()
        assert [name for name in broker.files.list_directory("data/journal") if name.endswith(".rescued")]
        delete_topic(broker, "orders")
        assert not [name for name in broker.files.list_directory("data/journal") if name.endswith(".rescued")]

    def test_retention_continues_for_the_others(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = Harness()
        for name in ("orders", "other"):
            broker.create_topic(name, retention_ms="1000", segment_bytes=str(1 << 20))
            for _ in range(5):
                broker.produce(name, bytes(600_000))
        for topic in broker.core.metadata.topics.values():  # their first segments' indexes leave the memory
            max_timestamp(broker.core.partitions.log(topic, 0))
        flip(broker.files, self.LOG, 8, 0x40)  # the length of a batch in a sealed segment
        for suffix in (".index", ".timeindex"):
            broker.files.remove(self.LOG.replace(".log", suffix))
        topic = broker.core.metadata.topics["other"]
        for end in (5, 6):  # the chore comes again
            broker.advance(broker.core.settings.log_retention_check_interval_ms + 10_000)
            assert broker.core.partitions.log(topic, 0).start_offset == end
            broker.produce("other", b"1")
        assert f"{self.LOG} is damaged at byte 0" in caplog.text
        assert broker.core.partitions.log(broker.core.metadata.topics["orders"], 0).start_offset == 0
        assert broker.files.exists(self.LOG)


class TestJournal:
    """Bit rot in the journal, after a power cut that has left nothing of the logs themselves."""

    COUNT = 6
    FILE = "data/journal/0.journal"

    def killed_broker(self, *, other: bool = False) -> Harness:
        broker = Harness()
        broker.create_topic("orders")
        broker.create_topic("other")
        broker.core.store.checkpoint()
        for n in range(self.COUNT):
            broker.produce("orders", b"%d" % n)
        if other:
            broker.produce("other", b"x")
        broker.core.store.abandon()
        for name in broker.files.list_directory("data/orders-0"):
            broker.files.remove(f"data/orders-0/{name}")
        broker.files.remove("data/orders-0")
        return broker

    def values(self, broker: Harness) -> list[bytes | None]:
        return [record.value for record in broker.read_all("orders")]

    def batch_at(self, broker: Harness, n: int) -> int:
        """Where the value of the record number `n` is in the journal."""
        return read_file(broker.files, self.FILE).index(b"\x02k\x02%d" % n)

    def test_one_flipped_bit_costs_one_record_and_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        for n in range(self.COUNT - 1):
            broker = self.killed_broker()
            flip(broker.files, self.FILE, self.batch_at(broker, n))
            caplog.clear()
            broker.core = broker.open()
            expected = [b"%d" % other for other in range(self.COUNT) if other != n]
            assert self.values(broker) == expected
            errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
            assert any(
                self.FILE in line and "position" in line and f"orders-0 from offset {n}" in line for line in errors
            )
            assert any(f"offsets {n} to {n} are lost" in line for line in errors)
            for again in (broker.restart, broker.kill):
                assert broker.produce("orders", b"new").error_code == 0
                again()
            assert self.values(broker) == [*expected, b"new", b"new"]
            assert broker.core.partitions.log(broker.core.metadata.topics["orders"], 0).end_offset == self.COUNT + 2

    def test_the_offset_of_a_lost_record_is_never_used_again(self) -> None:
        """The last record of its partition is lost; a later one of another partition proves that it was acknowledged."""
        broker = self.killed_broker(other=True)
        flip(broker.files, self.FILE, self.batch_at(broker, self.COUNT - 1))
        broker.core = broker.open()
        log = broker.core.partitions.log(broker.core.metadata.topics["orders"], 0)
        assert log.end_offset == self.COUNT
        for _ in range(2):
            broker.restart()
        assert broker.produce("orders", b"new").base_offset == self.COUNT
        assert self.values(broker) == [*(b"%d" % n for n in range(self.COUNT - 1)), b"new"]

    def test_a_damaged_header_costs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = self.killed_broker()
        flip(broker.files, self.FILE, 3)
        broker.core = broker.open()
        assert self.values(broker) == [b"%d" % n for n in range(self.COUNT)]
        assert f"{self.FILE} is damaged at position 0" in caplog.text

    def test_damage_where_the_logs_have_it_all_is_named_and_costs_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = Harness()
        broker.create_topic("orders")
        for n in range(self.COUNT):
            broker.produce("orders", b"%d" % n)
        broker.core.store.abandon()
        flip(broker.files, self.FILE, self.batch_at(broker, 2))
        broker.core = broker.open()
        assert self.values(broker) == [b"%d" % n for n in range(self.COUNT)]
        assert "which the log has" in caplog.text

    def test_lost_metadata_stops_the_start(self) -> None:
        broker = Harness()
        broker.create_topic("orders")
        broker.produce("orders", b"1")
        broker.core.store.abandon()
        for name in broker.files.list_directory("data/__cluster_metadata-0"):
            broker.files.remove(f"data/__cluster_metadata-0/{name}")
        flip(broker.files, self.FILE, read_file(broker.files, self.FILE).index(b"orders"))
        with pytest.raises(StorageError, match="position"):
            broker.open()

    def test_journal_files_that_are_gone_are_named(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = self.killed_broker()
        broker.files.remove(self.FILE)
        broker.core = broker.open()
        assert f"{self.FILE} is missing" in caplog.text
        assert "1.journal is missing" not in caplog.text

    def test_what_follows_a_journal_file_that_is_gone_is_recovered(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = Harness()
        broker.create_topic("orders")
        broker.core.store.checkpoint()
        broker.disk.holds_checkpoints = True  # none ends before the kill
        for n in range(self.COUNT):  # some in one file, some in the other
            broker.produce("orders", b"%d" % n + bytes(300_000))
        assert broker.core.store.journal.has_full_file
        broker.core.store.abandon()
        for name in broker.files.list_directory("data/orders-0"):
            broker.files.remove(f"data/orders-0/{name}")
        broker.files.remove("data/orders-0")
        broker.files.remove(self.FILE)
        broker.core = broker.open()
        values = [(value or b"")[:1] for value in self.values(broker)]
        assert values == [b"%d" % n for n in range(self.COUNT - len(values), self.COUNT)]
        assert 0 < len(values) < self.COUNT
        assert f"offsets 0 to {self.COUNT - len(values) - 1} are lost" in caplog.text
        assert broker.produce("orders", b"new").base_offset == self.COUNT

    def test_files_that_were_swapped_cost_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        broker = self.killed_broker()
        for source, target in (("0.journal", "x"), ("1.journal", "0.journal"), ("x", "1.journal")):
            broker.files.rename(f"data/journal/{source}", f"data/journal/{target}")
        broker.core = broker.open()
        assert self.values(broker) == [b"%d" % n for n in range(self.COUNT)]
        assert not [r for r in caplog.records if r.levelno == logging.ERROR]
