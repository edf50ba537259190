"""The tests of the Python client and the examples with a broker, on a real Apache Kafka."""

import pytest

from tests.client.conftest import name, orders
from tests.client.test_clients import *  # noqa: F403 - every test of the clients, with another `address`
from tests.client.test_handling import *  # noqa: F403
from tests.client.test_leadership import *  # noqa: F403
from tests.client.test_replayed_topic import *  # noqa: F403
from tests.client.test_transactions import *  # noqa: F403
from tests.examples.test_examples import PRINTED, WITH_BROKER, run_example

__all__ = ["name", "orders"]


@pytest.fixture(scope="module")
def address(kafka: str) -> str:
    return kafka


@pytest.mark.parametrize("example", WITH_BROKER)
def test_examples_run_on_kafka(kafka: str, example: str) -> None:
    printed = run_example(example, kafka).splitlines()
    assert [line for line in PRINTED[example] if line not in printed] == [], printed
