"""How the commands say what went wrong: in one line, with what to do."""

from typing import Any, NoReturn

import typer
from confluent_kafka import KafkaError

# What typer raises for wrong options: the base of its public BadParameter, which it does not export itself.
UsageError: Any = typer.BadParameter.__base__
UNREACHABLE = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})
REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE})


class CommandError(Exception):
    """What a user can mend; the message is all that is shown."""


def counted(count: int, one: str, more: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count} {one if count == 1 else more}"


class Contact:
    """What librdkafka reports of its connections: it keeps trying, so the reason comes separately from the answers.

    It is the client's `error_cb`, which is called within `poll`.
    """

    def __init__(self, addresses: str) -> None:
        self.addresses = addresses
        self.reason = ""
        self.is_refused = False  # the broker was reached and lets nobody in, or its name leads nowhere
        self.is_down = False  # no broker of the cluster can be reached

    def __call__(self, error: KafkaError) -> None:
        if error.code() in REFUSED and not self.is_refused:
            self.is_refused, self.reason = True, error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.is_down = True
        elif error.code() == KafkaError._TRANSPORT and not self.reason:
            self.reason = error.str()

    @property
    def is_lost(self) -> bool:
        """Whether it makes no sense to wait any longer."""
        return self.is_refused or self.is_down

    def error(self, cause: str = "") -> CommandError:
        """Why there is no answer."""
        if self.is_refused:
            return CommandError(
                f"{self.addresses}: {self.reason}; look at security.protocol, sasl.* and ssl.* given with -X"
            )
        closed = "it closes the connection; does it want TLS or a login, -X security.protocol=…?"
        reason = self.reason or (closed if self.is_down else cause or "it took too long")
        return CommandError(
            f"no answer from the broker at {self.addresses} ({reason}); is it running, and is --bootstrap-server right?"
        )


def kafka_message(error: Any, contact: Contact | None = None, about: str = "") -> str:
    """A Kafka error as a line; `about` names what was asked for, such as a topic."""
    if not isinstance(error, KafkaError):
        return str(error)
    if error.code() in UNREACHABLE | REFUSED:
        contact = contact or Contact("--bootstrap-server")
        if error.code() in REFUSED:
            contact(error)
        return str(contact.error(error.str()))
    text = f"{error.str()} ({error.name()})"
    return f"{about}: {text}" if about else text


def fail(error: Any, contact: Contact | None = None, about: str = "") -> NoReturn:
    """Raises CommandError."""
    raise CommandError(kafka_message(error, contact, about))
