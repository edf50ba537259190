"""What a rebalance does to the events that a consumer has taken, without a broker: librdkafka is played by the test."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

import headwater as hw
from headwater.client import group_reader
from headwater.client.errors import ClientError
from headwater.client.progress import STORE_INTERVAL_MS
from headwater.effects.clock import ManualClock


def message(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=b"%d" % offset)


class Raw:
    """Stands for librdkafka's consumer: notes its calls, and has what the test gives it."""

    def __init__(self) -> None:
        self.ready: list[Message] = []
        self.late: Message | None = None
        self.refusal: int | None = None  # of a seek
        self.stored: dict[int, int] = {}
        self.sought: list[tuple[int, int]] = []
        self.paused: set[int] = set()

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        pass

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition("t", 0), TopicPartition("t", 1)]

    def assign(self, places: list[TopicPartition]) -> None:
        self.paused -= {place.partition for place in places}

    def committed(self, places: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 0) for place in places]

    def consume(self, number: int, timeout_s: float) -> list[Message]:
        taken, self.ready = self.ready[:number], self.ready[number:]
        return taken

    def poll(self, timeout_s: float) -> Message | None:
        late, self.late = self.late, None
        return late

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        self.stored |= {place.partition: place.offset for place in offsets}

    def seek(self, place: TopicPartition) -> None:
        if self.refusal is not None:
            raise KafkaException(KafkaError(self.refusal))
        self.sought.append((place.partition, place.offset))

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {place.partition for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {place.partition for place in places}

    def list_topics(self, timeout: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def raw() -> Raw:
    return Raw()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def events(raw: Raw, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[hw.Consumer[Any]]:
    monkeypatch.setattr(group_reader, "make_client", lambda *_: raw)
    with hw.Consumer("127.0.0.1:1", "t", group="g", value=int, clock=clock, idle_timeout_ms=0) as consumer:
        consumer._reader.assigned(raw, raw.assignment())
        yield consumer


def take_away(events: hw.Consumer[Any], raw: Any, partition: int) -> None:
    events._reader.revoked(raw, [TopicPartition("t", partition)])


def test_what_was_taken_away_meanwhile_is_not_committed(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(1, 7), message(1, 8)]
    seen = []
    for event in events:
        seen.append((event.partition, event.offset))
        if event.partition == 0:
            take_away(events, raw, 0)  # another member has it from here on, and may be further
    assert seen == [(0, 5), (1, 7), (1, 8)]
    events.close()
    assert raw.stored == {1: 9}


def test_events_of_a_partition_that_was_taken_away_are_not_handed_over(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(1, 7), message(0, 6), message(1, 8)]
    seen = []
    for event in events:
        seen.append((event.partition, event.offset))
        if event.offset == 7:
            take_away(events, raw, 0)
    assert seen == [(0, 5), (1, 7), (1, 8)]
    events.close()
    assert raw.stored == {0: 6, 1: 9}  # what was handled before is committed while the partition is still ours


def test_what_was_not_handed_over_is_not_committed_when_its_partition_goes_once_more(
    events: hw.Consumer[Any], raw: Raw
) -> None:
    raw.ready = [message(0, 5), message(1, 7), message(0, 6), message(1, 8)]
    for event in events:
        if event.partition == 1:  # between the two it comes back, while signs of life are sent
            take_away(events, raw, 0)
    assert raw.stored[0] == 6


def test_the_event_that_is_being_handled_is_not_committed_when_its_partition_goes(
    events: hw.Consumer[Any], raw: Raw
) -> None:
    raw.ready = [message(0, 5), message(0, 6)]
    for event in events:
        if event.offset == 6:
            take_away(events, raw, 0)
            assert raw.stored == {0: 6}


def test_a_message_that_comes_with_a_sign_of_life_comes_again(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.late = message(1, 7)
    events._reader.keep_alive()
    assert raw.sought == [(1, 7)]
    assert raw.paused == set()


def test_what_comes_between_events_of_another_partition_is_committed(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(1, 7), message(0, 6)]
    assert len(list(events)) == 3
    events.close()
    assert raw.stored == {0: 7, 1: 8}


def test_a_stop_leaves_the_rest_of_a_batch(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(0, 6)]
    seen = []
    for event in events:
        seen.append(event.offset)
        events.stop()
    assert seen == [5]


async def test_a_stop_leaves_the_rest_of_a_batch_on_a_loop_too(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(0, 6)]
    asynchronous = hw.AsyncConsumer(events._reader)
    seen = []
    async for event in asynchronous:
        seen.append(event.offset)
        asynchronous.stop()
    assert seen == [5]


@pytest.mark.parametrize(("share", "sought"), [(0.9, []), (1.1, [(1, 7)])])
def test_a_handler_that_takes_long_gives_signs_of_life(
    events: hw.Consumer[Any], raw: Raw, clock: ManualClock, share: float, sought: list[tuple[int, int]]
) -> None:
    """A sign of life polls. The message that comes with it shows that there was one: it is sought again."""
    raw.ready, raw.late = [message(0, 5), message(0, 6)], message(1, 7)
    for event in events:
        clock.advance(share * events._reader.keep_alive_ms)
        if event.offset == 6:
            assert raw.sought == sought
            break


@pytest.mark.parametrize(("share", "sought"), [(0.9, []), (1.1, [(1, 7)])])
async def test_a_handler_that_takes_long_on_a_loop_gives_signs_of_life(
    events: hw.Consumer[Any], raw: Raw, clock: ManualClock, share: float, sought: list[tuple[int, int]]
) -> None:
    raw.ready, raw.late = [message(0, 5), message(0, 6)], message(1, 7)
    async for event in hw.AsyncConsumer(events._reader):
        clock.advance(share * events._reader.keep_alive_ms)
        if event.offset == 6:
            assert raw.sought == sought
            break


def test_what_is_paused_stays_so_where_it_comes_back(events: hw.Consumer[Any], raw: Raw) -> None:
    events.pause([hw.Partition("t", 1)])
    take_away(events, raw, 1)
    events._reader.assigned(raw, [TopicPartition("t", 0), TopicPartition("t", 1)])
    assert raw.paused == {1}
    events._reader.keep_alive()
    assert raw.paused == {1}


def test_what_is_handled_is_stored_also_when_nothing_comes_after_it(
    events: hw.Consumer[Any], raw: Raw, clock: ManualClock
) -> None:
    raw.ready = [message(0, 5)]
    assert len(list(events)) == 1
    assert raw.stored == {}  # it is too early
    clock.advance(STORE_INTERVAL_MS)
    assert list(events) == []
    assert list(events) == []
    assert raw.stored == {0: 6}


def test_nothing_of_a_batch_whose_handling_raised_is_committed(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(0, 6), message(1, 7)]
    with pytest.raises(ValueError, match="busy"), events:  # noqa: PT012
        for batch in events.batches():
            assert len(batch) == 3
            raise ValueError("busy")
    assert raw.stored == {}


def test_events_that_were_fetched_stay_where_a_seek_is_refused(events: hw.Consumer[Any], raw: Raw) -> None:
    raw.ready = [message(0, 5), message(0, 6), message(1, 7)]
    next(iter(events))
    raw.refusal = KafkaError._STATE
    with pytest.raises(ClientError):
        events.seek("t", 0, 2)
    with pytest.raises(ValueError, match="time zone"):
        events.seek_to_time(datetime(2026, 1, 1))
    assert [(event.partition, event.offset) for event in events] == [(0, 6), (1, 7)]


@pytest.mark.parametrize("refusal", [None, KafkaError._STATE])
def test_what_ctrl_c_has_lost_between_its_fetch_and_its_delivery_comes_again(
    events: hw.Consumer[Any], raw: Raw, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    """Otherwise what comes next would be committed, and what was lost would never be delivered."""
    raw.ready = [message(0, 5), message(0, 6)]
    assert [event.offset for event in events] == [5, 6]
    raw.ready, raw.refusal = [message(0, 7), message(1, 3)], refusal
    with monkeypatch.context() as patched:
        patched.setattr(events._reader.notes.log, "broker_is_back", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(iter(events))
    assert raw.ready == []
    asked: list[TopicPartition] = []

    def committed(places: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        asked.extend(places)
        return []

    monkeypatch.setattr(raw, "committed", committed)
    raw.ready = [message(0, 7), message(1, 3)]
    found = [event.offset for event in events]
    if refusal is None:
        assert raw.sought == [(0, 7)]
        assert {place.partition for place in asked} == {1}  # nothing of it is handled: only the group knows where it is
        assert found == [7]
    else:
        assert {place.partition for place in asked} == {0, 1}
        assert found == []


def interrupt(*given: object) -> None:
    raise KeyboardInterrupt


class SlowGroup(Raw):
    """Each poll takes 0.4 s. The group gives the consumer its partitions in the poll `joins_at`."""

    def __init__(self, clock: ManualClock, joins_at: int) -> None:
        super().__init__()
        self.clock, self.joins_at, self.polls = clock, joins_at, 0
        self.on_assign: Any = None

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.on_assign = callbacks["on_assign"]

    def poll(self, timeout_s: float) -> Message | None:
        self.polls += 1
        self.clock.advance(400)
        if self.polls == self.joins_at:
            self.on_assign(self, self.assignment())
        return message(0, 5) if self.polls == self.joins_at + 1 else None


@pytest.mark.parametrize(
    ("joins_at", "values", "polls"),
    [
        (8, [5], 11),  # a first rebalance takes three seconds; then one event, and two polls without any
        (10**6, [], 27),  # without partitions it is idle after ten seconds
    ],
)
def test_a_consumer_is_not_idle_before_it_has_partitions(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, joins_at: int, values: list[int], polls: int
) -> None:
    raw = SlowGroup(clock, joins_at)
    monkeypatch.setattr(group_reader, "make_client", lambda *_: raw)
    with hw.Consumer("127.0.0.1:1", "t", group="g", value=int, clock=clock, idle_timeout_ms=800) as consumer:
        assert [event.value for event in consumer] == values
    assert raw.polls == polls
