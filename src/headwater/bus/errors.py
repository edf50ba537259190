"""Errors of signals, observers, buses and subscribers."""

from headwater.bus.observers import describe


class ObserveError(RuntimeError):
    """Base class of the errors of signals and buses."""


class EmitError(ObserveError):
    """Some observers of a signal raised; all others were called. `errors` has each observer with what it raised.

    Its cause is what the observer raised, or an ExceptionGroup if several raised. So a traceback shows where each failed.
    """

    def __init__(self, signal: str, errors: list[tuple[object, Exception]]) -> None:
        self.errors = errors
        (observer, error), *others = errors
        more = f" and {len(others)} more failed" if others else ""
        super().__init__(f"{signal}: {describe(observer)} raised {type(error).__name__}: {error}{more}")
        self.__cause__ = ExceptionGroup(f"observers of {signal}", [each for _, each in errors]) if others else error


class HandlerCancelledError(ObserveError):
    """A handler ended with CancelledError although its subscription was not cancelled: what it waited for was."""


class NoLoopError(ObserveError):
    """An async observer is connected, but no event loop runs here. Use `await signal.emit_async(...)`."""


class QueueFullError(ObserveError):
    """A subscriber's queue is full, and its `overflow` is to fail."""


class BusClosedError(ObserveError):
    """The bus is closed."""


class NoSubscriberError(ObserveError):
    """A request has no subscriber that accepts it."""


class ReplyTimeoutError(ObserveError):
    """A request was not answered in time."""
