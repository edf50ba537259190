"""Names of functions in messages: name and place, without addresses in memory."""

from functools import partial
from types import MethodType


def described(observer: object) -> str:
    """`module.name (file:line)`; of an object that can be called, its class's."""
    observer = unwrapped(observer)
    if not hasattr(observer, "__qualname__"):
        call = vars(type(observer)).get("__call__")
        return described(call) if hasattr(call, "__code__") else named(observer)
    name = f"{getattr(observer, '__module__', None) or 'builtins'}.{named(observer)}"
    code = getattr(observer, "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def named(observer: object) -> str:
    """The qualified name alone."""
    observer = unwrapped(observer)
    name: str = getattr(observer, "__qualname__", type(observer).__qualname__)
    return name


def unwrapped(observer: object) -> object:
    while isinstance(observer, partial):
        observer = observer.func
    return observer.__func__ if isinstance(observer, MethodType) else observer
