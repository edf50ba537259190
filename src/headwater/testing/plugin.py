"""The pytest plugin: a fresh broker for each test that asks for one, and a transcript of all traffic if the test fails.

Fixtures: `broker` (a TestBroker), `topic` (named after the test), `producer` and `consumer` (of that topic), and their
async versions `async_producer` and `async_consumer`. If a project has fixtures with these names, its own are used.
"""

import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from headwater.client.async_consumer import AsyncConsumer
    from headwater.client.consumer import Consumer
    from headwater.client.producer import AsyncProducer, Producer
    from headwater.testing.broker import TestBroker
    from headwater.testing.topics import Topic

NAME_LENGTH_MAX = 200


@pytest.fixture
def broker() -> "Iterator[TestBroker]":
    """A broker for this test alone, in memory."""
    from headwater.testing.broker import TestBroker  # imported here, so that a run without a broker does not pay for it

    broker = TestBroker()
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def topic(broker: "TestBroker", request: pytest.FixtureRequest) -> "Topic":
    """A topic with one partition, named after the test."""
    return broker.topic(re.sub(r"[^\w.-]", "-", request.node.name)[:NAME_LENGTH_MAX])


@pytest.fixture
def producer(broker: "TestBroker") -> "Iterator[Producer[Any]]":
    """A producer connected to the broker. It is not idempotent, because an idempotent one is slower to start."""
    from headwater.client.producer import Producer
    from headwater.testing.topics import QUICK_PRODUCER

    with Producer[Any](broker, settings=QUICK_PRODUCER) as producer:
        yield producer


@pytest.fixture
def consumer(broker: "TestBroker", topic: "Topic") -> "Iterator[Consumer[Any]]":
    """A consumer of `topic`, in a group of its own, which stops if nothing arrives for ten seconds."""
    from headwater.client.consumer import Consumer

    with Consumer[Any](broker, topic.name, group=f"{topic.name}-group", idle_timeout_ms=10_000) as consumer:
        yield consumer


@pytest.fixture
def async_producer(producer: "Producer[Any]") -> "AsyncProducer[Any]":
    """The async version of `producer`."""
    from headwater.client.producer import AsyncProducer

    return AsyncProducer(producer)


@pytest.fixture
def async_consumer(consumer: "Consumer[Any]") -> "Iterator[AsyncConsumer[Any]]":
    """The async version of `consumer`."""
    from headwater.client.async_consumer import AsyncConsumer

    face = AsyncConsumer(consumer._reader)
    yield face
    face._executor.shutdown()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Imports the broker now if any test asks for one, so that the first of these tests does not wait for the import."""
    if any("broker" in getattr(item, "fixturenames", ()) for item in session.items):
        from headwater.testing.broker import prepare

        prepare()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds the transcript of a failed test's broker to its report."""
    outcome = yield
    report = outcome.get_result()
    broker: Any = getattr(item, "funcargs", {}).get("broker")
    if report.when == "call" and report.failed and hasattr(broker, "report"):
        report.sections.append(("headwater: all traffic", broker.report()))
