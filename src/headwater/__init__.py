"""Headwater: event streaming that starts inside a Python process.

import headwater as hw

with hw.Broker() as broker:            # a Kafka broker, in memory; hw.Broker("./data") keeps its data
    print(broker.address)              # any Kafka client connects here
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.broker.embedded import Broker, BrokerError

__all__ = ["Broker", "BrokerError", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the broker with its first use, so that `import headwater` costs nothing."""
    if name in ("Broker", "BrokerError"):
        from headwater.broker import embedded

        return getattr(embedded, name)
    raise AttributeError(f"module 'headwater' has no attribute {name!r}")
