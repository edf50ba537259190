"""What tests need: a fresh broker in milliseconds, faults, a clock that moves, expectations. See README.md.

`pip install headwater` brings the pytest plugin; without pytest, the same names are importable from here.
"""

from headwater.effects.clock import MovableClock
from headwater.testing.broker import TestBroker
from headwater.testing.expectations import expect
from headwater.testing.topics import Topic

__all__ = ["MovableClock", "TestBroker", "Topic", "expect"]
