"""Messages of a topic without events, from one place to another; `test_topic_reader` has every kind of start and end."""

from confluent_kafka import Message

import headwater as hw
from headwater.client.message_reader import MessageReader
from headwater.client.positions import Partition
from tests.client.test_topic_reader import fill


def test_messages_are_handed_over_in_parts(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Admin(address) as admin:
        reader = MessageReader(admin, orders, end="latest", partitions=[0])
    found: list[Message] = []
    while not reader.is_complete:
        reader.fill(100, 0.1)
        found += reader.hand_over(2)
        assert reader.handed == {Partition(orders, 0): len(found)}
    reader.close()
    assert [message.value() for message in found] == [b"0", b"2", b"4", b"6", b"8"]


def test_what_comes_after_the_end_is_dropped(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Admin(address) as admin:
        reader = MessageReader(admin, orders, end={0: 2, 1: 5})
    found: list[Message] = []
    while not reader.is_complete:
        reader.fill(100, 0.1)
        found += reader.hand_over(100)
    assert reader.handed == {Partition(orders, 0): 2, Partition(orders, 1): 5}
    reader.close()
    assert sorted(int(message.value() or b"") for message in found) == [0, 1, 2, 3, 5, 7, 9]
