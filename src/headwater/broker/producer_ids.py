"""The ids of producers: each is assigned once, even across restarts."""

from collections.abc import Iterator
from typing import Any

from headwater.broker.metadata import Metadata
from headwater.replay.decision import Runtime
from headwater.replay.sync_number import NO_SYNC, SyncNumber


class ProducerIds:
    """Assigns ids from blocks; only a new block needs a decision of the metadata."""

    def __init__(self, metadata: Metadata, runtime: Runtime[Any]) -> None:
        self.metadata = metadata
        self.runtime = runtime
        self.block: Iterator[int] = iter(())

    def next(self) -> tuple[int, SyncNumber]:
        """An unused producer id, and the sync of the journal that makes the assignment durable. Raises OSError."""
        producer_id = next(self.block, None)
        if producer_id is not None:
            return producer_id, NO_SYNC
        first = self.metadata.next_producer_id
        sync = self.runtime.apply("", self.metadata.allocate_producer_ids())
        self.block = iter(range(first + 1, self.metadata.next_producer_id))
        return first, sync
