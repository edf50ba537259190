"""Which sync of the journal makes a decision durable."""

from typing import NewType

SyncNumber = NewType("SyncNumber", int)
"""The journal's syncs are numbered in their order: what a later one has made durable, an earlier one has too."""

NO_SYNC = SyncNumber(0)  # nothing waits for the disk
