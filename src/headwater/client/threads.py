"""The async face of blocking methods: the same method in a thread, so that there is one implementation."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Blocking = TypeVar("Blocking")
BlockingCo = TypeVar("BlockingCo", covariant=True)


class Face(Protocol[BlockingCo]):
    """An async face: what it stands before, and a way to run that."""

    @property
    def _blocking(self) -> BlockingCo: ...

    async def _run(self, function: Callable[[], Any]) -> Any:
        """Runs a blocking call where it holds up nobody."""
        ...


def in_thread(
    method: Callable[Concatenate[Blocking, P], Result],
) -> Callable[Concatenate[Face[Blocking], P], Coroutine[Any, Any, Result]]:
    """The async form of a blocking method."""

    @wraps(method)
    async def call(face: Face[Blocking], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        result: Result = await face._run(lambda: method(face._blocking, *args, **kwargs))
        return result

    return call
