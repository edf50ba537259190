"""What the broker counts: plain numbers, changed where things happen and read by `/metrics`."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Statistics:
    """Totals since the start; `connections` is the number open now."""

    requests: Counter[int] = field(default_factory=Counter)
    produced_bytes: int = 0
    produced_batches: int = 0
    produced_records: int = 0
    fetched_bytes: int = 0
    connections: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    strangers_closed: int = 0
    slow_readers_closed: int = 0
    failed_handshakes: int = 0
    failed_authentications: int = 0
    successful_authentications: int = 0
    protocol_errors: int = 0
    journal_syncs: int = 0
    checkpoints: int = 0
    compactions: int = 0
