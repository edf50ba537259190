"""Async forms of blocking methods: each runs the same method in a thread, so there is one implementation."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Blocking = TypeVar("Blocking")
BlockingCo = TypeVar("BlockingCo", covariant=True)


class AsyncForm(Protocol[BlockingCo]):
    """An object with async methods: the blocking object that it wraps, and a way to run calls of it."""

    @property
    def _blocking(self) -> BlockingCo: ...

    async def _run(self, function: Callable[[], Any]) -> Any:
        """Runs a blocking call in another thread, which leaves the loop free."""
        ...


def in_thread(
    method: Callable[Concatenate[Blocking, P], Result],
) -> Callable[Concatenate[AsyncForm[Blocking], P], Coroutine[Any, Any, Result]]:
    """The async form of a blocking method."""

    @wraps(method)
    async def call(form: AsyncForm[Blocking], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        result: Result = await form._run(lambda: method(form._blocking, *args, **kwargs))
        return result

    return call
