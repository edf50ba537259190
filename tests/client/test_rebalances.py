"""What a rebalance does to the events that a consumer has taken, without a broker: librdkafka is played by the test."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition

import headwater as hw
from headwater.client import reader
from headwater.effects.clock import ManualClock


def message(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=b"%d" % offset)


class Raw:
    """Stands for librdkafka's consumer: notes its calls, and has what the test gives it."""

    def __init__(self) -> None:
        self.ready: list[Message] = []
        self.late: Message | None = None
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
def events(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> Iterator[hw.Consumer[Any]]:
    monkeypatch.setattr(reader, "made", lambda *_: raw)
    with hw.Consumer("127.0.0.1:1", "t", group="g", value=int, clock=ManualClock(), idle_timeout_ms=0) as consumer:
        yield consumer


def take_away(events: hw.Consumer[Any], raw: Any, partition: int) -> None:
    events.revoked(raw, [TopicPartition("t", partition)])


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
    events.keep_alive()
    assert raw.sought == [(1, 7)]
    assert raw.paused == set()


def test_what_is_paused_stays_so_where_it_comes_back(events: hw.Consumer[Any], raw: Raw) -> None:
    events.pause([hw.Partition("t", 1)])
    take_away(events, raw, 1)
    events.assigned(raw, [TopicPartition("t", 0), TopicPartition("t", 1)])
    assert raw.paused == {1}
    events.keep_alive()
    assert raw.paused == {1}
