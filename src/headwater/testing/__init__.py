"""Tools for tests: a fresh broker in milliseconds, faults, a clock that can be moved, expectations. See README.md.

`pip install headwater` includes the pytest plugin. Without pytest, import the same names from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.effects.clock import MovableClock
    from headwater.testing.broker import TestBroker
    from headwater.testing.expectations import expect
    from headwater.testing.topics import Topic

__all__ = ["MovableClock", "TestBroker", "Topic", "expect"]
PLACES = {
    "MovableClock": "headwater.effects.clock",
    "TestBroker": "headwater.testing.broker",
    "Topic": "headwater.testing.topics",
    "expect": "headwater.testing.expectations",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used: pytest loads this package in every project that has Headwater installed."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module 'headwater.testing' has no attribute {name!r}")
