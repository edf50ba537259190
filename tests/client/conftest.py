"""The same tests on a Headwater broker and, in the interop suite, on a real Kafka (tests/interop/test_client_on_kafka.py)."""

from collections.abc import Iterator

import pytest

import headwater as hw
from headwater.testing import TestBroker


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A broker for a module's tests; each test has topics and groups of its own."""
    with TestBroker() as broker:
        yield broker.address


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for this test's topic and group."""
    return str(request.node.name).replace("[", "-").replace("]", "")


@pytest.fixture
def orders(address: str, name: str) -> str:
    """A topic with two partitions."""
    with hw.Admin(address) as admin:
        admin.create_topic(name, 2)
    return name
