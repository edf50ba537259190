"""An answer that is not there yet.

A request that cannot be answered at once gets a `Deferred`. It is kept by whatever will complete it: the journal's next
sync, a timer, a log that grows, a group that has all its members. Nothing here is a task or a thread: `complete` calls the
waiting callback before it returns.

    deferred = coordinator.join(request)             # Deferred[JoinAnswer]
    return deferred.then(response)                   # Deferred[JoinGroupResponse]
"""

from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
Other = TypeVar("Other")


class Deferred(Generic[Answer]):
    """See the module's docstring. It is completed once; later completions are ignored. One party waits for it."""

    __slots__ = ("answer", "callback", "done")

    answer: Answer

    def __init__(self) -> None:
        self.done = False
        self.callback: Callable[[Answer], object] | None = None

    def complete(self, answer: Answer) -> None:
        """Passes the answer to the callback that waits for it."""
        if self.done:
            return
        self.done, self.answer = True, answer
        if self.callback is not None:
            self.callback(answer)

    def when_done(self, callback: Callable[[Answer], object]) -> None:
        """Calls back with the answer; at once if it is there."""
        if self.done:
            callback(self.answer)
        else:
            self.callback = callback

    def then(self, change: "Callable[[Answer], Other | Deferred[Other]]") -> "Deferred[Other]":
        """The result of `change` for the answer. If that is itself a Deferred, the answer of that."""
        other: Deferred[Other] = Deferred()

        def changed(answer: Answer) -> None:
            result = change(answer)
            if isinstance(result, Deferred):
                result.when_done(other.complete)
            else:
                other.complete(result)

        self.when_done(changed)
        return other
