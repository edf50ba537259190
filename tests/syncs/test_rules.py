"""Every rule is broken by a small trace, and kept by the same trace with the sync that it lacked."""

from pathlib import Path

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from headwater.protocol.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse
from headwater.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.records import CONTROL, TRANSACTIONAL
from headwater.storage.index import ABORTED_ENTRY
from headwater.storage.sums import SegmentSums
from tests.syncs.calls import Kind
from tests.syncs.promises import LOG_STARTS
from tests.syncs.rules import CLEAN_MARKER, Checker
from tests.syncs.story import CHECKPOINT, DATA, JOURNAL, LOG, LOOP, SEGMENT, Story, batch, points

BATCH = batch(b"value")
OTHER = batch(b"other", 1)
NEXT_SEGMENT = f"{LOG}/{5:020d}.log"
RENAMED = f"{LOG}/{0:020d}.log.swap"


@pytest.fixture
def story() -> Story:
    story = Story()
    story.make_log()
    return story


def only(problems: list[str], text: str) -> None:
    assert len(problems) == 1, problems
    assert text in problems[0]


# -- answers


def test_a_produce_is_answered_when_its_group_is_synced(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.sync(JOURNAL)
    story.answer_produce()
    assert story.problems() == []


def test_an_answer_without_a_sync(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.answer_produce()
    only(story.problems(), "Produce leaves before Batch")


def test_a_sync_that_has_not_ended(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    sync = story.start(Kind.SYNC, JOURNAL)
    story.answer_produce()
    story.finish(sync)
    only(story.problems(), "Produce leaves before Batch")


def test_a_sync_that_began_before_the_write_ended(story: Story) -> None:
    story.ask_produce(BATCH)
    sync = story.start(Kind.SYNC, JOURNAL)
    story.append(BATCH)
    story.finish(sync)
    story.answer_produce()
    only(story.problems(), "Produce leaves before Batch")


def test_a_sync_of_another_file(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.create(f"{DATA}/journal/1.journal")
    story.sync(f"{DATA}/journal/1.journal")
    story.answer_produce()
    only(story.problems(), "Produce leaves before Batch")


def test_a_synced_segment_is_as_good_as_the_journal(story: Story) -> None:
    story.ask_produce(BATCH)
    story.write(SEGMENT, BATCH)
    story.sync(SEGMENT)
    story.answer_produce()
    assert story.problems() == []


def test_the_batch_of_another_client_was_synced(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(OTHER)
    story.sync(JOURNAL)
    story.append(BATCH)
    story.answer_produce()
    only(story.problems(), "Produce leaves before Batch")


@pytest.mark.parametrize(("acks", "error"), [(1, 0), (-1, 7)])
def test_an_answer_that_promises_nothing(story: Story, acks: int, error: int) -> None:
    story.ask_produce(BATCH, acks)
    story.answer_produce(error)
    assert story.problems() == []


def test_an_answer_in_two_pieces_leaves_with_its_first_byte(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.answer_produce()
    frame = story.calls.pop().data
    story.add(Kind.SEND, data=frame[:3], connection=1)
    story.sync(JOURNAL)
    story.add(Kind.SEND, data=frame[3:], connection=1)
    only(story.problems(), "Produce leaves before Batch")


@pytest.mark.parametrize("is_synced", [True, False])
def test_what_is_fetched_is_durable(story: Story, is_synced: bool) -> None:
    story.append(BATCH)
    if is_synced:
        story.sync(JOURNAL)
    story.ask(ApiKey.FETCH, 12, FetchRequest())
    partition = FetchResponse.PartitionData(0, 0, 1, records=BATCH)
    answer = FetchResponse(responses=[FetchResponse.FetchableTopicResponse(topic="t", partitions=[partition])])
    story.answer(ApiKey.FETCH, 12, answer)
    if is_synced:
        assert story.problems() == []
    else:
        only(story.problems(), "Fetch leaves before Batch")


@pytest.mark.parametrize("name", ["orders", "others"])
def test_a_topic_that_is_created_is_named_in_the_journal(story: Story, name: str) -> None:
    topic = CreateTopicsRequest.CreatableTopic("orders", 1, 1)
    story.ask(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([topic], 1000))
    story.append(batch(name.encode()))
    story.sync(JOURNAL)
    result = CreateTopicsResponse.CreatableTopicResult("orders")
    story.answer(ApiKey.CREATE_TOPICS, 7, CreateTopicsResponse(topics=[result]))
    if name == "orders":
        assert story.problems() == []
    else:
        only(story.problems(), "CreateTopics leaves before Text b'orders'")


def test_what_was_written_before_the_request_came_is_not_its_own(story: Story) -> None:
    story.append(batch(b"orders"))
    story.sync(JOURNAL)
    topic = CreateTopicsRequest.CreatableTopic("orders", 1, 1)
    story.ask(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([topic], 1000))
    result = CreateTopicsResponse.CreatableTopicResult("orders")
    story.answer(ApiKey.CREATE_TOPICS, 7, CreateTopicsResponse(topics=[result]))
    only(story.problems(), "CreateTopics leaves before")


@pytest.mark.parametrize("marker_of", [9, 8])
def test_the_end_of_a_transaction_is_answered_when_its_marker_is_on_disk(story: Story, marker_of: int) -> None:
    story.ask(ApiKey.END_TXN, 4, EndTxnRequest("transactional", 9, 0, True))
    marker = batch(b"x", 1, attributes=CONTROL | TRANSACTIONAL, producer_id=marker_of, producer_epoch=0)
    story.append(batch(b"transactional"))
    story.append(marker, 1)
    story.sync(JOURNAL)
    story.answer(ApiKey.END_TXN, 4, EndTxnResponse())
    if marker_of == 9:
        assert story.problems() == []
    else:
        only(story.problems(), "EndTxn leaves before Marker 9")


def delete_records(story: Story, *, sync_directory: bool) -> None:
    story.ask(ApiKey.DELETE_RECORDS, 2, DeleteRecordsRequest())
    story.replace(LOG_STARTS, points(1), sync_directory=sync_directory)
    story.answer(ApiKey.DELETE_RECORDS, 2, DeleteRecordsResponse())


def test_records_are_deleted_when_the_file_that_says_so_is_in_place(story: Story) -> None:
    delete_records(story, sync_directory=True)
    assert story.problems() == []


def test_a_file_whose_name_is_not_on_disk_when_its_thread_answers(story: Story) -> None:
    delete_records(story, sync_directory=False)
    promised, renamed = story.problems()
    assert "DeleteRecords leaves before Replaced" in promised
    assert f"DeleteRecords is answered before the name {DATA}/{LOG_STARTS}" in renamed


def test_another_thread_may_be_at_a_rename_while_one_answers(story: Story) -> None:
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.sync(JOURNAL)
    story.thread = CHECKPOINT
    story.replace("some-checkpoint", b"", sync_directory=False)
    story.thread = LOOP
    story.answer_produce()
    assert story.problems() == []


def test_a_journal_file_whose_name_is_not_on_disk(story: Story) -> None:
    story.ask_produce(BATCH)
    new = f"{DATA}/journal/1.journal"
    story.create(new)
    story.append(BATCH)
    written = story.calls.pop()
    story.write(new, written.data, written.position)
    story.sync(new)
    story.answer_produce()
    only(story.problems(), f"before the name {new} is on disk")


@pytest.mark.parametrize("is_synced", [True, False])
def test_the_marker_of_a_clean_stop_is_gone_for_good_before_anything_is_answered(story: Story, is_synced: bool) -> None:
    story.create(f"{DATA}/{CLEAN_MARKER}")
    story.sync(DATA)
    story.remove(f"{DATA}/{CLEAN_MARKER}")
    if is_synced:
        story.sync(DATA)
    story.ask_produce(BATCH)
    story.append(BATCH)
    story.sync(JOURNAL)
    story.answer_produce()
    if is_synced:
        assert story.problems() == []
    else:
        only(story.problems(), "the marker of the last clean stop may come back")


# -- renames


def test_a_file_is_renamed_before_it_is_synced(story: Story) -> None:
    story.replace("meta.properties", b"", sync=False)
    only(story.problems(), "is renamed to /disk/data/meta.properties before it is synced")


def test_a_snapshot_need_not_be_synced(story: Story) -> None:
    story.replace(f"t-0/{5:020d}.snapshot", b"", sync=False, sync_directory=False)
    story.append(BATCH)
    story.checkpoint(1, SEGMENT)
    story.retire()
    assert story.problems() == []


# -- the journal


def test_a_journal_file_is_retired_after_a_checkpoint(story: Story) -> None:
    story.append(BATCH)
    story.sync(JOURNAL)
    story.checkpoint(1, SEGMENT)
    story.retire()
    assert story.problems() == []


def test_a_journal_file_is_retired_before_its_segment_is_synced(story: Story) -> None:
    story.append(BATCH)
    story.sync(JOURNAL)
    story.retire()
    only(story.problems(), f"where it has offset 0 of partition 0 of {b'0123456789abcdef'.hex()}, before {SEGMENT}")


def test_a_journal_file_is_retired_while_its_segment_is_being_synced(story: Story) -> None:
    story.append(BATCH)
    sync = story.start(Kind.SYNC, SEGMENT)
    story.retire()
    story.finish(sync)
    only(story.problems(), f"before {SEGMENT} is synced")


def test_a_journal_file_is_written_over_although_a_batch_came_after_the_sync(story: Story) -> None:
    story.append(BATCH)
    story.checkpoint(1, SEGMENT)
    story.append(OTHER, 1, position=len(BATCH))
    story.retire()
    only(story.problems(), "offset 1 of partition 0")


def test_a_journal_file_has_what_no_segment_has(story: Story) -> None:
    story.append(BATCH, segment=False)
    story.retire()
    only(story.problems(), "which no segment has")


@pytest.mark.parametrize("missing", [LOG, DATA])
def test_a_journal_file_is_retired_before_the_names_of_a_log_are_on_disk(missing: str) -> None:
    story = Story()
    story.make_log(sync_names=False)
    story.append(BATCH)
    story.sync(*{LOG, DATA}.difference([missing]), SEGMENT)
    story.retire()
    only(story.problems(), f"before {SEGMENT} is synced, with its name")


def test_a_journal_file_is_retired_before_the_recovery_points_are_in_place(story: Story) -> None:
    story.append(BATCH)
    story.sync(SEGMENT)
    story.thread = CHECKPOINT
    story.replace("recovery-point-by-topic-id-checkpoint", points(1), sync_directory=False)
    story.thread = LOOP
    story.retire()
    only(story.problems(), "is written over before the name /disk/data/recovery-point")


def test_a_deleted_topic_needs_no_sync(story: Story) -> None:
    story.append(BATCH)
    story.rename(LOG, f"{DATA}/0.ab-t-delete")
    story.remove(f"{DATA}/0.ab-t-delete/{0:020d}.log")
    story.retire()
    assert story.problems() == []


def test_a_file_that_is_cut_is_written_over(story: Story) -> None:
    story.append(BATCH)
    story.add(Kind.TRUNCATE, JOURNAL)
    only(story.problems(), f"{JOURNAL} is written over")


# -- checkpoints


def test_a_recovery_point_above_what_is_synced(story: Story) -> None:
    story.append(BATCH)
    story.checkpoint(1)
    only(story.problems(), f"the recovery point 1 is above offset 0 of {SEGMENT}")


def test_a_recovery_point_below_what_is_not_synced(story: Story) -> None:
    story.append(BATCH)
    story.sync(SEGMENT)
    story.append(OTHER, 1, position=len(BATCH))
    story.checkpoint(1)
    assert story.problems() == []


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_recovery_point_above_an_aborted_transaction(story: Story, is_synced: bool) -> None:
    index = SEGMENT.removesuffix(".log") + ".txnindex"
    story.append(BATCH)
    story.create(index)
    story.write(index, ABORTED_ENTRY.pack(0, 9, 0, 0, 0))
    story.sync(LOG)
    story.checkpoint(1, *([SEGMENT, index] if is_synced else [SEGMENT]))
    if is_synced:
        assert story.problems() == []
    else:
        only(story.problems(), f"the recovery point 1 is above offset 0 of {index}")


@pytest.mark.parametrize("is_synced", [True, False])
def test_sums_of_what_is_synced(story: Story, is_synced: bool) -> None:
    story.append(BATCH)
    if is_synced:
        story.sync(SEGMENT)
    sums = SEGMENT.removesuffix(".log") + ".sums"
    story.create(sums)
    story.write(sums, SegmentSums(len(BATCH), 1, 0, 0, 0, 0, 0, 0, 0, 0).content())
    if is_synced:
        assert story.problems() == []
    else:
        only(story.problems(), f"{sums} is written before offset 0")


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_clean_stop_is_marked_when_all_logs_are_synced(story: Story, is_synced: bool) -> None:
    story.append(BATCH)
    if is_synced:
        story.sync(SEGMENT)
    story.replace(CLEAN_MARKER, b"")
    if is_synced:
        assert story.problems() == []
    else:
        only(story.problems(), "a clean stop is marked, but offset 0")


# -- removals


def compact(story: Story, *, sync: bool = True, sync_directory: bool = True) -> None:
    copy = f"{LOG}/.cleaning/{0:020d}.log"
    story.append(BATCH)
    story.sync(SEGMENT)
    story.make(f"{LOG}/.cleaning")
    story.create(copy)
    story.write(copy, BATCH)
    if sync:
        story.sync(copy)
    story.rename(copy, RENAMED)
    if sync_directory:
        story.sync(LOG)
    story.remove(SEGMENT)
    story.rename(RENAMED, SEGMENT)
    story.sync(LOG)


def test_a_segment_is_removed_when_its_copy_is_on_disk(story: Story) -> None:
    compact(story)
    assert story.problems() == []


def test_a_segment_is_removed_before_the_name_of_its_copy_is_on_disk(story: Story) -> None:
    compact(story, sync_directory=False)
    only(story.problems(), f"{SEGMENT} is removed, but nothing on disk stands for it")


def test_a_segment_is_removed_before_its_copy_is_synced(story: Story) -> None:
    compact(story, sync=False)
    assert any(f"{SEGMENT} is removed, but nothing" in problem for problem in story.problems())


@pytest.mark.parametrize(("start", "sync_directory"), [(1, True), (0, True), (1, False)])
def test_a_segment_is_removed_by_retention(story: Story, start: int, sync_directory: bool) -> None:
    story.append(BATCH)
    story.replace(LOG_STARTS, points(start), sync_directory=sync_directory)
    story.remove(SEGMENT)
    if start == 1 and sync_directory:
        assert story.problems() == []
    else:
        only(story.problems(), f"{SEGMENT} is removed, but nothing on disk stands for it")


# -- lives


def test_what_one_life_has_left_unsynced_is_unsynced_in_the_next(story: Story) -> None:
    checker = Checker(DATA)
    story.append(BATCH)
    checker.run(story.calls)
    first = checker.next_line
    later = Story()
    later.calls.clear()
    later.line = first
    later.retire()
    checker.run(later.calls)
    only(checker.problems, f"before {SEGMENT} is synced")
    assert checker.problems[0].startswith(f"line {first + 2}:")


def test_only_clients_that_have_asked_are_answered(tmp_path: Path, story: Story) -> None:
    story.answer_produce()
    only(story.problems(), "an answer to no request")
