"""A writer that another one has shut out says so in every call, and always closes. librdkafka is a stand-in here."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from headwater.client.errors import ProducerFencedError
from headwater.client.topic_record import TopicRecord
from headwater.client.topic_writer import TopicWriter

WAIT_MS = 1000.0
NOWHERE = "127.0.0.1:1"


class ShutOutProducer:
    """librdkafka after a fatal error: a poll or flush raises the cause, once, and `produce` says no more than "fatal"."""

    def __init__(self, fails_to_begin: bool = False) -> None:
        self.cause = KafkaError(KafkaError._FENCED, "another one has the id", fatal=True)
        self.fails_to_begin, self.is_raised = fails_to_begin, False

    def begin_transaction(self) -> None:
        if self.fails_to_begin:
            raise KafkaException(self.cause)

    def produce(self, *_: Any, **__: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Local: Fatal error", fatal=True))

    def poll(self, _timeout_s: float) -> int:
        if not self.is_raised:
            self.is_raised = True
            raise KafkaException(self.cause)
        return 0

    flush = poll

    def abort_transaction(self, _timeout_s: float) -> None:
        raise KafkaException(self.cause)

    def purge(self) -> None: ...


@pytest.fixture
def writer() -> TopicWriter:
    return TopicWriter(NOWHERE, "names", "names-leader")


@pytest.mark.parametrize("is_reported", [False, True])
def test_a_record_that_is_refused_as_fatal_names_the_cause(writer: TopicWriter, is_reported: bool) -> None:
    writer.raw = ShutOutProducer()
    if is_reported:
        writer.notes.serve(writer.raw.poll)
    with pytest.raises(ProducerFencedError):
        writer.write([TopicRecord(b"a", b"1")], WAIT_MS)


def test_a_transaction_that_cannot_begin_names_the_cause(writer: TopicWriter) -> None:
    writer.raw = ShutOutProducer(fails_to_begin=True)
    with pytest.raises(ProducerFencedError):
        writer.write([TopicRecord(b"a", b"1")], WAIT_MS)


def test_a_flush_that_raises_the_cause_is_translated(writer: TopicWriter) -> None:
    writer.raw = ShutOutProducer()
    with pytest.raises(ProducerFencedError):
        writer.flush(WAIT_MS)


def test_a_close_does_not_raise_what_the_writes_have_raised(writer: TopicWriter) -> None:
    writer.raw = ShutOutProducer()
    writer.close()
    assert writer.raw.is_raised
