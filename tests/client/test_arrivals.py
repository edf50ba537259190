"""What one call of librdkafka brings, sorted apart."""

from confluent_kafka import KafkaError, Message

from headwater.client.arrivals import arrivals


def message(partition: int, offset: int, error: int | None = None) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=None if error is None else KafkaError(error))


def end(partition: int, offset: int) -> Message:
    return message(partition, offset, KafkaError._PARTITION_EOF)


def test_messages_alone_are_handed_on_as_they_are() -> None:
    found = [message(0, 1), message(1, 1)]
    assert arrivals(found).messages is found
    assert arrivals(found)[1:] == ({}, [])


def test_an_end_stands_until_a_message_comes_after_it() -> None:
    """Offset 3 of partition 1 is a transaction's marker: the end is after it."""
    found = [end(0, 1), message(0, 1), message(1, 2), end(1, 4)]
    messages, ends, errors = arrivals(found)
    assert messages == [found[1], found[2]]
    assert ends == {("t", 1): 4}
    assert errors == []


def test_errors_are_neither_messages_nor_ends() -> None:
    lost = message(0, 7, KafkaError.OFFSET_OUT_OF_RANGE)
    messages, ends, errors = arrivals([lost, end(1, 2)])
    assert (messages, ends) == ([], {("t", 1): 2})
    assert [(place, error.code()) for place, error in errors] == [(("t", 0), KafkaError.OFFSET_OUT_OF_RANGE)]
