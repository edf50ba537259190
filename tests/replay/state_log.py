"""A log in memory for machines that are constructed alone: appends are kept, and durable when the test says so."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from headwater.replay.sync_number import SyncNumber

Record = TypeVar("Record")


class MemoryStateLog(Generic[Record]):
    """`appended` has each batch with its key; with `error` appends fail. `sync` makes all durable."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, list[Record]]] = []
        self.error: OSError | None = None
        self.synced = 0
        self.waits: list[tuple[SyncNumber, Callable[[], None]]] = []

    def append(self, key: str, records: Sequence[Record]) -> SyncNumber:
        if self.error is not None:
            raise self.error
        self.appended.append((key, list(records)))
        return SyncNumber(len(self.appended))

    def when_durable(self, sync: SyncNumber, callback: Callable[[], None]) -> None:
        if sync <= self.synced:
            callback()
        else:
            self.waits.append((sync, callback))

    def sync(self) -> None:
        """Puts all that was appended on disk, also what is appended because of that."""
        while self.waits or self.synced < len(self.appended):
            self.sync_once()

    def sync_once(self) -> None:
        """Puts on disk what is appended by now."""
        self.synced = len(self.appended)
        waits, self.waits = self.waits, []
        for sync, callback in waits:
            self.when_durable(sync, callback)

    def crash(self) -> None:
        """What is not on disk is gone, and so are the callbacks that waited for it."""
        del self.appended[self.synced :]
        self.waits.clear()

    @property
    def durable_records(self) -> list[Record]:
        """All records that are on disk, in order."""
        return [record for _, records in self.appended[: self.synced] for record in records]

    @property
    def records(self) -> list[Record]:
        """All records, in order."""
        return [record for _, records in self.appended for record in records]
