"""To which broker, with which settings: the same for producer, consumer and admin."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headwater.client.errors import ConfigurationError, translated

logger = logging.getLogger("headwater.client")
Made = TypeVar("Made")


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


def merged(broker: BrokerLike, defaults: Settings, settings: Settings | None) -> dict[str, Any]:
    """librdkafka's settings: the caller's come last and win."""
    common = {
        "bootstrap.servers": address_of(broker),
        "error_cb": note_error,
        # It also waits this long before it connects to a broker that it has just heard of. Doubled with each failure.
        "reconnect.backoff.ms": 10,
    }
    return {**common, **defaults, **(settings or {})}


def note_error(error: KafkaError) -> None:
    """librdkafka's errors outside of a call are for information: it goes on trying."""
    logger.log(logging.ERROR if error.fatal() else logging.DEBUG, "%s", error)


def made(make: type[Made], settings: dict[str, Any], what: str) -> Made:
    """Makes a client of librdkafka's. Raises ConfigurationError."""
    try:
        return make(settings, logger=logger)  # type: ignore[call-arg]
    except KafkaException as error:
        raise translated(error, what, ConfigurationError) from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
