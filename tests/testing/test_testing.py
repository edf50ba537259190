"""What headwater.testing gives to tests: fresh brokers, faults, a clock, expectations, and a transcript."""

import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

import pytest

import headwater as hw
from headwater.broker.dispatch import SERVED
from headwater.client.errors import ClientTimeoutError
from headwater.protocol.apis import APIS
from headwater.testing import TestBroker, Topic, expect
from headwater.testing.faults import ApiName

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("number", range(3))
def test_every_test_has_a_fresh_broker(broker: TestBroker, topic: Topic, number: int) -> None:
    assert broker.events() == []
    topic.send(number)
    assert [event.value for event in broker.events()] == [number]


def test_the_fixtures_work_together(
    topic: Topic, producer: "hw.Producer[object]", consumer: "hw.Consumer[object]"
) -> None:
    producer.send(topic.name, {"a": 1})
    assert next(iter(consumer)).value == {"a": 1}


async def test_and_so_do_their_async_faces(
    topic: Topic, async_producer: "hw.AsyncProducer[object]", async_consumer: "hw.AsyncConsumer[object]"
) -> None:
    await async_producer.send(topic.name, {"a": 1})
    async for event in async_consumer:
        assert event.value == {"a": 1}
        break


def test_expectations_find_events_in_any_order_and_each_once(topic: Topic) -> None:
    for value in ("a", "b", "a"):
        topic.send(value, key=value)
    assert expect(topic).to_receive("b").offset == 1
    assert expect(topic).to_receive("a").offset == 0
    assert expect(topic).to_receive(key="a", where=lambda event: event.offset > 0).offset == 2
    expect(topic).to_receive_nothing(within_ms=50)


def test_an_expectation_that_fails_says_what_came(topic: Topic) -> None:
    topic.send({"id": 1})
    with pytest.raises(AssertionError, match="'id': 1"):
        expect(topic).to_receive({"id": 2}, within_ms=1000)
    with pytest.raises(AssertionError, match="received"):
        expect(topic).to_receive_nothing(within_ms=1000)


def test_causes_can_be_expected(broker: TestBroker) -> None:
    orders, payments = broker.topic("orders"), broker.topic("payments")
    orders.send("ordered")
    ordered = expect(orders).to_receive()
    with hw.handling(ordered):
        payments.send("paid")
    paid = expect(payments).to_receive("paid")
    expect(paid).to_be_caused_by(ordered)
    expect(paid).to_follow_from(ordered)
    payments.send("other")
    other = expect(payments).to_receive("other")
    with pytest.raises(AssertionError, match="caused"):
        expect(other).to_be_caused_by(ordered)
    with pytest.raises(AssertionError, match="belongs"):
        expect(other).to_follow_from(ordered)


def test_a_killed_broker_comes_back_with_what_it_acknowledged(broker: TestBroker, topic: Topic) -> None:
    topic.send("before")
    broker.kill()
    assert not broker.is_running
    broker.start()
    topic.send("after")
    assert [event.value for event in broker.events()] == ["before", "after"]


def test_a_lost_request_is_sent_again(broker: TestBroker, topic: Topic) -> None:
    topic.send("warm")
    with hw.Producer(broker) as producer:
        with broker.network.drop("Produce"):
            delivery = producer.send(topic.name, "kept")
            with pytest.raises(ClientTimeoutError):
                producer.flush(300)
            assert not delivery.is_done
        delivery.result(10_000)
    assert [event.value for event in broker.events()] == ["warm", "kept"]


def test_late_requests_stay_in_order(broker: TestBroker, topic: Topic) -> None:
    with broker.network.delay(20, "Produce"), hw.Producer(broker, settings={"linger.ms": 0}) as producer:
        for number in range(20):
            producer.send(topic.name, number)
    assert [event.value for event in broker.events()] == list(range(20))


def test_a_full_disk_refuses_writes_and_still_reads(broker: TestBroker, topic: Topic) -> None:
    topic.send("a")
    settings = {"message.timeout.ms": 500, "enable.idempotence": False}
    with broker.disk_full(), hw.Producer(broker, settings=settings) as producer:
        with pytest.raises(hw.ClientError):
            producer.send(topic.name, "b").result(10_000)
        assert [event.value for event in broker.events()] == ["a"]
    topic.send("c")
    assert [event.value for event in broker.events()] == ["a", "c"]


def test_the_clock_moves_retention(broker: TestBroker) -> None:
    topic = broker.topic("short", retention_ms=60_000)
    topic.send("old")
    broker.clock.advance(timedelta(days=1).total_seconds() * 1000)
    assert broker.events() == []


def test_the_clock_moves_sessions(broker: TestBroker, topic: Topic) -> None:
    with hw.Consumer(broker, topic.name, group="g") as consumer, hw.Admin(broker) as admin:
        while not consumer.assignment():
            consumer.take(1, 50)
        assert len(admin.describe_group("g").members) == 1
        broker.clock.advance(3_600_000)
        assert admin.describe_group("g").members == {}


def test_a_failed_test_shows_all_traffic(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(topic):\n    topic.send({'id': 42})\n    assert False\n")
    result = pytester.runpytest("-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*headwater: all traffic*", "*Produce*", "*'id': 42*"])


def test_a_failed_expectation_shows_the_test_and_not_headwater(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from headwater.testing import expect

        def test_value(topic):
            expect(topic).to_receive(value=1, within_ms=1)

        def test_nothing(topic):
            topic.send(1)
            expect(topic).to_receive_nothing(within_ms=20_000)

        def test_cause(topic):
            topic.send(1)
            event = expect(topic).to_receive()
            expect(event).to_be_caused_by(event)

        def test_chain(topic, broker):
            topic.send(1)
            topic.send(2)
            first = expect(topic).to_receive()
            expect(expect(topic).to_receive()).to_follow_from(first)
        """
    )
    result = pytester.runpytest("-p", "no:asyncio")
    result.assert_outcomes(failed=4)
    result.stdout.no_fnmatch_line("*expectations.py:*")
    result.stdout.fnmatch_lines(["*did not receive 1 within 1 ms*"])


def test_help_shows_what_a_default_means() -> None:
    assert "value: Any = anything" in str(inspect.signature(expect(Topic("127.0.0.1:1", "t")).to_receive))


@pytest.mark.parametrize("api", ["Prduce", "nonsense", "", 0])
def test_faults_of_apis_that_are_none_are_refused(broker: TestBroker, api: Any) -> None:
    with pytest.raises(ValueError, match=r"is not an API of the broker; .*it has .*Fetch, .*Produce"):
        broker.network.drop(api)
    with pytest.raises(ValueError, match="is not an API of the broker"):
        broker.network.delay(20, api)
    with pytest.raises(ValueError, match="did you mean 'Produce'"):
        broker.network.drop("Prduce")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 or more"):
        broker.network.delay(-1)
    assert (broker.network.delays, broker.network.dropped) == ([], [])


def test_faults_know_every_api_that_the_broker_serves() -> None:
    assert sorted(get_args(ApiName)) == sorted(APIS[key].name for key in SERVED)


@pytest.fixture
def running() -> Iterator[TestBroker]:
    with TestBroker() as broker:
        yield broker
        broker.close()


def test_it_works_without_the_plugin(running: TestBroker) -> None:
    running.topic("t").send(1)
    assert [event.value for event in running.events("t")] == [1]
