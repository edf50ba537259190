"""Where a member of a group has read everything; `test_rebalances` has what happens when partitions go and come back."""

import contextlib
from typing import Any

import headwater as hw
from headwater.client.group_reader import GroupReader
from headwater.client.group_settings import GroupSettings
from tests.client.test_clients import committed
from tests.client.test_topic_reader import fill


def read_to_end(address: str, topic: str) -> list[bytes | None]:
    """What is left for the group; committed."""
    settings = {"enable.partition.eof": True, "fetch.wait.max.ms": 50}
    member = GroupSettings(address, f"{topic}-group", commit="manual", settings=settings)
    reader: GroupReader[Any] = GroupReader(member, topic, idle_timeout_ms=30_000)
    values = []
    try:
        while not reader.progress.is_at_end:
            values += [message.value() for message in reader.fetch(100, 0.1)]
            reader.progress.deliver_all()
        reader.commit()
    finally:
        reader.close()
    return values


def test_all_partitions_are_read_to_their_ends(address: str, orders: str) -> None:
    fill(address, orders, range(20))
    assert sorted(map(int, filter(None, read_to_end(address, orders)))) == list(range(20))
    assert committed(address, f"{orders}-group") == 20
    assert read_to_end(address, orders) == []


def test_the_end_after_markers_and_aborted_records_is_reached(address: str, orders: str) -> None:
    """The last offsets are no messages', so the lag never becomes 0, and partition 1 has no message at all."""
    with hw.Producer(address, transactional_id=orders, value=int) as producer:
        with producer.transaction():
            producer.send(orders, 1, partition=0)
        with contextlib.suppress(ZeroDivisionError), producer.transaction():
            producer.send(orders, 2, partition=0)
            producer.send(orders, 3, partition=1)
            producer.flush()
            raise ZeroDivisionError  # aborts
    assert read_to_end(address, orders) == [b"1"]
    assert read_to_end(address, orders) == []
