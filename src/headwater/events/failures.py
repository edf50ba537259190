"""What is done with an event whose handler raised: one runner for everything that hands events to handlers.

A fate (`fates`) says what: further attempts after waits, and then a dead letter, the next event, or the end. The runner
follows the fate. A transport does what that takes: it waits, calls the handler again, and sends the dead letter. There are
two, the bus's subscriptions and the client's consumers.

    try:
        handler(event)
    except Exception as error:
        if (failure := await recover(event, error, fate, transport)) is not None:
            ...  # the transport stops with this error

A dead letter that cannot be sent stops the transport as well: nothing is lost silently. A transport without an event loop
uses the same runner. Its methods are async but never wait on a loop, and `run_to_end` does so.
"""

import logging
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from headwater.events.event import Event
from headwater.events.fates import DeadLetter, Fate, Skip, delays_ms, error_headers, last_fate
from headwater.events.headers import HeadersLike

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class HandlingStoppedError(Exception):
    """The event is given back: it is not handled, it has no fate, and it comes again."""


class Transport(Protocol):
    """What the runner needs for one event."""

    @property
    def handler_name(self) -> str:
        """For messages: what failed."""
        ...

    async def wait(self, delay_ms: float) -> None:
        """Waits for the next attempt. Raises HandlingStoppedError if there will be none."""
        ...

    async def attempt(self) -> None:
        """Calls the handler again. Raises what it raises."""
        ...

    def give_up(self, error: Exception) -> bool:
        """The last attempt has failed. Returns whether a waiting caller gets the error: then it is not logged."""
        ...

    async def put_aside(self, topic: str, headers: HeadersLike) -> str:
        """Returns when the event is in its dead-letter topic, with a remark for the log. Raises where it cannot be."""
        ...


async def recover(event: Event[Any], error: Exception, fate: Fate, transport: Transport) -> Exception | None:
    """Follows the fate of an event whose handler raised.

    None: a later attempt succeeded, or the event was put aside or skipped. An error: the transport has to stop with it.
    """
    for delay_ms in delays_ms(fate):
        await transport.wait(delay_ms)
        try:
            await transport.attempt()
        except HandlingStoppedError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever a handler raises has its fate
            error = raised
        else:
            return None
    has_caller = transport.give_up(error)
    match last_fate(fate):
        case DeadLetter() as letter:
            return await put_aside(event, error, letter.topic_for(event.topic), transport)
        case Skip() if has_caller:
            return None
        case Skip():
            logger.error("%r is skipped: %s failed", event, transport.handler_name, exc_info=error)
            return None
        case _:
            return error


async def put_aside(event: Event[Any], error: Exception, topic: str, transport: Transport) -> Exception | None:
    headers = [*event.headers, *error_headers(error, event.topic, event.partition, event.offset)]
    try:
        remark = await transport.put_aside(topic, headers)
    except Exception as refused:  # noqa: BLE001 - a full queue, a broker that refuses it, what a bus's store raises
        return refused
    logger.warning("%r failed and is in %s%s: %s: %s", event, topic, remark, type(error).__name__, error)
    return None


def run_to_end(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that never waits on a loop. Raises RuntimeError if it does."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("a transport without an event loop has waited on one")
