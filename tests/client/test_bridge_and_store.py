"""A bus and a broker as one: the bridge both ways, and a bus whose events are kept in a topic."""

import asyncio
import logging
from typing import Any

import pytest

import headwater as hw
from headwater.bus.errors import QueueFullError
from headwater.client.errors import ConfigurationError

TIMEOUT_S = 20


async def until(events: list[Any], number: int) -> None:
    """Returns when that many events are there."""
    async with asyncio.timeout(TIMEOUT_S):
        while len(events) < number:
            await asyncio.sleep(0.005)


async def made(address: str, topic: str) -> None:
    """A Kafka makes no topic by itself where it is not allowed to."""
    async with hw.Admin(address) as admin:
        await admin.create_topic(topic, exist_ok=True)


async def bridged(address: str, topic: str, bus: hw.Bus, group: str | None = None) -> Any:
    async with hw.Admin(address) as admin:
        await admin.create_topic(topic, exist_ok=True)
    return hw.bridge(bus, address, f"{topic.partition('.')[0]}.#", group=group)


async def test_events_go_both_ways_and_each_once(address: str, name: str) -> None:
    bus, topic = hw.Bus(), f"{name}.eu"
    async with await bridged(address, topic, bus) as bridge:
        await bridge.wait_ready()
        with bus.watch(f"{name}.#") as seen:
            sent = await bus.publish(topic, {"from": "bus"}, key="k", headers={"origin": "here"})
            async with hw.Producer(address) as producer:
                await producer.send(topic, {"from": "broker"})
            await until(seen.events, 2)
            async with hw.Consumer(address, topic, group=f"{name}-check") as consumer:
                stored = await consumer.take(2, 20_000)
        # What came from the bus is in the log once, and did not come back; what came from the broker was not sent again.
        assert sorted(event.value["from"] for event in stored) == ["broker", "bus"]
        from_bus = next(event for event in stored if event.value["from"] == "bus")
        assert (from_bus.id, from_bus.key, from_bus.headers["origin"]) == (sent.id, "k", "here")
        await bus.drain()
        assert len(seen.events) == 2
    async with hw.Admin(address) as admin:
        assert sum((await admin.end_offsets(topic)).values()) == 2


async def test_two_processes_worth_of_buses_meet_over_the_broker(address: str, name: str) -> None:
    one, two, topic = hw.Bus(), hw.Bus(), f"{name}.x"
    async with await bridged(address, topic, one) as first, await bridged(address, topic, two) as second:
        await first.wait_ready()
        await second.wait_ready()
        with two.watch(topic) as seen:
            cause = await one.publish(topic, 1)
            await until(seen.events, 1)
            assert seen.events[0].value == 1
            assert seen.events[0].correlation_id == cause.id


async def test_a_bridge_with_a_group_gets_what_it_missed(address: str, name: str) -> None:
    topic = f"{name}.late"
    await made(address, topic)
    async with hw.Producer(address) as producer:
        await producer.send(topic, "early")
    bus = hw.Bus()
    with bus.watch(topic) as seen:
        async with await bridged(address, topic, bus, group=name):
            await until(seen.events, 1)
    assert seen.values == ["early"]


async def test_a_bus_keeps_its_events_in_a_topic(address: str, name: str) -> None:
    store = hw.TopicStore(address, name)
    async with hw.Bus(store=store) as bus:
        events = [await bus.publish(f"orders.{n}", {"n": n}, key=n) for n in range(3)]
    again = hw.Bus(store=store)
    seen: list[hw.Event[Any]] = []
    again.subscribe("orders.#", seen.append)
    assert await again.replay_store("orders.#") == 3
    await again.drain()
    assert [(e.topic, e.value, e.key, e.id) for e in seen] == [(e.topic, e.value, str(e.key), e.id) for e in events]
    await store.close()


async def test_a_bus_event_store_is_kept_for_ever(address: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    store = hw.TopicStore(address, name)
    await store.close()
    async with hw.Admin(address) as admin:
        configs = await admin.configs(name)
        assert (configs["retention.ms"], configs["cleanup.policy"]) == ("-1", "delete")
        assert caplog.records == []
        await admin.set_configs(name, {"retention.ms": "1000"})
        await hw.TopicStore(address, name).close()
        assert "does not keep its events for ever: {'retention.ms': '1000'}" in caplog.text
        await admin.create_topic(f"{name}-2", 2)
    with pytest.raises(ConfigurationError, match="has 2 partitions"):
        hw.TopicStore(address, f"{name}-2")


async def replayed(store: hw.TopicStore) -> list[Any]:
    async with asyncio.timeout(TIMEOUT_S):
        return [event.value async for event in store.read()]


async def test_a_replay_ends_where_events_are_deleted_or_markers_are_last(address: str, name: str) -> None:
    store = hw.TopicStore(address, name)
    assert await replayed(store) == []
    async with hw.Bus(store=store) as bus:
        for n in range(3):
            await bus.publish("orders", n)
    assert await replayed(store) == [0, 1, 2]
    with hw.Producer(address, transactional_id=name) as producer, producer.transaction():
        producer.send(name, 3)
    # The last offset is now that of a marker, which no consumer gets.
    assert await replayed(store) == [0, 1, 2, 3]
    with pytest.raises(KeyError), hw.Producer(address, transactional_id=name) as producer, producer.transaction():  # noqa: PT012
        producer.send(name, 4)
        producer.flush()
        raise KeyError
    assert await replayed(store) == [0, 1, 2, 3]
    async with hw.Admin(address) as admin:
        await admin.delete_records(name, 0, 2)
        assert await replayed(store) == [2, 3]
        (end,) = (await admin.end_offsets(name)).values()
        await admin.delete_records(name, 0, end)
    assert await replayed(store) == []
    await store.close()


async def test_two_replays_at_once_both_get_everything(address: str, name: str) -> None:
    store = hw.TopicStore(address, name)
    async with hw.Bus(store=store) as bus:
        await bus.publish("orders", 1)
    first, second = await asyncio.gather(replayed(store), replayed(store))
    assert first == second == [1]
    await store.close()


# -- what a bridge's bus cannot take


async def test_an_event_that_cannot_be_read_is_named_and_the_bridge_continues(
    address: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bus = hw.Bus()
    await made(address, name)
    async with hw.Producer(address) as producer:
        await producer.send(name, b"not json", headers={"content-type": "application/json"})
        await producer.send(name, {"n": 1})
    with bus.watch(name) as seen:
        async with hw.bridge(bus, address, name, group=name):
            await until(seen.events, 1)
    assert seen.values == [{"n": 1}]
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "is skipped" in record.getMessage()
    assert name in record.getMessage()


async def test_an_event_that_cannot_be_read_can_be_put_aside_or_end_the_bridge(address: str, name: str) -> None:
    await made(address, name)
    async with hw.Producer(address) as producer:
        await producer.send(name, b"not json", headers={"content-type": "application/json"})
    async with hw.Admin(address) as admin:
        await admin.create_topic(f"{name}.dead")
    with pytest.raises(hw.DeserializationError):  # noqa: PT012
        async with hw.bridge(hw.Bus(), address, name, group=f"{name}-1", on_error=hw.Stop()) as bridge:
            assert bridge.task is not None
            await asyncio.wait([bridge.task], timeout=TIMEOUT_S)
    async with (
        hw.bridge(hw.Bus(), address, name, group=f"{name}-2", on_error=hw.DeadLetter()),
        hw.Consumer(address, f"{name}.dead", group=f"{name}-3") as consumer,
    ):
        (letter,) = await consumer.take(1, 20_000)
    assert letter.raw == b"not json"


async def test_a_full_queue_does_not_end_a_bridge(address: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    await made(address, name)
    bus, held = hw.Bus(), asyncio.Event()

    async def hold(event: hw.Event[Any]) -> None:
        await held.wait()

    bus.subscribe(name, hold, queue_size_max=1, overflow="fail")
    with bus.watch(name) as seen:
        async with hw.Producer(address) as producer, hw.bridge(bus, address, name, group=name) as bridge:
            for n in range(4):
                await producer.send(name, n, partition=0)
            await until(seen.events, 4)
            held.set()
            assert bridge.task is not None
            assert not bridge.task.done()
    assert seen.values == [0, 1, 2, 3]
    errors = [r.exc_info[1] for r in caplog.records if r.exc_info]
    assert [type(error) for error in errors] == [QueueFullError] * 2


async def test_a_bridge_to_a_bus_that_was_closed_loses_nothing(address: str, name: str) -> None:
    await made(address, name)
    bus = hw.Bus()
    async with hw.bridge(bus, address, name, group=name) as bridge:
        await bus.close()
        async with hw.Producer(address) as producer:
            await producer.send(name, "late")
        assert bridge.task is not None
        await asyncio.wait([bridge.task], timeout=TIMEOUT_S)
        assert bridge.task.done()
    again = hw.Bus()
    with again.watch(name) as seen:
        async with hw.bridge(again, address, name, group=name):
            await until(seen.events, 1)
    assert seen.values == ["late"]
    with pytest.raises(hw.ClientError, match="group"):
        hw.bridge(bus, address, name, group="")
