"""How `hw.Admin` asks and waits: one way for every call.

librdkafka keeps trying, whatever goes wrong with a connection, and reports the reason separately from its answers. So a
call waits in short steps, and checks after each step what has been reported:

- If the broker does not let this client in (a wrong password, a certificate that is not trusted), waiting longer does
  not help: the call raises AuthenticationError at once.
- If no broker can be reached, one may be starting: the call keeps trying until its time limit, unless the Admin is
  `fail_fast`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from headwater.client.connections import NO_ANSWER, BrokerLike, Notes, Settings, make_client, merge_settings
from headwater.client.errors import (
    BrokerUnavailableError,
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    client_error,
    translate,
)
from headwater.client.names import checked_timeout_ms
from headwater.effects.clock import SystemClock

Result = TypeVar("Result")
CALL_TIMEOUT_MS = 30_000.0
STEP_S = 0.1
ASK_S = 1.0


class AdminCalls:
    """See the module's docstring."""

    def __init__(
        self,
        broker: BrokerLike,
        *,
        timeout_ms: float = CALL_TIMEOUT_MS,
        fail_fast: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self._timeout_s = checked_timeout_ms(timeout_ms) / 1000
        self._fail_fast = fail_fast
        self._clock = SystemClock()
        self._notes = Notes()
        own = merge_settings(broker, {"client.id": "headwater"}, settings, self._notes)
        self.address = own["bootstrap.servers"]
        self._raw: Any = make_client(AdminClient, own, "the admin client", self._notes)

    def call(self, ask: Callable[[AdminClient], Any], what: str) -> Any:
        """Sends a request of librdkafka's admin client, and waits for its result, or its results by key.

        `what` names the action in error messages. Use it for requests that Admin has no method for. Raises ClientError.
        """
        try:
            sent = ask(self._raw)
        except KafkaException as error:
            raise self._explain(error, what) from error
        except (ValueError, TypeError, OverflowError) as error:  # the binding refuses some arguments
            raise ConfigurationError(f"{what}: {error}") from error
        if isinstance(sent, Mapping):
            return {key: self._result(future, what) for key, future in sent.items()}
        return self._result(sent, what)

    def _result(self, future: Any, what: str) -> Any:
        deadline_ms = self._clock.steady_ms() + self._timeout_s * 1000
        while True:
            left_s = max(0.0, (deadline_ms - self._clock.steady_ms()) / 1000)
            try:
                found = future.result(min(STEP_S, left_s))
            except KafkaException as error:
                raise self._explain(error, what) from error
            except TimeoutError as error:
                self._check_hope(what, left_s, error)
            except ValueError as error:
                raise ConfigurationError(f"{what}: {error}") from error
            else:
                self._notes.answered()
                return found

    def _metadata(self, what: str) -> Any:
        """The cluster's metadata, all topics included. Raises ClientError."""
        deadline_ms = self._clock.steady_ms() + self._timeout_s * 1000
        while True:
            left_s = max(0.0, (deadline_ms - self._clock.steady_ms()) / 1000)
            try:
                found = self._raw.list_topics(timeout=min(ASK_S, left_s))
            except KafkaException as error:
                if not has_no_answer(error):
                    raise self._explain(error, what) from error
                self._check_hope(what, left_s, error)
            else:
                self._notes.answered()
                return found

    def _check_hope(self, what: str, left_s: float, cause: Exception) -> None:
        """Raises ClientError if it makes no sense to wait any longer."""
        self._raw.poll(0)  # librdkafka reports errors of the connection only here
        if left_s <= 0 or self._notes.refusal is not None or (self._fail_fast and self._notes.is_down):
            raise self._no_answer(what) from cause

    def _explain(self, error: KafkaException, what: str) -> ClientError:
        self._raw.poll(0)
        return self._no_answer(what, error.args[0].str()) if has_no_answer(error) else translate(error, what)

    def _no_answer(self, what: str, cause: str = "it took too long") -> ClientError:
        """Why there is no answer."""
        notes = self._notes
        if notes.refusal is not None:
            return client_error(notes.refusal, f"{what}: {self.address}")
        kind = BrokerUnavailableError if notes.is_down else ClientTimeoutError
        return kind(f"{what}: no answer from {self.address} ({notes.failure or cause})", "_TRANSPORT")


def has_no_answer(error: KafkaException) -> bool:
    cause = error.args[0]
    return isinstance(cause, KafkaError) and cause.code() in NO_ANSWER
