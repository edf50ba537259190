"""What the clients show is what the reference documents: everything else has an underscore."""

import re
from pathlib import Path

import pytest

import headwater as hw

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "python-api.md").read_text()
ADDRESS = "127.0.0.1:1"


def documented(name: str) -> set[str]:
    """The names in the table's row of a class."""
    (row,) = [line for line in REFERENCE.splitlines() if line.startswith("| ") and f"`{name}`" in line.split("|")[1]]
    return set(re.findall(r"`([a-z_]+)`", row.split("|")[2]))


def public(shown: object) -> set[str]:
    return {name for name in dir(shown) if not name.startswith("_")}


def test_a_consumer_shows_what_is_documented() -> None:
    consumer = hw.Consumer[int](ADDRESS, "t", group="g")
    try:
        assert public(consumer) == documented("Consumer")
        assert public(hw.AsyncConsumer(consumer._reader)) <= documented("AsyncConsumer")
    finally:
        consumer.close(timeout_ms=10)


def test_an_admin_shows_what_is_documented() -> None:
    section = REFERENCE.split("## Admin")[1].split("##")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    with hw.Admin(ADDRESS) as admin:
        assert public(admin) == names
        assert public(hw.AsyncAdmin(admin)) <= names


def test_a_reader_shows_what_is_documented() -> None:
    with hw.Broker() as broker, hw.Admin(broker) as admin:
        admin.create_topic("t")
        with hw.Reader[int](broker, "t") as reader:
            assert public(reader) == documented("Reader") - {"start", "end"}
            assert public(hw.AsyncReader(reader)) <= documented("AsyncReader")


@pytest.mark.parametrize("transactional_id", [None, "copies"])
def test_a_producer_shows_what_is_documented(transactional_id: str | None) -> None:
    producer = hw.Producer[int](ADDRESS, transactional_id=transactional_id)
    try:
        assert public(producer) == documented("Producer")
        assert public(hw.AsyncProducer(producer)) <= documented("AsyncProducer")
    finally:
        producer.close()
