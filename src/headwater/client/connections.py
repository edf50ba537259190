"""The broker's address and librdkafka's settings, for producer, consumer and admin alike."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headwater.client.errors import ConfigurationError, raise_interrupt, translate
from headwater.client.logs import ClientLog, logger
from headwater.client.names import check_settings, checked_text

Made = TypeVar("Made")
LOOK_S = 0.1
LOCATIONS = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location")
# A host may be in brackets, as IPv6 addresses are. librdkafka's own examples have a protocol before it.
ADDRESS = re.compile(r"(\w+://)?(\[[^\]]+\]|[^:\s/]+|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F]*)(:(?P<port>\d{1,9}))?")
NO_ANSWER = frozenset(
    {KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
)
# If a broker closes a new connection, librdkafka reports no reason.
CLOSES = "it closes the connection; does it want TLS or a login, security.protocol=…?"


class HasAddress(Protocol):
    """A broker in this process, `hw.Broker` for one."""

    @property
    def address(self) -> str: ...


BrokerLike: TypeAlias = HasAddress | str | Sequence[str]
Settings: TypeAlias = Mapping[str, Any]


def address_of(broker: BrokerLike) -> str:
    """`host:port`, several with commas. Raises ConfigurationError if it is invalid, and what `address` raises."""
    if hasattr(broker, "address"):
        return broker.address
    if isinstance(broker, str):
        return ",".join(checked_address(address) for address in broker.split(","))
    given: object = broker
    if isinstance(given, Sequence) and not isinstance(given, bytes) and given:
        return ",".join(map(checked_address, given))
    raise ConfigurationError(f"the broker is {broker!r}; give a hw.Broker, or an address such as '127.0.0.1:9092'")


def checked_address(text: object) -> str:
    """A host, with a port if it is not 9092. librdkafka would try an impossible one for ever."""
    address = checked_text("the broker's address", text).strip()
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"] or 9092) < 1 << 16:
        raise ConfigurationError(
            f"the broker's address {address!r} is not of the form host:port, such as 127.0.0.1:9092"
        )
    return address


class Notes:
    """What librdkafka reports outside of calls. It keeps trying, but the reason for a refusal says more than a timeout."""

    def __init__(self, log: ClientLog | None = None) -> None:
        self.refusal: KafkaError | None = None
        self.fatal: KafkaError | None = None  # after it a producer can do nothing more
        self.failure = ""  # why the last connection failed, while there is no answer
        self.is_down = False  # no broker of the cluster can be reached
        self.log = log or ClientLog()

    def __call__(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self.refusal = error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.is_down = True
            self.failure = self.failure or CLOSES
            self.log.broker_is_away()
        elif error.code() in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
            self.failure = error.str()
        if error.fatal():
            self.fatal = self.fatal or error
        logger.log(logging.ERROR if error.fatal() else logging.DEBUG, "%s", error)

    def answered(self) -> None:
        """Forgets what was reported before: there was an answer."""
        self.refusal, self.failure, self.is_down = None, "", False

    def cause_of(self, error: KafkaError) -> KafkaError:
        """The refusal because of which a broker does not answer, or the error itself."""
        if error.code() == KafkaError._FATAL and self.fatal is not None:
            return self.fatal
        return self.refusal if self.refusal is not None and error.code() in NO_ANSWER else error

    def serve(self, call: Callable[[float], Any], timeout_s: float = 0.0) -> int:
        """Lets librdkafka report what happened. If it raises a fatal error, that is kept as the cause of later ones."""
        try:
            return int(call(timeout_s))
        except KafkaException as error:
            self(error.args[0])
        except SystemError as error:
            raise_interrupt(error)
        return 1

    def look_for_broker(self, list_topics: Callable[..., object]) -> None:
        """Asks now and then whether a broker that was away is back, so that the log can say so."""
        if self.log.is_to_look():
            try:
                list_topics(timeout=LOOK_S)
            except KafkaException:
                return
            self.log.broker_is_back()


def merge_settings(broker: BrokerLike, defaults: Settings, settings: Settings | None, notes: Notes) -> dict[str, Any]:
    """librdkafka's settings: the caller's come last and win. Raises ConfigurationError."""
    common = {
        "bootstrap.servers": address_of(broker),
        "error_cb": notes,
        # librdkafka also waits this long before it connects to a broker that it has just learned of. It doubles with
        # each failure.
        "reconnect.backoff.ms": 10,
    }
    found = {**common, **defaults, **(settings or {})}
    check_settings(found)
    check_files(found)
    return found


def check_files(settings: Settings) -> None:
    """Raises ConfigurationError for a TLS file that cannot be read: librdkafka does not say which file it is."""
    if not str(settings.get("security.protocol", "")).lower().endswith("ssl"):
        return
    for name in LOCATIONS:
        path = settings.get(name)
        if path and path != "probe" and not os.access(path, os.R_OK):
            reason = "cannot be read" if os.path.exists(path) else "does not exist"
            start = "" if os.path.isabs(path) else f"; a relative path starts in the working directory, {os.getcwd()}"
            raise ConfigurationError(f"{name}: {path} {reason}{start}")


def make_client(make: type[Made], settings: dict[str, Any], what: str, notes: Notes) -> Made:
    """Makes a client of librdkafka's. Raises ConfigurationError."""
    try:
        return make(settings, logger=notes.log)  # type: ignore[call-arg]
    except KafkaException as error:
        raise translate(error, what, ConfigurationError) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
