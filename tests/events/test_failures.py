"""The runner of fates, with a transport of the test's own: no loop, no bus and no broker."""

from typing import Any

import pytest

from headwater.events.event import Event
from headwater.events.failures import HandlingStoppedError, recover, run_to_end
from headwater.events.fates import DeadLetter, Fate, Retry, Skip, Stop
from headwater.events.headers import HeadersLike

EVENT = Event("orders", 1, headers={"origin": "web"})
FIRST = ValueError("first")


class Waiting:
    def __await__(self) -> Any:
        yield


class Recorder:
    """Records what it is asked for; each further attempt ends as the test says."""

    handler_name = "ship"

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)
        self.steps: list[Any] = []
        self.refusal: Exception | None = None
        self.is_stopped = False
        self.has_caller = False

    async def wait(self, delay_ms: float) -> None:
        self.steps.append(delay_ms)
        if self.is_stopped:
            raise HandlingStoppedError

    async def attempt(self) -> None:
        self.steps.append("attempt")
        if (error := self.ends.pop(0)) is not None:
            raise error

    def give_up(self, error: Exception) -> bool:
        self.steps.append(error)
        return self.has_caller

    async def put_aside(self, topic: str, headers: HeadersLike) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.steps.append((topic, dict(headers)))
        return ", as the test wants"


def outcome(transport: Recorder, fate: Fate) -> Exception | None:
    return run_to_end(recover(EVENT, FIRST, fate, transport))


def test_an_event_is_tried_again_until_it_succeeds() -> None:
    transport = Recorder(ValueError("second"), None)
    assert outcome(transport, Retry(5, delay_ms=10, factor=3)) is None
    assert transport.steps == [10, "attempt", 30, "attempt"]


@pytest.mark.parametrize("fate", [Retry(1, delay_ms=10), Retry(1, delay_ms=10, then=Stop())])
def test_the_last_error_stops_the_transport(fate: Fate) -> None:
    last = ValueError("last")
    transport = Recorder(last)
    assert outcome(transport, fate) is last
    assert transport.steps == [10, "attempt", last]


def test_a_skipped_event_whose_error_a_caller_gets_is_not_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    transport = Recorder()
    transport.has_caller = True
    assert outcome(transport, Skip()) is None
    assert transport.steps == [FIRST]
    assert caplog.records == []


def test_a_skipped_event_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    assert outcome(Recorder(), Skip()) is None
    (record,) = caplog.records
    assert "is skipped: ship failed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is FIRST


def test_a_dead_letter_carries_the_headers_the_error_and_the_place(caplog: pytest.LogCaptureFixture) -> None:
    transport = Recorder()
    assert outcome(transport, DeadLetter()) is None
    error, (topic, headers) = transport.steps
    assert (error, topic) == (FIRST, "orders.dead")
    assert headers == {
        "origin": b"web",
        "hw_error": "ValueError: first",
        "hw_original_topic": "orders",
        "hw_original_partition": "-1",
        "hw_original_offset": "-1",
    }
    assert caplog.messages[0].endswith("is in orders.dead, as the test wants: ValueError: first")


def test_a_dead_letter_that_is_refused_stops_the_transport() -> None:
    transport = Recorder()
    transport.refusal = OSError("full")
    assert outcome(transport, DeadLetter()) is transport.refusal


def test_an_event_that_is_given_back_has_no_fate() -> None:
    transport = Recorder()
    transport.is_stopped = True
    with pytest.raises(HandlingStoppedError):
        outcome(transport, Retry(1, delay_ms=10, then=DeadLetter()))
    assert transport.steps == [10]
    transport = Recorder(HandlingStoppedError())
    with pytest.raises(HandlingStoppedError):
        outcome(transport, Retry(1, delay_ms=10, then=DeadLetter()))
    assert transport.steps == [10, "attempt"]


def test_a_transport_without_a_loop_must_not_wait_on_one() -> None:
    async def wait() -> None:
        await Waiting()

    with pytest.raises(RuntimeError, match="has waited on one"):
        run_to_end(wait())
