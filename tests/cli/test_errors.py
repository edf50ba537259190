"""What is said of a broker that does not answer, without one."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from headwater.cli.errors import CommandError, Contact, counted, kafka_message
from headwater.cli.options import client_settings, patient


def nothing(timeout_s: float) -> None:
    """A client without events."""


def test_the_first_refusal_is_the_reason() -> None:
    contact = Contact("here:1")
    contact(KafkaError(KafkaError._TRANSPORT, "Disconnected"))
    contact(KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: wrong"))
    contact(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert contact.is_refused
    assert str(contact.error()).startswith("here:1: SASL authentication error: wrong; ")


def test_a_broker_that_is_down_is_named_with_the_reason() -> None:
    contact = Contact("here:1,there:2")
    contact(KafkaError(KafkaError._TRANSPORT, "Connection refused"))
    contact(KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down"))
    assert contact.is_lost
    assert "here:1,there:2 (Connection refused)" in kafka_message(KafkaError(KafkaError._TIMED_OUT, "late"), contact)


def test_asking_continues_until_there_is_an_answer() -> None:
    answers: list[KafkaException | str] = [KafkaException(KafkaError(KafkaError._TIMED_OUT, "late")), "topics"]

    def ask(timeout_s: float) -> str:
        answer = answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    assert patient(Contact("here:1"), nothing, ask) == "topics"


def test_asking_ends_where_nobody_is_let_in() -> None:
    contact = Contact("here:1")
    asked = []

    def ask(timeout_s: float) -> str:
        asked.append(timeout_s)
        contact(KafkaError(KafkaError._SSL, "certificate verify failed"))
        raise KafkaException(KafkaError(KafkaError._TRANSPORT, "failed"))

    with pytest.raises(CommandError, match="here:1: certificate verify failed"):
        patient(contact, nothing, ask)
    assert len(asked) == 1


def test_an_error_says_what_it_is_about() -> None:
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert kafka_message(error, None, "topic nope").startswith("topic nope: ")


def test_one_is_not_many() -> None:
    assert (counted(1, "record", "records"), counted(2, "record", "records")) == ("1 record", "2 records")


@pytest.mark.parametrize("text", ["no-sign", "@/no/such/file"])
def test_settings_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(CommandError, match=text.removeprefix("@")):
        client_settings("here:1", [text])
