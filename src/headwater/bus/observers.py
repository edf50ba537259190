"""Names of functions for messages: their name and file, without an address in memory."""

from functools import partial
from types import MethodType


def describe(observer: object) -> str:
    """`module.name (file:line)`. For an object with `__call__`, those of its class."""
    observer = unwrap(observer)
    if not hasattr(observer, "__qualname__"):
        call = vars(type(observer)).get("__call__")
        return describe(call) if hasattr(call, "__code__") else name_of(observer)
    name = f"{getattr(observer, '__module__', None) or 'builtins'}.{name_of(observer)}"
    code = getattr(observer, "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def name_of(observer: object) -> str:
    """Only the qualified name."""
    observer = unwrap(observer)
    name: str = getattr(observer, "__qualname__", type(observer).__qualname__)
    return name


def unwrap(observer: object) -> object:
    while isinstance(observer, partial):
        observer = observer.func
    return observer.__func__ if isinstance(observer, MethodType) else observer
