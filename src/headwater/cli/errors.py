"""How the commands tell what went wrong: in one line, with what to do."""

from typing import Any, NoReturn

import typer
from confluent_kafka import KafkaError

# What typer raises for wrong options: the base of its public BadParameter, which it does not export itself.
UsageError: Any = typer.BadParameter.__base__


class CommandError(Exception):
    """What a user can mend; the message is all that is shown."""


def kafka_message(error: Any) -> str:
    """A Kafka error as a line."""
    if not isinstance(error, KafkaError):
        return str(error)
    if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
        return f"no answer from the broker ({error.str()}); is it running, and is --bootstrap-server right?"
    return f"{error.str()} ({error.name()})"


def fail(error: Any) -> NoReturn:
    raise CommandError(kafka_message(error))
