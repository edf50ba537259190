"""Events inside the broker, for whatever counts, shows or traces them.

Each occurrence is a Signal (`bus/signal.py`). Its type says what observers are called with. They are called in the thread
that owns the core, in the middle of the event. So an observer only records its arguments; if it raises, the error is logged
and goes no further. An emit without observers costs a fifth of a microsecond, and allocates nothing.

    core.occurrences.appended.connect(lambda log, base_offset, records, size_bytes: ...)

Nothing here, or in the layers below, knows metrics: they belong to a layer above (`observability/`).
"""

from headwater.broker.connection import Connection
from headwater.bus.signal import OnError, Signal
from headwater.replay.sync_number import SyncNumber
from headwater.storage.log import Log
from headwater.storage.retention import Reason


class Occurrences:
    """All signals of one broker."""

    def __init__(self) -> None:
        log = OnError.LOG
        # The request's API key, and the connection that it came from.
        self.request_handled: Signal[int, Connection] = Signal("request handled", on_error=log)
        # A client's batch: its log, base offset, number of records and bytes.
        self.appended: Signal[Log, int, int, int] = Signal("appended", on_error=log)
        # The bytes of records in a Fetch response.
        self.fetched: Signal[int] = Signal("fetched", on_error=log)
        # A sync of the journal, and the logs that it made durable.
        self.synced: Signal[SyncNumber, list[Log]] = Signal("synced", on_error=log)
        # All logs are on disk up to their ends at the beginning of the checkpoint.
        self.checkpointed: Signal[()] = Signal("checkpointed", on_error=log)
        # A log that compaction has made shorter.
        self.log_compacted: Signal[Log] = Signal("log compacted", on_error=log)
        # A log whose first records were deleted, why, and how many offsets and bytes that were. The bytes are those of whole
        # segments: one stays until its last record is deleted.
        self.log_cleaned: Signal[Log, Reason, int, int] = Signal("log cleaned", on_error=log)
        # An address whose requests have to wait, and for what: "memory" for requests, the "journal" to catch up, or its "quota".
        self.throttled: Signal[str, str] = Signal("throttled", on_error=log)
        # A group, its new generation or epoch, and the number of its members.
        self.rebalanced: Signal[str, int, int] = Signal("rebalanced", on_error=log)
        # A transactional id, and whether its transaction was committed.
        self.transaction_ended: Signal[str, bool] = Signal("transaction ended", on_error=log)
        # A client's address, when it connects and when its connection ends.
        self.connection_opened: Signal[str] = Signal("connection opened", on_error=log)
        self.connection_closed: Signal[str] = Signal("connection closed", on_error=log)
        # An address, and why its connection was closed at once, closed to make room, or broken.
        self.connection_refused: Signal[str, str] = Signal("connection refused", on_error=log)
        self.stranger_closed: Signal[str] = Signal("stranger closed", on_error=log)
        self.slow_reader_closed: Signal[str, str] = Signal("slow reader closed", on_error=log)
        self.handshake_failed: Signal[str, Exception] = Signal("handshake failed", on_error=log)
        # A connection, and what its client sent in violation of Kafka's protocol.
        self.protocol_failed: Signal[str, str] = Signal("protocol failed", on_error=log)
        # A principal that has logged in; the address of a client whose login was refused.
        self.logged_in: Signal[str] = Signal("logged in", on_error=log)
        self.login_refused: Signal[str] = Signal("login refused", on_error=log)
        # The disk has failed, and the broker ends.
        self.failed: Signal[Exception] = Signal("failed", on_error=log)
