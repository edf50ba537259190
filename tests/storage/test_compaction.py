"""Compaction: what stays, what goes and when, in every kind of batch; and that nothing is lost on the way."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.broker.compaction_chore import RETRY_FIRST_MS
from headwater.effects.files import DiskFiles
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.compression import Compression
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest as Request
from headwater.protocol.record_keys import split_record
from headwater.protocol.records import HEADER_BYTES, Record, batches, build_batch, records
from headwater.storage.cleaner import COMMAND_MODULE, Cleaning, CleanJob, job_text, read_job, read_result
from headwater.storage.log import Log
from headwater.storage.segment import segment_name
from headwater.storage.swaps import CLEANING_DIRECTORY, SWAP_SUFFIX
from tests.broker.harness import Harness
from tests.broker.topic_configs import TopicConfigs
from tests.broker.transactional import Producer, committed_values

BACKOFF_MS = 15_000
COMPACTED: TopicConfigs = {
    "cleanup_policy": "compact",
    "segment_bytes": str(1 << 20),
    "min_cleanable_dirty_ratio": "0.01",
}
Pair = tuple[bytes | None, bytes | None]


def compacted_broker(**configs: Unpack[TopicConfigs]) -> Harness:
    # No journal file is full: the test says when there is a checkpoint.
    broker = Harness(pairs={"headwater.journal.file.bytes": 1 << 25})
    wanted: TopicConfigs = {**COMPACTED, **configs}
    broker.create_topic("t", **wanted)
    return broker


def the_log(broker: Harness) -> Log:
    return broker.core.partitions.log(broker.core.metadata.topics["t"], 0)


def write(broker: Harness, *pairs: Pair, compression: Compression = Compression.NONE) -> None:
    now = broker.clock.wall_ms()
    batch = build_batch([Record(key, value, (), now) for key, value in pairs], compression=compression)
    assert broker.produce_batch("t", batch).message.responses[0].partition_responses[0].error_code == 0


def compact(broker: Harness) -> None:
    """Seals what was written and compacts it."""
    if the_log(broker).segments[-1].size:
        the_log(broker).roll()
    broker.core.store.checkpoint()
    run_compaction(broker)


def run_compaction(broker: Harness) -> None:
    before = broker.counters.totals["compactions"]
    assert broker.core.compaction.start_next()
    for _ in range(1000):
        if broker.counters.totals["compactions"] > before:
            break
        broker.clock.advance(2)
        broker.core.timers.run_due()
    assert not broker.core.compaction.is_running
    assert broker.counters.totals["compactions"] > before
    assert not broker.files.exists(f"{the_log(broker).directory}/{CLEANING_DIRECTORY}")


def found(broker: Harness) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(r.offset, r.key, r.value) for r in broker.read_all("t") if r.key is not None]


@pytest.mark.parametrize("compression", list(Compression))
def test_the_newest_value_of_each_key_stays_at_its_offset(compression: Compression) -> None:
    broker = compacted_broker()
    write(broker, (b"a", b"1"), (b"b", b"1"), (b"c", b"1"), compression=compression)
    write(broker, (b"a", b"2"), (b"d", b"1"), compression=compression)
    write(broker, (b"a", b"3"), compression=compression)
    compact(broker)
    expected = [(1, b"b", b"1"), (2, b"c", b"1"), (4, b"d", b"1"), (5, b"a", b"3")]
    assert found(broker) == expected
    for how in ("kill", "restart"):
        getattr(broker, how)()
        assert found(broker) == expected
    write(broker, (b"b", b"2"))
    compact(broker)
    assert found(broker) == [*expected[1:], (6, b"b", b"2")]


def test_what_compaction_leaves_out_is_not_damage(caplog: pytest.LogCaptureFixture) -> None:
    broker = compacted_broker()
    random = Random(1)
    for n in range(6):  # segments that end with what is replaced in the next, and too large to be put together
        write(broker, (b"%d" % n, random.randbytes(700_000)))
        write(broker, (b"a", b"%d" % n))
        the_log(broker).roll()
    broker.core.store.checkpoint()
    compact(broker)
    expected = found(broker)
    assert [offset for offset, _, _ in expected] == [0, 2, 4, 6, 8, 10, 11]
    assert len(the_log(broker).segments) > 3
    for how in ("restart", "kill", "restart"):
        getattr(broker, how)()
        assert found(broker) == expected
        assert the_log(broker).damages == []
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.parametrize("steps_before", range(8))
def test_a_checkpoint_that_runs_meanwhile_says_nothing_of_the_segments_that_are_replaced(steps_before: int) -> None:
    """Its sums are those of the old ones. What is not as they say reads as damaged."""
    broker = compacted_broker()
    for value in (b"1", b"2"):
        write(broker, (b"a", value), (b"b", value))
    the_log(broker).roll()
    write(broker, (b"c", b"1"))
    broker.core.store.checkpoint()
    broker.core.store.dirty.add(the_log(broker))
    the_log(broker).unsynced_segments.add(the_log(broker).segments[0])  # as a start does that builds an index again
    checkpoint = broker.core.store.begin_checkpoint()
    steps = checkpoint.steps()
    for _ in range(steps_before):
        next(steps)
    run_compaction(broker)
    for _ in steps:
        continue
    broker.core.store.finish_checkpoint(checkpoint)
    kept = [(2, b"a", b"2"), (3, b"b", b"2"), (4, b"c", b"1")]
    assert found(broker) == kept
    broker.kill()
    assert found(broker) == kept
    broker.restart()
    assert found(broker) == kept


def test_a_log_of_which_records_are_gone_is_not_compacted() -> None:
    broker = compacted_broker()
    for n in range(4):
        write(broker, (b"a", b"%d" % n))
        the_log(broker).roll()
    broker.core.close()
    broker.files.remove("data/t-0/00000000000000000001.log")
    broker.core = broker.open()
    assert the_log(broker).damages == [(1, 2)]
    broker.core.store.checkpoint()
    assert not broker.core.compaction.start_next()
    assert broker.fetch("t", 1).error_code == ErrorCode.KAFKA_STORAGE_ERROR


@pytest.mark.parametrize("position", [0, 7, *range(HEADER_BYTES, HEADER_BYTES + 20)])
def test_a_damaged_batch_is_not_compacted_into_one_with_a_sound_checksum(
    position: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = compacted_broker()
    write(broker, (b"a", b"0"), (b"b", b"1"))
    write(broker, (b"a", b"2"))
    the_log(broker).roll()
    broker.core.store.checkpoint()
    path = f"{the_log(broker).segments[0].path}.log"
    file = broker.files.open(path)
    file.write([bytes([file.read(1, position)[0] ^ 0x40])], position)
    before = file.read(1 << 20, 0)
    broker.core.compaction.start_next()
    broker.advance(100)
    assert not broker.core.compaction.is_running
    assert broker.counters.totals["compactions"] == 0
    assert file.read(1 << 20, 0) == before
    assert "data/t-0 cannot be compacted" in caplog.text


def test_what_is_not_sealed_or_too_young_is_left_alone() -> None:
    broker = compacted_broker(min_compaction_lag_ms="60000")
    write(broker, (b"a", b"1"))
    write(broker, (b"a", b"2"))
    broker.core.store.checkpoint()
    assert not broker.core.compaction.start_next()
    the_log(broker).roll()
    broker.core.store.checkpoint()
    assert not broker.core.compaction.start_next()
    broker.clock.advance(61_000)
    compact(broker)
    assert [offset for offset, _, _ in found(broker)] == [1]


def test_what_no_checkpoint_has_covered_waits_for_one() -> None:
    """Recovery must not meet a compacted segment above the recovery point: the journal has batches that it lacks."""
    broker = compacted_broker()
    write(broker, (b"a", b"1"))
    write(broker, (b"a", b"2"))
    the_log(broker).roll()
    assert not broker.core.compaction.start_next()
    assert broker.core.durability.wants_checkpoint
    compact(broker)
    assert [offset for offset, _, _ in found(broker)] == [1]


def test_only_what_is_dirty_enough_or_overdue_is_compacted() -> None:
    broker = compacted_broker(min_cleanable_dirty_ratio="0.9", max_compaction_lag_ms="100000")
    write(broker, *((b"%d" % n, b"x") for n in range(50)))
    compact(broker)
    write(broker, (b"1", b"new"))
    the_log(broker).roll()
    broker.core.store.checkpoint()
    assert not broker.core.compaction.start_next()
    broker.clock.advance(100_001)
    compact(broker)
    assert len(found(broker)) == 50


def test_tombstones_stay_for_their_time_and_keep_their_timestamps() -> None:
    broker = compacted_broker(delete_retention_ms="50000")
    write(broker, (b"a", b"1"), (b"b", b"1"))
    write(broker, (b"a", None))
    written_ms = broker.clock.wall_ms()
    compact(broker)
    assert found(broker) == [(1, b"b", b"1"), (2, b"a", None)]
    assert {r.timestamp for r in broker.read_all("t")} == {written_ms}
    write(broker, (b"c", b"1"))
    compact(broker)
    assert (2, b"a", None) in found(broker)
    broker.clock.advance(50_001)
    write(broker, (b"d", b"1"))
    compact(broker)
    assert found(broker) == [(1, b"b", b"1"), (3, b"c", b"1"), (4, b"d", b"1")]


def test_records_of_aborted_transactions_go_and_markers_follow() -> None:
    broker = compacted_broker(delete_retention_ms="1000")
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    for n in range(6):
        assert producer.produce("t", b"%d" % n) == 0
        assert producer.end(commit=n % 2 == 0) == 0
    log = the_log(broker)
    compact(broker)
    assert committed_values(broker, "t") == [b"0", b"2", b"4"]
    control = [header.is_control for header, _, _ in log.batches_from(0)]
    broker.clock.advance(2_000)
    write(broker, (b"k", b"last"))
    compact(broker)
    assert sum(header.is_control for header, _, _ in log.batches_from(0)) < sum(control)
    assert committed_values(broker, "t")[-1] == b"last"
    broker.kill()
    assert committed_values(broker, "t")[-1] == b"last"
    assert producer.init().error_code == 0
    assert producer.produce("t", b"on") == 0
    assert producer.end(commit=True) == 0


def test_what_an_open_transaction_may_still_change_is_left_alone() -> None:
    broker = compacted_broker()
    producer = Producer(broker, "tx")
    producer.init()
    write(broker, (b"k", b"1"))
    assert producer.produce("t", b"open") == 0
    the_log(broker).roll()
    broker.core.store.checkpoint()
    assert not broker.core.compaction.start_next()


def test_a_producers_last_batch_stays_so_that_its_sequence_is_known() -> None:
    broker = compacted_broker()
    now = broker.clock.wall_ms()
    for sequence, key in enumerate((b"a", b"a")):
        batch = build_batch([Record(key, b"x", (), now)], producer_id=7, producer_epoch=0, base_sequence=sequence)
        assert broker.produce_batch("t", batch).message.responses[0].partition_responses[0].error_code == 0
    write(broker, (b"a", b"newest"))
    compact(broker)
    assert found(broker) == [(2, b"a", b"newest")]
    headers = [header for header, _, _ in the_log(broker).batches_from(0)]
    assert [(h.base_offset, h.records_count) for h in headers] == [(1, 0), (2, 1)]
    broker.core.store.abandon()
    for name in broker.files.list_directory("data/t-0"):
        if name.endswith(".snapshot"):
            broker.files.remove(f"data/t-0/{name}")
    broker.core = broker.open()
    again = build_batch([Record(b"a", b"x", (), now)], producer_id=7, producer_epoch=0, base_sequence=1)
    answer = broker.produce_batch("t", again).message.responses[0].partition_responses[0]
    assert (answer.error_code, answer.base_offset) == (0, 1)


def test_memory_is_bounded_and_what_does_not_fit_waits_for_the_next_job() -> None:
    broker = Harness()
    # Less than the setting lets anyone ask for.
    broker.core.settings = replace(broker.core.settings, log_cleaner_dedupe_buffer_size=160 * 10)
    broker.create_topic("t", **COMPACTED)
    for round_ in range(4):
        write(broker, *((b"%d" % n, b"%d" % round_) for n in range(8)))
        the_log(broker).roll()
    compact(broker)
    assert [(key, value) for _, key, value in found(broker)] == [(b"%d" % n, b"3") for n in range(8)]


def test_a_log_that_is_compacted_and_deleted_loses_old_segments_too() -> None:
    broker = compacted_broker(retention_ms="100000")
    broker.call(44, 1, _policy("compact,delete"))
    write(broker, (b"a", b"1"))
    write(broker, (b"a", b"2"))
    compact(broker)
    broker.clock.advance(200_000)
    write(broker, (b"b", b"1"))
    broker.core.store.checkpoint()
    broker.core.apply_retention()
    assert found(broker) == [(2, b"b", b"1")]


def _policy(value: str) -> Request:
    return Request([Request.AlterConfigsResource(2, "t", [Request.AlterableConfig("cleanup.policy", 0, value)])])


keys = st.sampled_from([b"", b"a", b"b", b"c" * 15, b"d" * 16, b"e" * 17, b"f" * 200])
contents = st.lists(st.tuples(keys, st.none() | st.binary(max_size=200)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(contents, st.sampled_from(list(Compression)), st.booleans()), min_size=1, max_size=12))
def test_compacting_any_history_changes_nothing_that_a_table_would_see(
    history: list[tuple[list[tuple[bytes, bytes | None]], Compression, bool]],
) -> None:
    broker = compacted_broker(delete_retention_ms="0")
    table: dict[bytes, tuple[int, bytes | None]] = {}
    offset = 0
    for content, compression, then_compact in history:
        write(broker, *content, compression=compression)
        for key, value in content:
            table[key] = (offset, value)
            offset += 1
        if then_compact:
            compact(broker)
    if not history[-1][2]:
        compact(broker)
    seen = {r.key: (r.offset, r.value) for r in broker.read_all("t")}
    missing = {key for key in table if key not in seen}
    assert all(table[key][1] is None for key in missing)
    assert {key: at for key, at in seen.items() if at[1] is not None} == {
        key: at for key, at in table.items() if at[1] is not None
    }
    offsets = [r.offset for r in broker.read_all("t")]
    assert offsets == sorted(offsets)


@given(st.binary(max_size=300), st.none() | st.binary(max_size=300), st.integers(0, 2**31), st.integers(0, 10_000))
def test_records_are_split_where_they_say(key: bytes, value: bytes | None, timestamp: int, offset: int) -> None:
    first = Record(None, None, (), 0)
    batch = bytes(build_batch([first, Record(key, value, [("h", b"x")], timestamp)]))
    data = batch[61:]
    _, no_key, _, at = split_record(data, 0)
    delta, found_key, value_at, end = split_record(data, at)
    assert (no_key, delta, end) == (None, 1, len(data))
    assert found_key == key if len(key) <= 16 else len(found_key or b"") == 17
    assert (data[value_at] == 1) == (value is None)


def test_a_job_in_a_process_of_its_own_does_the_same(tmp_path: Path) -> None:
    results = []
    for files, directory in ((MemoryFiles(), "log"), (DiskFiles(8), str(tmp_path))):
        files.make_directory(directory)
        file = files.open(f"{directory}/{0:020d}.log", create=True)
        random, position, offset = Random(5), 0, 0
        for _ in range(50):
            content = [Record(b"%d" % random.randrange(20), b"v" * random.randrange(50), (), 5) for _ in range(9)]
            batch = build_batch(content, base_offset=offset)
            file.write([batch], position)
            position, offset = position + len(batch), offset + len(content)
        job = CleanJob(directory, [0], offset, 0, 10, 1000, 1 << 30, 4096, 1000)
        assert read_job(job_text(job)) == job
        if isinstance(files, MemoryFiles):
            cleaning = Cleaning(files, job)
            for _ in cleaning.steps():
                pass
            cleaned = cleaning.result
        else:
            command = [sys.executable, "-m", COMMAND_MODULE, str(os.getpid())]
            done = subprocess.run(command, input=job_text(job), capture_output=True, text=True, check=True)
            cleaned = read_result(done.stdout)
        copy = files.open(f"{directory}/{CLEANING_DIRECTORY}/{0:020d}.log")
        data = copy.read(copy.size(), 0)
        assert len(data) == cleaned.groups[0].size_bytes
        assert len([r for header, batch in batches(data) for r in records(header, batch)]) == 20
        results.append((json.dumps(asdict(cleaned)), data))
    assert results[0] == results[1]


def test_a_job_ends_with_its_broker(tmp_path: Path) -> None:
    (tmp_path / f"{0:020d}.log").write_bytes(build_batch([Record(b"k", bytes(1 << 20), (), 5)]))
    job = CleanJob(str(tmp_path), [0], 1, 0, 10, 1000, 1 << 30, 4096, 1000)
    command = [sys.executable, "-m", COMMAND_MODULE, str(os.getppid())]  # not the parent of the process
    done = subprocess.run(command, input=job_text(job), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the broker is gone\n")


class TestFailures:
    """A job that fails leaves the log as it was, and is tried again, each time after twice as long."""

    def ready(self) -> Harness:
        broker = compacted_broker()
        write(broker, (b"a", b"1"))
        write(broker, (b"a", b"2"))
        the_log(broker).roll()
        broker.core.store.checkpoint()
        return broker

    def run(self, broker: Harness) -> int:
        """Starts what there is to do and lets it end; returns how many compactions there were."""
        before = broker.counters.totals["compactions"]
        broker.core.compaction.start_next()
        for _ in range(100):
            broker.clock.advance(2)
            broker.core.timers.run_due()
        assert not broker.core.compaction.is_running
        return broker.counters.totals["compactions"] - before

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EIO])
    @pytest.mark.parametrize("place", [("open", ".log"), ("write", ".log"), ("rename", ".log")])
    def test_is_tried_again(self, number: int, place: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
        broker = self.ready()
        call, path_end = place
        broker.files.fault = lambda found, path: (
            number if found == call and CLEANING_DIRECTORY in path and path.endswith(path_end) else None
        )
        assert self.run(broker) == 0
        assert "trying again in 1 min:" in caplog.text
        assert self.run(broker) == 0
        assert caplog.text.count("trying again") == 1
        broker.clock.advance(RETRY_FIRST_MS)
        assert self.run(broker) == 0
        assert "trying again in 2 min:" in caplog.text
        assert found(broker) == [(0, b"a", b"1"), (1, b"a", b"2")]
        assert not broker.core.is_failed
        broker.files.fault = None
        broker.clock.advance(RETRY_FIRST_MS)
        assert self.run(broker) == 0
        broker.clock.advance(RETRY_FIRST_MS)
        assert self.run(broker) == 1
        assert found(broker) == [(1, b"a", b"2")]
        broker.kill()
        assert found(broker) == [(1, b"a", b"2")]

    def test_that_the_end_cannot_be_noted_ends_nothing(self) -> None:
        broker = self.ready()
        broker.files.fault = lambda call, path: errno.ENOSPC if "cleaner-offset" in path else None
        assert self.run(broker) == 1
        assert not broker.core.is_failed
        assert found(broker) == [(1, b"a", b"2")]

    def test_a_log_that_cannot_be_looked_at_keeps_no_other_from_its_turn(self) -> None:
        broker = self.ready()
        broker.create_topic("broken", **COMPACTED)
        for _ in range(3):
            broker.produce("broken", bytes(600_000))
        log = broker.core.partitions.log(broker.core.metadata.topics["broken"], 0)
        log.roll()
        broker.core.store.checkpoint()
        broker.files.fault = lambda call, path: errno.EIO if "broken-0" in path else None
        assert self.run(broker) == 1


def test_the_names_of_a_copy_are_on_disk_before_what_it_replaces_is_removed() -> None:
    """A file system may keep a later change of a directory and lose an earlier one: the simulated one does not."""
    broker = compacted_broker()
    write(broker, (b"a", b"1"))
    write(broker, (b"a", b"2"))
    calls: list[tuple[str, str]] = []
    broker.files.fault = lambda call, path: calls.append((call, path))
    compact(broker)
    directory, name = the_log(broker).directory, segment_name(0)
    copied = calls.index(("rename", f"{directory}/{CLEANING_DIRECTORY}/{name}.log"))
    removed = calls.index(("remove", f"{directory}/{name}.log"))
    named = calls.index(("rename", f"{directory}/{name}.log{SWAP_SUFFIX}"))
    assert ("sync_directory", directory) in calls[copied:removed]
    assert ("sync_directory", directory) in calls[named:]
    content = [at for at, call in enumerate(calls) if call == ("sync", f"{directory}/{CLEANING_DIRECTORY}/{name}.log")]
    assert content
    assert content[-1] < copied < removed < named


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_while_compacting_loses_nothing(seed: int) -> None:
    random = Random(seed)
    files = MemoryFiles(crashable=True)
    broker = Harness(files)
    broker.create_topic("t", **COMPACTED)
    table: dict[bytes, bytes] = {}
    for life in range(4):
        for n in range(random.randint(3, 10)):
            content = [(b"%d" % random.randrange(9), b"%d.%d.%d" % (life, n, i)) for i in range(4)]
            write(broker, *content)
            table.update(content)
            if random.random() < 0.3:
                the_log(broker).roll()
        broker.core.store.checkpoint()
        broker.core.compaction.start_next()
        for _ in range(random.randrange(4)):
            broker.clock.advance(2)
            broker.core.timers.run_due()
        files.crash(random)
        broker.core = broker.open()
        broker.sync()
        seen = {r.key: r.value for r in broker.read_all("t")}
        assert seen == table
        offsets = [r.offset for r in broker.read_all("t")]
        assert offsets == sorted(set(offsets))
