"""Observers and the bus: events within one process. See README.md."""

from headwater.observe.bus import Bus, EventStore
from headwater.observe.errors import (
    BusClosedError,
    EmitError,
    HandlerCancelledError,
    NoLoopError,
    NoSubscriberError,
    ObserveError,
    QueueFullError,
    ReplyTimeoutError,
)
from headwater.observe.patterns import PatternError
from headwater.observe.schedule import Schedule, ScheduleError
from headwater.observe.signal import Connection, OnError, Signal
from headwater.observe.subscription import Overflow, Subscription

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
