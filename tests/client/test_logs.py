"""What librdkafka logs, as a handful of lines, and a line when the broker is back."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import headwater as hw
from headwater.client.logs import LOOK_MS, REPEAT_MS, ClientLog
from headwater.effects.clock import ManualClock
from headwater.testing import TestBroker

REFUSED = "[thrd:127.0.0.1:9/bootstrap]: 127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused"
NAME = "headwater#producer-1"


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "headwater.client" and r.levelno >= level]


def test_a_kind_of_line_comes_once_and_then_with_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    log = ClientLog(clock)
    for _ in range(800):
        log.log(logging.ERROR, "%s [%s] %s", "FAIL", NAME, REFUSED)
        log.log(logging.WARNING, "%s [%s] %s", "GETPID", NAME, "[thrd:main]: attempt 17 failed")
    assert lines(caplog) == [
        f"{NAME}: {REFUSED.partition(']: ')[2]}; trying again",
        f"{NAME}: attempt 17 failed",
    ]
    clock.advance(REPEAT_MS)
    log.log(logging.WARNING, "%s [%s] %s", "GETPID", NAME, "[thrd:main]: attempt 18 failed")
    assert lines(caplog)[2:] == [f"{NAME}: attempt 18 failed (799 more lines like this were left out)"]


def test_a_refusal_is_another_kind_than_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    log = ClientLog(ManualClock())
    log.log(logging.ERROR, "%s [%s] %s", "FAIL", NAME, REFUSED)
    log.log(logging.ERROR, "%s [%s] %s", "FAIL", NAME, "[thrd:a]: SASL authentication error: no such user")
    assert len(lines(caplog)) == 2


def test_a_line_says_when_the_broker_is_back_if_one_said_that_it_was_away(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    log = ClientLog(clock)
    assert not log.is_to_look()
    log.broker_is_back()
    log.broker_is_away()
    log.broker_is_back()  # that was too short to be logged
    assert lines(caplog) == []
    log.log(logging.ERROR, "%s [%s] %s", "FAIL", NAME, REFUSED)
    log.broker_is_away()
    assert not log.is_to_look()
    clock.advance(LOOK_MS)
    assert log.is_to_look()
    assert not log.is_to_look()
    log.broker_is_back()
    assert lines(caplog)[1:] == [f"{NAME}: the broker answers again, after {LOOK_MS / 1000:.1f} s"]


def test_kinds_are_bounded_and_a_closed_client_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = ClientLog(ManualClock())
    for number in range(1000):
        log.log(logging.WARNING, "%s [%s] %s", f"FACILITY{number}", NAME, "x")
    assert len(log.shown) <= 100
    caplog.clear()
    log.is_closed = True
    log.log(logging.CRITICAL, "%s [%s] %s", "FAIL", NAME, REFUSED)
    assert lines(caplog) == []


def test_a_broker_that_is_away_and_comes_back_makes_a_handful_of_lines(
    broker: TestBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        hw.Producer(broker) as producer,
        hw.Consumer(broker, "restarts", group="g", idle_timeout_ms=20_000) as consumer,
    ):
        producer.send("restarts", 1).result(20_000)
        assert len(consumer.take(1)) == 1
        broker.kill()
        while None in (consumer._reader.notes.log.away_ms, producer._notes.log.away_ms):
            assert consumer.take(1, 100) == []
        broker.start()
        producer.send("restarts", 2).result(20_000)
        assert len(consumer.take(1, 20_000)) == 1
        while producer._notes.log.away_ms is not None:
            consumer.take(1, 50)
    found = lines(caplog)
    assert 2 <= len(found) <= 8, found
    assert sum("answers again" in line for line in found) >= 1, found
    assert not [line for line in found if "FAIL" in line]


def python_blocks(path: str, heading: str) -> str:
    text = (Path(__file__).parents[2] / path).read_text()
    return text[text.index(heading) :].split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize(
    ("path", "heading"),
    [("docs/how-to/handle-failures.md", "## Exactly once"), ("docs/tutorial/first-broker.md", "## From Python")],
)
def test_the_documents_snippets_write_nothing_about_connections(path: str, heading: str) -> None:
    command = [sys.executable, "-c", python_blocks(path, heading)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr == ""
