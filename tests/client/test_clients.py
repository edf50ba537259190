"""Producer, Consumer and Admin: what users do with them. Runs on Headwater here and on a real Kafka in the interop suite."""

import asyncio
import dataclasses
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import headwater as hw
from headwater.client.errors import (
    BrokerUnavailableError,
    ClientTimeoutError,
    ConfigurationError,
    ConsumerClosedError,
    RecordTooLargeError,
    TopicExistsError,
    UnknownTopicError,
)

WAIT_MS = 20_000.0


@dataclasses.dataclass
class Order:
    id: int
    total: float = 1.0


def consumer(address: str, topic: str, **more: Any) -> hw.Consumer[Any]:
    return hw.Consumer(address, topic, **{"group": f"{topic}-group", "idle_timeout_ms": WAIT_MS, **more})


# -- sending and receiving


def test_what_is_sent_comes_with_its_place_headers_and_type(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        delivery = producer.send(orders, Order(1, 2.5), key=7, headers=[("origin", "web"), ("origin", "app")])
        delivery.result(WAIT_MS)
    with consumer(address, orders, value=Order, key=int) as events:
        event = next(iter(events))
    assert event.value == Order(1, 2.5)
    assert event.key == 7
    assert event.headers.all("origin") == ["web", "app"]
    assert (event.topic, event.partition, event.offset) == (orders, delivery.partition, delivery.offset)
    assert event.timestamp == delivery.timestamp
    assert (event.type, event.source) == ("Order", "headwater")


async def test_async_does_the_same(address: str, orders: str) -> None:
    async with hw.Producer(address) as producer:
        delivery = await producer.send(orders, Order(1), key="k")
        assert delivery.offset == 0
        batch = await producer.send_batch(orders, [Order(n) for n in range(2000)], key=lambda order: order.id)
        assert (batch.delivered, batch.failed) == (2000, 0)
    seen = []
    async with consumer(address, orders, value=Order) as events:
        async for event in events:
            seen.append(event.value.id)
            if len(seen) == 2001:
                break
    assert sorted(seen) == sorted([1, *range(2000)])


def test_events_of_a_key_keep_their_order(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        for n in range(200):
            producer.send(orders, n, key=n % 4)
    with consumer(address, orders) as events:
        taken = events.take(200, WAIT_MS)
    for key in range(4):
        assert [event.value for event in taken if event.key == str(key)] == list(range(key, 200, 4))


def test_a_batch_brings_each_records_own_headers(address: str, orders: str) -> None:
    with hw.Producer(address, cloudevents="none") as producer:
        records = [hw.Outgoing(b"a", key=b"k", headers={"own": "1"}, partition=1), b"b"]
        producer.send_batch(orders, records, headers={"all": "x"}).result(WAIT_MS)
    with consumer(address, orders, value=bytes) as events:
        by_value = {event.value: event for event in events.take(2, WAIT_MS)}
    assert list(by_value[b"a"].headers) == [("all", b"x"), ("own", b"1")]
    assert by_value[b"a"].partition == 1
    assert list(by_value[b"b"].headers) == [("all", b"x")]


def test_batches_give_events_values_and_raw_bytes(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        producer.send_batch(orders, [Order(n) for n in range(100)]).result(WAIT_MS)
    number, raw = 0, 0
    with consumer(address, orders, value=Order) as events:
        for batch in events.batches(30):
            assert len(batch) <= 30
            assert [event.value for event in batch] == batch.values
            assert batch[0].value == batch.values[0]
            assert len(batch[:2]) == min(2, len(batch))
            raw += sum(value is not None and value.startswith(b'{"id"') for value in batch.raw_values)
            number += len(batch)
            if number == 100:
                break
    assert raw == 100


def test_a_tombstone_is_none(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        producer.send(orders, None, key="gone").result(WAIT_MS)
    with consumer(address, orders, value=Order) as events:
        (event,) = events.take(1, WAIT_MS)
    assert event.value is None
    assert event.key == "gone"


def test_structured_cloud_events_are_read_as_any_other(address: str, orders: str) -> None:
    with hw.Producer(address, cloudevents="structured", source="/shop") as producer:
        producer.send(orders, Order(3), key="k", headers={"own": "1"}).result(WAIT_MS)
        producer.send(orders, b"\x00\xff", key="k").result(WAIT_MS)
    with consumer(address, orders, value=Order) as events:
        event, _ = events.take(2, WAIT_MS)
    assert event.headers["content-type"].startswith("application/cloudevents+json")
    assert (event.value, event.type, event.source, event.headers["own"]) == (Order(3), "Order", "/shop", "1")
    with consumer(address, orders, group=f"{orders}-raw") as events:
        assert events.take(2, WAIT_MS)[1].value == b"\x00\xff"


def test_an_event_says_what_caused_it_across_processes(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        producer.send(orders, "ordered").result(WAIT_MS)
        with consumer(address, orders) as events:
            for event in events:
                ordered = event
                producer.send(orders, "paid").result(WAIT_MS)
                break
        with consumer(address, orders, group=f"{orders}-2") as events:
            paid = next(event for event in events if event.value == "paid")
    assert (paid.causation_id, paid.correlation_id) == (ordered.id, ordered.id)


# -- what is handled


def committed(address: str, group: str) -> int:
    with hw.Admin(address) as admin:
        return sum(admin.committed(group).values())


def send_numbers(address: str, topic: str, number: int) -> None:
    with hw.Producer(address) as producer:
        for n in range(number):
            producer.send(topic, n, partition=0)


def test_only_what_was_handled_is_committed(address: str, orders: str) -> None:
    send_numbers(address, orders, 10)
    group = f"{orders}-group"

    def fail_at(offset: int) -> None:
        with consumer(address, orders) as events:
            for event in events:
                if event.offset == offset:
                    raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_at(3)
    assert committed(address, group) == 3
    with consumer(address, orders) as events:
        for event in events:
            if event.offset == 5:
                break
    assert committed(address, group) == 6
    with consumer(address, orders) as events:
        assert [event.offset for event in events.take(4, WAIT_MS)] == [6, 7, 8, 9]


def test_an_iteration_continues_where_the_last_one_ended(address: str, orders: str) -> None:
    send_numbers(address, orders, 10)
    with hw.Producer(address) as producer:
        producer.send_batch(orders, [hw.Outgoing(n, partition=1) for n in range(10, 20)]).result(WAIT_MS)
    seen: list[int] = []
    with consumer(address, orders) as events:
        for number in (1, 4):
            for event in events:
                seen.append(event.value)
                if len(seen) >= number:
                    break
        seen += [event.value for event in events.take(3, WAIT_MS)]
        for batch in events.batches(2):
            seen += batch.values
            if len(seen) >= 12:
                break
        while len(seen) < 20:
            seen += [event.value for event in events.take(1, WAIT_MS)]
    assert sorted(seen) == list(range(20))


def test_a_seek_leaves_the_other_partitions_alone(address: str, orders: str) -> None:
    with hw.Producer(address) as producer:
        records = [hw.Outgoing(n, partition=n % 2) for n in range(20)]
        producer.send_batch(orders, records).result(WAIT_MS)
    seen: list[tuple[int, int]] = []
    with consumer(address, orders) as events:
        for event in events:
            seen.append((event.partition, event.offset))
            if len(seen) == 5:
                events.seek(orders, 0, 0)
            if len(seen) >= 20 and {(p, o) for p, o in seen} == {(p, o) for p in (0, 1) for o in range(10)}:
                break
    assert [offset for partition, offset in seen if partition == 1] == list(range(10))


def test_a_manual_commit_takes_the_event_that_is_being_handled(address: str, orders: str) -> None:
    send_numbers(address, orders, 5)
    with consumer(address, orders, commit="manual") as events:
        for event in events:
            if event.offset == 2:
                events.commit()
            if event.offset == 4:
                break
    assert committed(address, f"{orders}-group") == 3


def failing_on(*offsets: int) -> tuple[Any, list[int]]:
    calls: list[int] = []

    def handler(event: hw.Event[Any]) -> None:
        calls.append(event.offset)
        if event.offset in offsets:
            raise ValueError(f"cannot handle {event.offset}")

    return handler, calls


def test_a_handler_that_fails_is_tried_again_then_the_event_is_put_aside(address: str, orders: str) -> None:
    send_numbers(address, orders, 4)
    handler, calls = failing_on(1)
    with hw.Admin(address) as admin:
        admin.create_topic(f"{orders}.dead")
    with consumer(address, orders, idle_timeout_ms=1000) as events:
        events.handle(handler, on_error=hw.Retry(2, delay_ms=1, then=hw.DeadLetter()))
    assert calls == [0, 1, 1, 1, 2, 3]
    assert committed(address, f"{orders}-group") == 4
    with consumer(address, f"{orders}.dead") as letters:
        (letter,) = letters.take(1, WAIT_MS)
    assert (letter.headers["hw_original_topic"], letter.headers["hw_original_offset"]) == (orders, "1")
    assert letter.headers["hw_error"] == "ValueError: cannot handle 1"


def test_a_handler_that_fails_stops_and_the_event_comes_again(address: str, orders: str) -> None:
    send_numbers(address, orders, 3)
    handler, calls = failing_on(1)
    with pytest.raises(ValueError, match="1"), consumer(address, orders) as events:
        events.handle(handler)
    assert committed(address, f"{orders}-group") == 1
    with consumer(address, orders, idle_timeout_ms=1000) as events:
        events.handle(lambda event: calls.append(event.offset), on_error=hw.Skip())
    assert calls == [0, 1, 1, 2]


@pytest.mark.parametrize("failing", [0, 2])
def test_after_an_error_the_same_consumer_begins_with_the_event_that_failed(
    address: str, orders: str, failing: int
) -> None:
    send_numbers(address, orders, 4)
    handler, calls = failing_on(failing)
    with consumer(address, orders, idle_timeout_ms=1000) as events:
        with pytest.raises(ValueError, match=str(failing)):
            events.handle(handler)
        events.handle(lambda event: calls.append(event.offset))
    assert calls == [*range(failing + 1), *range(failing, 4)]
    assert committed(address, f"{orders}-group") == 4


async def test_an_async_handler_is_awaited_and_can_be_skipped(address: str, orders: str) -> None:
    send_numbers(address, orders, 3)
    handler, calls = failing_on(1)

    async def handle(event: hw.Event[Any]) -> None:
        await asyncio.sleep(0)
        handler(event)

    async with consumer(address, orders, idle_timeout_ms=1000) as events:
        await events.handle(handle, on_error=hw.Skip())
    assert calls == [0, 1, 2]
    assert committed(address, f"{orders}-group") == 3


# -- positions, groups, admin


def test_seeking_by_offset_and_by_time(address: str, orders: str) -> None:
    first = datetime.now(UTC) - timedelta(hours=1)
    with hw.Producer(address) as producer:
        for n in range(5):
            moment = first + timedelta(minutes=n)
            producer.send(orders, n, partition=0, timestamp=int(moment.timestamp() * 1000))
    with consumer(address, orders, commit="manual") as events:
        assert len(events.take(5, WAIT_MS)) == 5
        events.seek(orders, 0, 2)
        assert [event.offset for event in events.take(3, WAIT_MS)] == [2, 3, 4]
        events.seek_to_time(first + timedelta(minutes=3))
        assert [event.offset for event in events.take(2, WAIT_MS)] == [3, 4]


def test_lag_and_pause(address: str, orders: str) -> None:
    send_numbers(address, orders, 5)
    with consumer(address, orders) as events:
        assert len(events.take(2, WAIT_MS)) == 2
        assert events.lag()[hw.Partition(orders, 0)] == 3
        events.pause()
        assert events.take(1, 300) == []
        events.resume()
        assert len(events.take(3, WAIT_MS)) == 3
    with hw.Admin(address) as admin:
        assert admin.lag(f"{orders}-group")[hw.Partition(orders, 0)] == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_share_partitions_and_are_notified(address: str, orders: str, protocol: str) -> None:
    send_numbers(address, orders, 1)
    told: list[tuple[str, int]] = []
    first = consumer(
        address,
        orders,
        protocol=protocol,
        idle_timeout_ms=None,
        on_assigned=lambda partitions: told.append(("assigned", len(partitions))),
        on_revoked=lambda partitions: told.append(("revoked", len(partitions))),
    )
    with first, consumer(address, orders, protocol=protocol) as second:
        deadline = threading.Event()
        timer = threading.Timer(WAIT_MS / 1000, deadline.set)
        timer.start()
        try:
            while not (len(first.assignment()) == len(second.assignment()) == 1) and not deadline.is_set():
                first.take(1, 50)
                second.take(1, 50)
        finally:
            timer.cancel()
        assert {len(first.assignment()), len(second.assignment())} == {1}
    assert sum(number for what, number in told if what == "assigned") >= 1


def test_a_group_that_starts_at_the_end_gets_what_comes_then(address: str, orders: str) -> None:
    send_numbers(address, orders, 3)
    with consumer(address, orders, start="latest") as events:
        while not events.assignment():
            events.take(1, 50)
        send_numbers(address, orders, 1)
        (event,) = events.take(1, WAIT_MS)
    assert event.offset == 3


def test_stop_ends_an_iteration_from_another_thread(address: str, orders: str) -> None:
    with consumer(address, orders, idle_timeout_ms=None) as events:
        threading.Timer(0.05, events.stop).start()
        assert list(events) == []


async def test_admin_makes_configures_and_deletes(address: str, name: str) -> None:
    async with hw.Admin(address) as admin:
        await admin.create_topic(name, 3, configs={"retention.ms": 1000})
        with pytest.raises(TopicExistsError):
            await admin.create_topic(name)
        await admin.create_topic(name, exist_ok=True)
        assert (await admin.topics())[name].partitions == 3
        assert (await admin.configs(name))["retention.ms"] == "1000"
        await admin.set_configs(name, {"retention.ms": None, "max.message.bytes": 2000})
        assert (await admin.configs(name))["max.message.bytes"] == "2000"
        assert (await admin.describe_configs(name))["max.message.bytes"].is_own
        assert not (await admin.describe_configs(name))["retention.ms"].is_own
        await admin.delete_topic(name)
        with pytest.raises(UnknownTopicError, match=f"topic {name} does not exist"):
            await admin.describe_topic(name)
        with pytest.raises(UnknownTopicError, match="create_topic"):
            await admin.delete_topic(name)
        await admin.delete_topic(name, missing_ok=True)


def test_admin_describes_the_cluster_a_topic_and_its_offsets(address: str, orders: str) -> None:
    send_numbers(address, orders, 4)
    with hw.Admin(address) as admin:
        cluster = admin.cluster()
        (node,) = cluster.nodes.values()
        assert f"{node.host}:{node.port}" == address
        assert cluster.controller == node.id
        assert len(cluster.id) == 22
        topic = admin.describe_topic(orders)
        assert [p.partition for p in topic.partitions] == [0, 1]
        assert {(p.leader, *p.replicas, *p.in_sync) for p in topic.partitions} == {(node.id, node.id, node.id)}
        ends = admin.end_offsets(orders)
        assert sum(ends.values()) == 4
        assert admin.offsets_at(orders, datetime(2100, 1, 1, tzinfo=UTC)) == ends
        admin.delete_records(orders, 0, ends[hw.Partition(orders, 0)])
        starts = admin.start_offsets(orders)
        assert starts[hw.Partition(orders, 0)] == ends[hw.Partition(orders, 0)]
        assert admin.offsets_at(orders, datetime(2000, 1, 1, tzinfo=UTC)) == starts
        with pytest.raises(ConfigurationError, match="time zone"):
            admin.offsets_at(orders, datetime(2000, 1, 1))
        with pytest.raises(ConfigurationError, match="kind is 'table'"):
            admin.describe_configs("t", kind="table")  # type: ignore[arg-type] # wrong on purpose


def test_admin_sees_and_moves_groups(address: str, orders: str) -> None:
    send_numbers(address, orders, 4)
    group = f"{orders}-group"
    with hw.Admin(address) as admin:
        with consumer(address, orders) as events:
            assert len(events.take(4, WAIT_MS)) == 4
            description = admin.describe_group(group)
            assert sum(map(len, description.members.values())) == 2
            assert description.hosts.keys() == description.members.keys()
            assert description.state == "Stable"
        assert group in admin.groups()
        assert (group, "classic") in [(listing.group, listing.type) for listing in admin.list_groups()]
        admin.set_committed(group, {hw.Partition(orders, 0): 1})
        assert admin.lag(group) == {hw.Partition(orders, 0): 3}
        admin.delete_records(orders, 0, 2)
        assert admin.end_offsets(orders)[hw.Partition(orders, 0)] == 4
        admin.delete_group(group)
        assert group not in admin.groups()


# -- errors say what to do


def test_errors_are_typed_and_say_what_to_do(address: str, orders: str) -> None:
    with hw.Producer(address, settings={"message.max.bytes": 2000}) as producer:
        with pytest.raises(RecordTooLargeError, match=r"message\.max\.bytes"):
            producer.send(orders, b"x" * 5000)
        with pytest.raises(hw.SerializationError):
            producer.send(orders, object())
        with pytest.raises(hw.ClientError, match="transactional_id"), producer.transaction():
            pass
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        hw.Producer(address, settings={"no.such.setting": 1})
    with pytest.raises(ValueError, match="commit"):
        hw.Consumer(address, orders, group="g", commit="sometimes")  # type: ignore[arg-type]
    with pytest.raises(BrokerUnavailableError, match="address"), hw.Admin("127.0.0.1:1", timeout_ms=500) as admin:
        admin.topics()
    events = consumer(address, orders)
    events.close()
    events.close()
    with pytest.raises(ConsumerClosedError):
        events.take(1)


def test_a_batch_says_how_many_records_failed(orders: str) -> None:
    settings = {"message.timeout.ms": 20, "enable.idempotence": False}
    with hw.Producer("127.0.0.1:1", settings=settings) as producer:
        batch = producer.send_batch(orders, [1, 2, 3])
        with pytest.raises(ClientTimeoutError) as caught:
            batch.result(WAIT_MS)
        assert batch.failed == 3
        assert "3 of the 3" in caught.value.__notes__[0]


def test_a_failed_record_that_nobody_looked_at_is_raised_at_the_end(orders: str) -> None:
    settings = {"message.timeout.ms": 20, "enable.idempotence": False}
    producer = hw.Producer("127.0.0.1:1", settings=settings)
    producer.send(orders, 1)
    producer.send(orders, 2)
    with pytest.raises(ClientTimeoutError, match=orders):
        producer.close()

    def fail_otherwise() -> None:
        with hw.Producer("127.0.0.1:1", settings=settings) as producer:
            producer.send(orders, 1)
            raise KeyError

    with pytest.raises(KeyError):  # what the block raised is not hidden
        fail_otherwise()


async def test_a_full_queue_is_named_on_a_loop_and_waited_for_in_a_batch(address: str, orders: str) -> None:
    async with hw.Producer(address, settings={"queue.buffering.max.messages": 10, "linger.ms": 50}) as producer:
        with pytest.raises(hw.ClientError, match="send_batch"):  # noqa: PT012
            for n in range(100):
                producer.send(orders, n)
        assert (await producer.send_batch(orders, range(100))).delivered == 100
