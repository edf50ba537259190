"""Writes the records of one decision to a topic's only partition, all or none if the writer is fenced.

A plain writer is an idempotent producer: many may write. A fenced writer has a transactional id. Opening it ends a
transaction that its predecessor left open, and fences the predecessor: the broker refuses its later writes (KIP-98). Each decision is
then a transaction.
"""

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as RawProducer

from headwater.client.connections import BrokerLike, Notes, Settings, make_client, merge_settings
from headwater.client.errors import (
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    UnknownOutcomeError,
    client_error,
    raise_interrupt,
    translate,
)
from headwater.client.topic_record import TopicRecord
from headwater.client.transactions import abort, begin, commit, initialize

logger = logging.getLogger(__name__)
RECORDS_MAX = 10_000
ABORT_TIMEOUT_MS = 2_000.0
TRANSACTION_TIMEOUT_MS = 10_000


class TopicWriter:
    """See the module's docstring. Raises ConfigurationError."""

    def __init__(
        self, broker: BrokerLike, topic: str, transactional_id: str | None = None, settings: Settings | None = None
    ) -> None:
        self.topic, self.is_fenced = topic, transactional_id is not None
        self.notes = Notes()
        defaults: dict[str, Any] = {"client.id": "headwater", "enable.idempotence": True, "linger.ms": 0}
        if transactional_id is not None:
            defaults |= {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        self.raw: Any = make_client(
            RawProducer, merge_settings(broker, defaults, settings, self.notes), "the writer", self.notes
        )
        self.offsets: list[int] = []
        self.failure: KafkaError | None = None

    def open(self, timeout_ms: float) -> None:
        """Fences earlier writers of the same id. Raises ClientError."""
        if self.is_fenced:
            initialize(self.raw, timeout_ms)

    def write(self, records: Sequence[TopicRecord], timeout_ms: float) -> int:
        """Returns the offset of the last record, when the broker has them all.

        Raises ClientError; a writer with a transactional id has then written nothing. Raises UnknownOutcomeError if the
        records may have been written.
        """
        if not 0 < len(records) <= RECORDS_MAX:
            raise ConfigurationError(
                f"writing to {self.topic}: {len(records)} records at once; 1 to {RECORDS_MAX} are possible"
            )
        self.offsets, self.failure = [], None
        if not self.is_fenced:
            self.send(records)
            self.flush(timeout_ms)
        else:
            begin(self.raw)
            try:
                self.send(records)
            except ClientError:
                abort(self.raw, None, ABORT_TIMEOUT_MS)
                raise
            commit(self.raw, None, timeout_ms)
        if len(self.offsets) != len(records):
            raise UnknownOutcomeError(f"writing to {self.topic}: not every record was reported as written")
        return max(self.offsets)

    def send(self, records: Sequence[TopicRecord]) -> None:
        for record in records:
            try:
                self.raw.produce(self.topic, record.value, record.key, 0, on_delivery=self.delivered)
            except KafkaException as error:
                self.notes.serve(self.raw.poll)  # a fatal error is named here, and in `produce` only called fatal
                raise client_error(self.notes.cause_of(error.args[0]), f"writing to {self.topic}") from error
            except (BufferError, TypeError, ValueError) as error:
                raise ConfigurationError(f"writing to {self.topic}: {error}") from error

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failure = self.failure or error
        else:
            self.offsets.append(message.offset())

    def flush(self, timeout_ms: float) -> None:
        what = f"writing to {self.topic}"
        try:
            left = self.raw.flush(timeout_ms / 1000)
        except KafkaException as error:
            self.notes(error.args[0])
            raise translate(error, what) from error
        except SystemError as error:
            raise_interrupt(error)
        if left:
            self.raw.purge()
            raise UnknownOutcomeError(f"{what}: no answer in {timeout_ms:g} ms")
        if self.failure is not None:
            found = client_error(self.notes.cause_of(self.failure), what)
            if isinstance(found, ClientTimeoutError):
                raise UnknownOutcomeError(f"{what}: {self.failure.str()}", self.failure.name())
            raise found

    def close(self) -> None:
        """Gives up writes that are under way. The next fenced writer ends a transaction that is still open."""
        self.notes.log.is_closed = True
        self.raw.purge()
        self.notes.serve(self.raw.flush)
