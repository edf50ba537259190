"""The Observer pattern: when a subject emits, its observers are called, in order, before `emit` returns.

    price_changed = Signal[str, float]()
    price_changed.connect(lambda item, price: print(item, price))
    price_changed.emit("gold", 2010.5)

How an emit stays cheap: the observers to call are in a tuple that is never changed, only replaced. So an emit walks it
without a lock and without a copy. One comparison per observer shows whether the tuple was replaced meanwhile. An observer
that was disconnected during the emit is no longer called; one that was connected during it is called from the next emit.

A bound method is held as its function and a weak reference to its object, so that observing keeps nothing alive. Functions
and lambdas are held by ordinary references.
"""

import asyncio
import inspect
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum
from types import MethodType
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar, TypeVarTuple, cast, overload

from headwater.bus.errors import EmitError, NoLoopError
from headwater.bus.observers import describe, name_of

logger = logging.getLogger(__name__)

Args = TypeVarTuple("Args")
Result = TypeVar("Result")
Call: TypeAlias = tuple[Callable[[], object] | None, Callable[..., object]]
"""A weak reference to the object of a bound method (None for other observers), and the function to call."""
Awaitables: TypeAlias = list[tuple[Callable[..., object], Awaitable[object]]]
"""Async observers that were called, each with the result to await."""


class OnError(Enum):
    """What an emit does when an observer raises."""

    COLLECT = "collect"
    """Call all the others, then raise EmitError with everything that was raised."""
    STOP = "stop"
    """Raise it at once. Later observers are not called."""
    LOG = "log"
    """Log it and continue."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"on_error is {value!r}; give one of {', '.join(repr(each.value) for each in cls)}")


class Connection:
    """The connection of an observer to a signal. It ends by `disconnect`, or with the block if used in a `with` statement."""

    __slots__ = ("__weakref__", "call", "is_async", "is_blocked", "observer_name", "once", "priority", "signal", "when")

    def __init__(self, signal: "Signal[*tuple[Any, ...]]", call: Call, *, priority: int, once: bool, when: Any) -> None:
        self.signal, self.call = signal, call
        self.priority, self.once, self.when = priority, once, when
        self.is_async = inspect.iscoroutinefunction(call[1])
        self.is_blocked = False
        self.observer_name = name_of(call[1])

    @property
    def is_plain(self) -> bool:
        """Whether the observer can be called without a check of `once` or `when`."""
        return not (self.once or self.is_async or self.is_blocked) and self.when is None

    @property
    def is_connected(self) -> bool:
        return self in self.signal.connections

    def disconnect(self) -> None:
        """Disconnects the observer: it is no longer called. Does nothing if it is not connected."""
        self.signal.remove(self)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Does not call this observer within the block."""
        self.is_blocked = True
        self.signal.rebuild()
        try:
            yield
        finally:
            self.is_blocked = False
            self.signal.rebuild()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *details: object) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<Connection of {self.observer_name}>"


class Signal(Generic[*Args]):
    """A subject that can be observed. For example, observers of `Signal[str, float]()` are functions of (str, float).

    As an attribute of a class, it gives every instance a signal of its own. `on_error` says what an emit does when an observer
    raises. Connecting and disconnecting are safe from any thread. Observers run in the thread that emits.
    """

    __slots__ = (
        "__orig_class__",
        "__weakref__",
        "batches",
        "blocks",
        "calls",
        "connections",
        "lock",
        "name",
        "on_error",
    )

    def __init__(self, name: str = "signal", *, on_error: OnError | str = OnError.COLLECT) -> None:
        self.name = name
        self.on_error = OnError(on_error)
        self.connections: tuple[Connection, ...] = ()
        # The observers for an emit if each of them is plain; None if an emit has to check each connection.
        self.calls: tuple[Call, ...] | None = ()
        self.lock = threading.RLock()
        self.blocks = 0
        self.batches: list[list[tuple[Any, ...]]] = []

    # -- as an attribute of a class

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"{owner.__qualname__}.{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> "Signal[*Args]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> "Signal[*Args]": ...
    def __get__(self, instance: object | None, owner: type) -> "Signal[*Args]":
        if instance is None:
            return self
        own = Signal[*Args](self.name, on_error=self.on_error)
        # An entry in the instance's dictionary hides this descriptor, since it has no __set__.
        vars(instance)[self.name.rpartition(".")[2]] = own
        return own

    # -- observers

    @overload
    def connect(
        self,
        observer: Callable[[*Args], object],
        *,
        priority: int = 0,
        once: bool = False,
        when: Callable[[*Args], bool] | None = None,
    ) -> Connection: ...
    @overload
    def connect(
        self, *, priority: int = 0, once: bool = False, when: Callable[[*Args], bool] | None = None
    ) -> Callable[[Callable[[*Args], Result]], Callable[[*Args], Result]]: ...
    def connect(
        self,
        observer: Any = None,
        *,
        priority: int = 0,
        once: bool = False,
        when: Callable[[*Args], bool] | None = None,
    ) -> Any:
        """Calls `observer` with each emit: by descending priority, and by the order of connecting among equals.

        With `once` it is called for one emit only. With `when`, a function of the same arguments, it is called only for
        emits for which that returns True. Without an observer this is a decorator.
        """
        if observer is None:

            def decorate(function: Callable[[*Args], Result]) -> Callable[[*Args], Result]:
                self.add(function, priority, once, when)
                return function

            return decorate
        return self.add(observer, priority, once, when)

    def add(self, observer: Callable[..., object], priority: int, once: bool, when: Any) -> Connection:
        if not callable(observer):
            raise TypeError(f"{self.name}: an observer must be callable, not {type(observer).__name__}")
        connection = Connection(
            cast("Signal[*tuple[Any, ...]]", self),
            self.call_of(observer),
            priority=priority,
            once=once,
            when=when,
        )
        with self.lock:
            # A stable sort: equal priorities stay in the order in which they came.
            self.connections = tuple(sorted((*self.connections, connection), key=lambda c: -c.priority))
            self.rebuild()
        return connection

    def call_of(self, observer: Callable[..., object]) -> Call:
        if not isinstance(observer, MethodType):
            return None, observer
        own = weakref.ref(self)

        def gone(reference: object) -> None:
            signal = own()
            if signal is not None:
                signal.remove_where(lambda connection: connection.call[0] is reference)

        return weakref.ref(observer.__self__, gone), observer.__func__

    def disconnect(self, observer: Callable[..., object] | None = None) -> None:
        """Disconnects an observer, or all of them. Does nothing if it is not connected."""
        if observer is None:
            self.remove_where(lambda connection: True)
        elif isinstance(observer, MethodType):
            subject, function = observer.__self__, observer.__func__
            self.remove_where(lambda c: c.call[0] is not None and c.call[0]() is subject and c.call[1] is function)
        else:
            self.remove_where(lambda connection: connection.call == (None, observer))

    def remove(self, connection: Connection) -> None:
        self.remove_where(lambda known: known is connection)

    def remove_where(self, matches: Callable[[Connection], bool]) -> None:
        with self.lock:
            self.connections = tuple(c for c in self.connections if not matches(c))
            self.rebuild()

    def rebuild(self) -> None:
        with self.lock:
            is_plain = not self.blocks and not self.batches and all(c.is_plain for c in self.connections)
            self.calls = tuple(c.call for c in self.connections) if is_plain else None

    def __len__(self) -> int:
        return len(self.connections)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Signal {self.name} with {len(self)} observer{'' if len(self) == 1 else 's'}>"

    # -- emitting

    def emit(self, *args: *Args) -> None:
        """Calls every observer. Async observers become tasks of the running loop.

        If observers raise, `on_error` decides: COLLECT raises EmitError, STOP raises what the first one raised. Raises
        NoLoopError if an observer is async and no loop runs.
        """
        calls = self.calls
        if calls is None:
            self.emit_checked(args, None)
            return
        errors = None
        for position, (subject, function) in enumerate(calls):
            try:
                if subject is None:
                    function(*args)
                elif (instance := subject()) is not None:
                    function(instance, *args)
            except Exception as error:  # noqa: BLE001 - whatever an observer raises has its policy
                errors = self.note(errors, function, error)
            if calls is not self.calls:
                self.emit_rest(calls[position + 1 :], args, errors)
                return
        if errors is not None:
            raise EmitError(self.name, errors)

    def emit_rest(self, rest: tuple[Call, ...], args: tuple[Any, ...], errors: Any) -> None:
        """The rest of an emit during which observers were connected or disconnected."""
        for call in rest:
            connection = next((c for c in self.connections if c.call is call), None)
            if connection is not None:
                errors = self.call_one(connection, args, errors, None)
        if errors is not None:
            raise EmitError(self.name, errors)

    def emit_checked(self, args: tuple[Any, ...], awaitables: Awaitables | None) -> None:
        if self.blocks:
            return
        if self.batches:
            self.batches[-1].append(args)
            return
        errors, connections = None, self.connections
        for connection in connections:
            if connections is self.connections or connection in self.connections:
                errors = self.call_one(connection, args, errors, awaitables)
        if errors is not None:
            raise EmitError(self.name, errors)

    def call_one(
        self, connection: Connection, args: tuple[Any, ...], errors: Any, awaitables: Awaitables | None
    ) -> Any:
        subject, function = connection.call
        try:
            if connection.is_blocked or (connection.when is not None and not connection.when(*args)):
                return errors
            if connection.once:
                connection.disconnect()
            instance = subject() if subject is not None else None
            if subject is not None and instance is None:
                return errors
            result = function(*args) if subject is None else function(instance, *args)
            if connection.is_async:
                awaitable = cast("Coroutine[Any, Any, object]", result)
                if awaitables is not None:
                    awaitables.append((function, awaitable))
                else:
                    start_task(self, connection, awaitable)
        except Exception as error:  # noqa: BLE001 - whatever an observer raises has its policy
            errors = self.note(errors, function, error)
        return errors

    async def emit_async(self, *args: *Args) -> None:
        """As `emit`, but waits for the async observers, which run concurrently."""
        awaitables: Awaitables = []
        errors: Any = None
        try:
            self.emit_checked(args, awaitables)
        except EmitError as error:
            errors = error.errors
        finally:
            results = await asyncio.gather(*(awaitable for _, awaitable in awaitables), return_exceptions=True)
        for (function, _), result in zip(awaitables, results, strict=True):
            if isinstance(result, Exception):
                errors = self.note(errors, function, result)
            elif isinstance(result, BaseException):
                raise result
        if errors is not None:
            raise EmitError(self.name, errors)

    def note(self, errors: Any, function: object, error: Exception) -> Any:
        """Treats an error as `on_error` says. Returns the list of the errors that were collected so far."""
        if self.on_error is OnError.STOP:
            raise error
        if self.on_error is OnError.LOG:
            logger.error("%s: %s raised", self.name, describe(function), exc_info=error)
            return errors
        return [*(errors or ()), (function, error)]

    # -- blocked and batched emits

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Emits within the block call no observer."""
        with self.lock:
            self.blocks += 1
            self.rebuild()
        try:
            yield
        finally:
            with self.lock:
                self.blocks -= 1
                self.rebuild()

    @contextmanager
    def batched(self, reduce: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]] | None = None) -> Iterator[None]:
        """Emits within the block are held until its end, and then made in order. `reduce` may make fewer of them.

        By default, consecutive emits with the same arguments become one. If the block raises, nothing is emitted.
        """
        kept: list[tuple[Any, ...]] = []
        with self.lock:
            self.batches.append(kept)
            self.rebuild()
        try:
            yield
        except BaseException:
            kept.clear()
            raise
        finally:
            with self.lock:
                self.batches.remove(kept)
                self.rebuild()
        for args in (reduce or without_repetitions)(kept):
            self.emit(*args)


def without_repetitions(kept: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [args for n, args in enumerate(kept) if n == 0 or args != kept[n - 1]]


running: set[asyncio.Task[object]] = set()  # a loop holds its tasks weakly


def start_task(
    signal: "Signal[*tuple[Any, ...]]", connection: Connection, coroutine: Coroutine[Any, Any, object]
) -> None:
    """Runs an async observer whose result is not awaited. What it raises is logged."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        coroutine.close()
        raise NoLoopError(
            f"{signal.name}: {connection.observer_name} is async and no loop runs here; use await emit_async(...)"
        ) from None
    task = loop.create_task(coroutine)
    running.add(task)

    def done(finished: asyncio.Task[object]) -> None:
        running.discard(finished)
        if not finished.cancelled() and (error := finished.exception()) is not None:
            logger.error("%s: %s raised", signal.name, describe(connection.call[1]), exc_info=error)

    task.add_done_callback(done)
