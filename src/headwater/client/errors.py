"""What can go wrong between a client and its broker, as types that say what to do."""

from typing import NoReturn

from confluent_kafka import KafkaError, KafkaException

from headwater.protocol.error_codes import ErrorCode


class ClientError(Exception):
    """Base of the client's errors. `code` is Kafka's name of the error, such as UNKNOWN_TOPIC_OR_PART; `message` is without advice."""

    advice = ""

    def __init__(self, message: str, code: str = "") -> None:
        self.code = code
        self.message = message  # without the advice
        super().__init__(f"{message}; {self.advice}" if self.advice else message)


class BrokerUnavailableError(ClientError):
    """No broker answers."""

    advice = "is it running, and is the address right?"


class ClientTimeoutError(ClientError):
    """No answer in time."""

    advice = "the broker is slow or away; try again or allow more time"


class AuthenticationError(ClientError):
    """The broker does not know this user, or TLS fails."""

    advice = "check security.protocol, sasl.* and ssl.* in settings="


class AuthorizationError(ClientError):
    """This user may not do that."""

    advice = "an administrator can allow it: headwater acl add"


class UnknownTopicError(ClientError):
    """The topic is not there."""

    advice = "admin.topics() lists the existing ones, admin.create_topic(name) makes one"


class TopicExistsError(ClientError):
    """The topic is there already."""


class RecordTooLargeError(ClientError):
    """A record is larger than the topic or the client allows."""

    advice = "raise message.max.bytes in settings= and the topic's max.message.bytes, or send smaller records"


class UnreadableAnswerError(ClientError):
    """What the broker sent cannot be read. The connection is closed."""

    advice = "is this address that of a Kafka broker's listener, and security.protocol that listener's?"


class UnsupportedRequestError(ClientError):
    """The broker has no version of a request that is known here too."""

    advice = "an older or newer broker may support it"


class WireClosedError(ClientError):
    """The wire client is closed."""


class DeliveryError(ClientError):
    """A record was not delivered."""


class ProducerQueueFullError(ClientError):
    """The producer's queue is full, and this thread runs an event loop that must not wait."""

    advice = "await deliveries as you go, or use await producer.send_batch(...)"


class ProducerFencedError(ClientError):
    """Another producer uses the same transactional id."""

    advice = "close this one; give each instance a transactional id of its own"


class MemberFencedError(ClientError):
    """Another member of the group has the same instance id, and is in its place now."""

    advice = "give each instance an instance id of its own"


class NotLeaderError(ClientError):
    """Another process leads, or nobody: only the leader may decide."""

    advice = "ask the leader, or try again a little later"


class LostRecordsError(ClientError):
    """What was to be read is not there: deleted, expired, or never written."""


class LostTopicError(ClientError):
    """A topic that is replayed was deleted, or deleted and created again: its state is gone."""

    advice = "restore the topic, and begin again with a new reader"


class DamagedTopicError(ClientError):
    """A record of a replayed topic cannot be replayed. Nothing after it is replayed, and nothing is written."""

    advice = "inspect that record; a later version may have written it"


class TopicBusyError(ClientError):
    """Too many calls wait to write to a topic."""

    advice = "try again a little later"


class TransactionAbortedError(ClientError):
    """The transaction could not be committed and was aborted; nothing of it is visible."""

    advice = "repeat it from the beginning"


class UnknownOutcomeError(ClientError):
    """It is not known whether the transaction was committed."""

    advice = "check the output before you repeat it"


class ConfigurationError(ClientError, ValueError):
    """A setting or an argument is unknown or wrong."""


class InvalidNameError(ConfigurationError):
    """A name (of a topic, a group, a client, a transactional id …) that Kafka does not accept."""


class NotAssignedError(ClientError):
    """The partition is not, or no longer, this consumer's."""


class ConsumerClosedError(ClientError):
    """The consumer is closed."""

    advice = "use it within its with block, or make a new one"


class ProducerClosedError(ClientError):
    """The producer is closed."""

    advice = "use it within its with block, or make a new one"


class TransactionStateError(ClientError):
    """A call that does not fit in with the state of the producer's transaction."""


CLASSES: dict[int, type[ClientError]] = {
    KafkaError._ALL_BROKERS_DOWN: BrokerUnavailableError,
    KafkaError._TRANSPORT: BrokerUnavailableError,
    KafkaError._RESOLVE: BrokerUnavailableError,
    KafkaError._TIMED_OUT: ClientTimeoutError,
    KafkaError._MSG_TIMED_OUT: ClientTimeoutError,
    KafkaError.REQUEST_TIMED_OUT: ClientTimeoutError,
    KafkaError._AUTHENTICATION: AuthenticationError,
    KafkaError._SSL: AuthenticationError,
    KafkaError.SASL_AUTHENTICATION_FAILED: AuthenticationError,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: AuthenticationError,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: AuthorizationError,
    KafkaError.GROUP_AUTHORIZATION_FAILED: AuthorizationError,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: AuthorizationError,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: AuthorizationError,
    KafkaError.UNKNOWN_TOPIC_OR_PART: UnknownTopicError,
    KafkaError._UNKNOWN_TOPIC: UnknownTopicError,
    KafkaError._UNKNOWN_PARTITION: UnknownTopicError,
    KafkaError.TOPIC_ALREADY_EXISTS: TopicExistsError,
    KafkaError.MSG_SIZE_TOO_LARGE: RecordTooLargeError,
    KafkaError.RECORD_LIST_TOO_LARGE: RecordTooLargeError,
    KafkaError._FENCED: ProducerFencedError,
    KafkaError.PRODUCER_FENCED: ProducerFencedError,
    KafkaError.INVALID_PRODUCER_EPOCH: ProducerFencedError,
    KafkaError.FENCED_INSTANCE_ID: MemberFencedError,
    KafkaError._INVALID_ARG: ConfigurationError,
    KafkaError.INVALID_CONFIG: ConfigurationError,
    KafkaError._STATE: NotAssignedError,
}


def client_error(error: KafkaError, what: str, fallback: type[ClientError] = ClientError) -> ClientError:
    """The typed form of librdkafka's error; `what` says what was being done."""
    kind = CLASSES.get(error.code(), fallback)
    return kind(f"{what}: {error.str()}", error.name())


def answered_error(code: int, what: str, message: str | None = None) -> ClientError:
    """The typed form of an error in an answer, with the broker's own message if there is one."""
    error = KafkaError(code)
    name, text = error.name(), error.str().removeprefix("Broker: ")
    if name == f"ERR_{code}?" and code in ErrorCode._value2member_map_:  # librdkafka lacks some of Kafka's errors
        name = ErrorCode(code).name
        text = name.replace("_", " ").capitalize()
    return CLASSES.get(code, ClientError)(f"{what}: {message or text} ({name})", name)


def raise_interrupt(error: SystemError) -> NoReturn:
    """Raises KeyboardInterrupt for a Ctrl-C during a callback, of which librdkafka's binding made a SystemError."""
    if "without setting an exception" in str(error):
        raise KeyboardInterrupt from error
    raise error


def translate(exception: KafkaException, what: str, fallback: type[ClientError] = ClientError) -> ClientError:
    error = exception.args[0]
    return client_error(error, what, fallback) if isinstance(error, KafkaError) else fallback(f"{what}: {error}")
