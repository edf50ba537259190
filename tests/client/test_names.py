"""Names and arguments that librdkafka must not get: each is refused with what to do, and none ends the process."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import headwater as hw
from headwater.client.connections import address_of
from headwater.client.errors import ConfigurationError, InvalidNameError
from headwater.client.names import checked_text, checked_timeout_ms, checked_topic

NOWHERE = "127.0.0.1:1"
NOT_UTF8 = "\ud800"
BAD_TEXTS: list[Any] = ["", None, 5, b"bytes", "a\0b", NOT_UTF8, "x" * 40_000, "é" * 20_000]
BAD_TOPICS: list[Any] = [*BAD_TEXTS, ".", "..", "a b", "a/b", "x" * 250, "é"]
WAIT_MS = 20_000.0


@pytest.mark.parametrize("name", BAD_TEXTS, ids=lambda name: repr(name)[:10])
def test_bad_names_of_groups_and_ids_are_refused(name: Any) -> None:
    for what in ("group", "instance_id", "settings"):
        more: dict[str, Any] = {"group": "g", **({what: name} if what != "settings" else {})}
        if what == "settings":
            more["settings"] = {"group.id": name}
        if what == "instance_id" and name is None:
            continue
        with pytest.raises(ConfigurationError):
            hw.Consumer(NOWHERE, "t", **more)
    if name is not None:
        with pytest.raises(InvalidNameError):
            hw.Producer(NOWHERE, transactional_id=name)
    with hw.Admin(NOWHERE) as admin:
        calls: list[Callable[[Any], object]] = [admin.describe_group, admin.committed, admin.lag, admin.delete_group]
        for call in [*calls, admin.delete_topic, admin.configs, admin.end_offsets]:
            with pytest.raises(InvalidNameError):
                call(name)
        with pytest.raises(InvalidNameError):
            admin.set_committed(name, {hw.Partition("t", 0): 1})
        with pytest.raises(InvalidNameError):
            admin.create_topic("t", configs={name: "1"})
        with pytest.raises(InvalidNameError):
            admin.set_configs("t", {name: "1"})


@pytest.mark.parametrize("topic", BAD_TOPICS, ids=lambda name: repr(name)[:10])
def test_bad_topics_are_refused(topic: Any) -> None:
    with hw.Producer(NOWHERE) as producer, pytest.raises(InvalidNameError):
        producer.send(topic, b"x")
    with hw.Producer(NOWHERE) as producer, pytest.raises(InvalidNameError):
        producer.send_batch(topic, [b"x"])
    with pytest.raises(InvalidNameError):
        hw.Consumer(NOWHERE, [topic], group="g")
    with hw.Admin(NOWHERE) as admin, pytest.raises(InvalidNameError):
        admin.create_topic(topic)


def test_an_empty_group_among_the_settings_or_none_at_all_is_refused() -> None:
    with pytest.raises(InvalidNameError, match=r"group\.id.*environment variable"):
        hw.Consumer(NOWHERE, "t", group="g", settings={"group.id": ""})
    with pytest.raises(InvalidNameError, match="group"):
        hw.Consumer(NOWHERE, "t", group="g", settings={"group.id": None})
    with pytest.raises(InvalidNameError, match="no topics"):
        hw.Consumer(NOWHERE, [], group="g")
    with pytest.raises(ConfigurationError, match="subscribing"):
        hw.Consumer(NOWHERE, "^[", group="g")


@pytest.mark.parametrize(
    "settings", [{NOT_UTF8: "x"}, {"client.id": NOT_UTF8}, {"client.id": "a\0b"}, {"": "x"}, {5: "x"}]
)
def test_settings_that_are_no_text_are_refused(settings: Any) -> None:
    for make in (hw.Producer, hw.Admin):
        with pytest.raises(ConfigurationError):
            make(NOWHERE, settings=settings)
    with pytest.raises(ConfigurationError):
        hw.Consumer(NOWHERE, "t", group="g", settings=settings)


def test_a_password_that_is_not_text_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        hw.Producer(NOWHERE, settings={"sasl.password": f"secret{NOT_UTF8}"})
    assert "sasl.password" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{NOT_UTF8: "x"}, {"a": NOT_UTF8}, {b"a": "x"}, {None: "x"}, {"a": 5}, "text", 5, ["ab", "c"], [("a",)]]
)
def test_headers_that_are_none_are_refused(headers: Any) -> None:
    with hw.Producer(NOWHERE) as producer, pytest.raises(hw.SerializationError, match="header"):
        producer.send("t", b"x", headers=headers)


def test_keys_and_values_that_are_no_text_are_refused() -> None:
    with hw.Producer(NOWHERE) as producer:
        with pytest.raises(hw.SerializationError, match="UTF-8"):
            producer.send("t", NOT_UTF8)
        with pytest.raises(hw.SerializationError, match="UTF-8"):
            producer.send("t", b"x", key=NOT_UTF8)
    with hw.Producer(NOWHERE, key=int) as producer, pytest.raises(hw.SerializationError, match="int"):
        producer.send("t", b"x", key=b"bytes")


@pytest.mark.parametrize("place", [{"partition": -2}, {"partition": 2**40}, {"partition": "0"}, {"timestamp": -1}])
def test_places_that_are_none_are_refused(place: Any) -> None:
    with hw.Producer(NOWHERE) as producer, pytest.raises(ConfigurationError, match="sending to t: "):
        producer.send("t", b"x", **place)


@pytest.mark.parametrize(
    "broker",
    [None, "", [], "host:", "host:0", "host:99999", "host:-1", "a b", b"host:1", 9092, ["host:1", None], "a\0:1"],
)
def test_invalid_addresses_are_refused(broker: Any) -> None:
    for make in (hw.Producer, hw.Admin):
        with pytest.raises(ConfigurationError, match=r"broker"):
            make(broker)


@pytest.mark.parametrize(
    "broker",
    ["localhost", "a.b:9092", "[::1]:9092", "::1", "PLAINTEXT://h:9092", "a:1,b:2", "a:1, b:2", ["a:1", "b:2"]],
)
def test_addresses_that_can_be_meant_are_left_alone(broker: Any) -> None:
    assert address_of(broker).replace(",", "").replace(" ", "") == "".join(broker).replace(",", "").replace(" ", "")


@pytest.mark.parametrize("timeout_ms", [-1, -0.5, float("nan"), "5", None])
def test_times_to_wait_that_would_never_end_are_refused(timeout_ms: Any) -> None:
    with pytest.raises(ConfigurationError, match="milliseconds"):
        checked_timeout_ms(timeout_ms)
    with hw.Producer(NOWHERE) as producer, pytest.raises(ConfigurationError):
        producer.flush(timeout_ms)
    with pytest.raises(ConfigurationError):
        hw.Admin(NOWHERE, timeout_ms=timeout_ms)


def test_other_arguments_name_their_choices() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"start": "begin"}, "'earliest' or 'latest'"),
        ({"commit": "sometimes"}, "'auto' or 'manual'"),
        ({"protocol": "new"}, "'classic' or 'consumer'"),
        ({"batch_max": 0}, "1 to"),
        ({"batch_max": 10**7}, "1 to"),
        ({"idle_timeout_ms": -1}, "idle_timeout_ms"),
        ({"settings": {"max.poll.interval.ms": "soon"}}, "max.poll.interval.ms"),
    ]
    for arguments, said in wrong:
        with pytest.raises(ConfigurationError, match=said):
            hw.Consumer(NOWHERE, "t", group="g", **arguments)
    bogus: Any = "bogus"
    with pytest.raises(ConfigurationError, match="binary, structured, none"):
        hw.Producer(NOWHERE, cloudevents=bogus)


def test_names_that_kafka_takes_pass() -> None:
    for topic in ("a", "A.b_c-9", "x" * 249, "..."):
        assert checked_topic(topic) == topic
    for text in ("é" * 16_000, "a b/c", "x" * 32_767):
        assert checked_text("the group", text) == text


def test_what_is_closed_says_so(address: str, orders: str) -> None:
    producer = hw.Producer(address)
    consumer = hw.Consumer(address, orders, group="closed")
    producer.close()
    producer.close()
    consumer.close()
    consumer.close()
    calls: list[Any] = [lambda: producer.send(orders, 1), producer.flush, lambda: producer.send_batch(orders, [1])]
    for call in calls:
        with pytest.raises(hw.ClientError, match="the producer is closed"):
            call()
    assert len(producer) == 0
    partition = hw.Partition(orders, 0)
    calls = [
        consumer.assignment,
        consumer.pause,
        consumer.resume,
        consumer.lag,
        consumer.commit,
        lambda: consumer.seek(*partition, 0),
        lambda: consumer.take(1),
        lambda: next(iter(consumer)),
        lambda: consumer.handle(print),
    ]
    for call in calls:
        with pytest.raises(hw.ClientError, match="the consumer is closed"):
            call()
    assert "closed" in repr(producer)
    assert "closed" in repr(consumer)


def test_reprs_say_what_a_thing_is(address: str, orders: str) -> None:
    with hw.Producer(address) as producer, hw.Admin(address) as admin:
        assert repr(producer) == f"<Producer to {address}>"
        assert repr(admin) == f"<Admin of {address}>"
    with hw.Consumer(address, orders, group="repr") as consumer:
        assert repr(consumer) == f"<Consumer of {orders} in group repr>"


# -- keys go where Java's producers send them


# Partitions of 10 for keys, as kafka-clients' Utils.toPositive(Utils.murmur2(key)) % 10 says: from librdkafka's and
# sarama's tests, which took them from Java.
MURMUR2 = {b"kafka": 0xD067CF64, b"giberish123456789": 0x8F552B0C, b"1234": 0x9FC97B14, b"234": 0xE7C009CA}
MURMUR2 |= {b"34": 0x873930DA, b"4": 0x5A4B5CA1, b"PreAmbleWillBeRemoved,ThePrePartThatIs": 0x78424F1C}


def test_a_key_goes_where_javas_producer_sends_it(address: str, name: str) -> None:
    with hw.Admin(address) as admin:
        admin.create_topic(name, 10)
    with hw.Producer(address) as producer:
        placed = {key: producer.send(name, b"", key=key) for key in MURMUR2}
        partitions = {key: delivery.result(WAIT_MS).partition for key, delivery in placed.items()}
    assert partitions == {key: (code & 0x7FFFFFFF) % 10 for key, code in MURMUR2.items()}
    # The CRC32 of librdkafka's own default would put some elsewhere: so this test can fail.
    with hw.Producer(address, settings={"partitioner": "consistent_random"}) as producer:
        placed = {key: producer.send(name, b"", key=key) for key in MURMUR2}
        others = {key: delivery.result(WAIT_MS).partition for key, delivery in placed.items()}
    assert any(itertools.starmap(lambda key, number: others[key] != number, partitions.items()))
