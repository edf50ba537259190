"""The number of the journal's sync that makes a decision durable."""

from typing import NewType

SyncNumber = NewType("SyncNumber", int)
"""The journal's syncs are numbered in their order: when one is done, all with lower numbers are done too."""

NO_SYNC = SyncNumber(0)  # nothing has to wait for the disk
