"""To which broker, with which settings: the same for producer, consumer and admin."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headwater.client.errors import ConfigurationError, translated

logger = logging.getLogger("headwater.client")
Made = TypeVar("Made")
NO_ANSWER = frozenset(
    {KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
)


class HasAddress(Protocol):
    """A broker in this process, `hw.Broker` for one."""

    @property
    def address(self) -> str: ...


BrokerLike: TypeAlias = HasAddress | str | Sequence[str]
Settings: TypeAlias = Mapping[str, Any]


def address_of(broker: BrokerLike) -> str:
    """`host:port`, several with commas."""
    if isinstance(broker, str):
        return broker
    if isinstance(broker, Sequence):
        return ",".join(broker)
    return broker.address


class Notes:
    """What librdkafka says outside of calls. It goes on trying; but why nobody is let in is worth more than a timeout."""

    def __init__(self) -> None:
        self.refusal: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self.refusal = error
        logger.log(logging.ERROR if error.fatal() else logging.DEBUG, "%s", error)

    def cause_of(self, error: KafkaError) -> KafkaError:
        """The refusal behind a broker that does not answer, or the error itself."""
        return self.refusal if self.refusal is not None and error.code() in NO_ANSWER else error


def merged(broker: BrokerLike, defaults: Settings, settings: Settings | None, notes: Notes) -> dict[str, Any]:
    """librdkafka's settings: the caller's come last and win."""
    common = {
        "bootstrap.servers": address_of(broker),
        "error_cb": notes,
        # It also waits this long before it connects to a broker that it has just heard of. Doubled with each failure.
        "reconnect.backoff.ms": 10,
    }
    return {**common, **defaults, **(settings or {})}


def made(make: type[Made], settings: dict[str, Any], what: str) -> Made:
    """Makes a client of librdkafka's. Raises ConfigurationError."""
    try:
        return make(settings, logger=logger)  # type: ignore[call-arg]
    except KafkaException as error:
        raise translated(error, what, ConfigurationError) from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
