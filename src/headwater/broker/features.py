"""The features that clients and tools see (KIP-584): what this version supports, and the levels in force.

A level is finalized for the whole cluster in the metadata log (FeatureLevelRecord); a new data directory begins with the
highest levels. Clients choose their protocol by them: transaction.version 2 means one epoch per transaction (KIP-890),
group.version 1 the new consumer groups (KIP-848).
"""

METADATA_VERSION = "metadata.version"
GROUP_VERSION = "group.version"
TRANSACTION_VERSION = "transaction.version"

SUPPORTED_FEATURES: dict[str, tuple[int, int]] = {
    GROUP_VERSION: (0, 1),
    "kraft.version": (0, 1),
    METADATA_VERSION: (7, 30),
    TRANSACTION_VERSION: (0, 2),
}
"""Name to the lowest and highest level. 30 is 4.3-IV0, the newest one whose metadata records this version writes."""

DEFAULT_LEVELS: dict[str, int] = {GROUP_VERSION: 1, TRANSACTION_VERSION: 2, METADATA_VERSION: 30}
