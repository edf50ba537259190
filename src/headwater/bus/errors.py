"""What observers and subscribers can fail with."""

from headwater.bus.observers import described


class ObserveError(RuntimeError):
    """Base of the errors of signals and buses."""


class EmitError(ObserveError):
    """Some observers of a signal raised; all others were called. `errors` has each observer with what it raised.

    Its cause is what the observer raised, or an ExceptionGroup of all that was raised: so tracebacks are shown too.
    """

    def __init__(self, signal: str, errors: list[tuple[object, Exception]]) -> None:
        self.errors = errors
        (observer, error), *others = errors
        more = f" and {len(others)} more failed" if others else ""
        super().__init__(f"{signal}: {described(observer)} raised {type(error).__name__}: {error}{more}")
        self.__cause__ = ExceptionGroup(f"observers of {signal}", [each for _, each in errors]) if others else error


class HandlerCancelledError(ObserveError):
    """A handler ended with CancelledError, though nobody cancelled its subscription: something that it waits for was."""


class NoLoopError(ObserveError):
    """An async observer was to be called where no event loop runs; use `await signal.emit_async(...)`."""


class QueueFullError(ObserveError):
    """A subscriber's queue is full and its policy is to fail."""


class BusClosedError(ObserveError):
    """The bus is closed."""


class NoSubscriberError(ObserveError):
    """A request that nobody answers."""


class ReplyTimeoutError(ObserveError):
    """A request whose answer did not come in time."""
