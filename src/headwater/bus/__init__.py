"""Observers and the bus: events within one process. See README.md."""

from headwater.bus.bus import Bus, EventStore
from headwater.bus.errors import (
    BusClosedError,
    EmitError,
    HandlerCancelledError,
    NoLoopError,
    NoSubscriberError,
    ObserveError,
    QueueFullError,
    ReplyTimeoutError,
)
from headwater.bus.patterns import PatternError
from headwater.bus.schedule import Schedule, ScheduleError
from headwater.bus.signal import Connection, OnError, Signal
from headwater.bus.subscription import Overflow, Subscription

__all__ = [
    "Bus",
    "BusClosedError",
    "Connection",
    "EmitError",
    "EventStore",
    "HandlerCancelledError",
    "NoLoopError",
    "NoSubscriberError",
    "ObserveError",
    "OnError",
    "Overflow",
    "PatternError",
    "QueueFullError",
    "ReplyTimeoutError",
    "Schedule",
    "ScheduleError",
    "Signal",
    "Subscription",
]
