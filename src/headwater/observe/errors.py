"""What observers and subscribers can fail with."""


class ObserveError(RuntimeError):
    """Base of the errors of signals and buses."""


class EmitError(ObserveError):
    """Some observers of a signal raised; all others were called. `errors` has each observer with what it raised."""

    def __init__(self, signal: str, errors: list[tuple[object, Exception]]) -> None:
        self.errors = errors
        first = errors[0]
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        super().__init__(f"{signal}: {first[0]!r} raised {first[1]!r}{more}")


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
