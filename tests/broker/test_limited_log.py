"""Warnings that strangers can provoke."""

import logging

import pytest

from headwater.broker.limited_log import INTERVAL_MS, LINES, LimitedLog


def test_a_few_of_each_kind_then_their_number(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = LimitedLog(logging.getLogger("headwater.test"), lambda: now[0])
    for n in range(LINES + 7):
        log.warning("bees", "a bee from %s", n)
    log.warning("wasps", "a wasp")
    assert [r.getMessage() for r in caplog.records] == [*(f"a bee from {n}" for n in range(LINES)), "a wasp"]
    caplog.clear()
    now[0] = INTERVAL_MS - 1
    log.warning("bees", "a bee")
    assert caplog.records == []
    now[0] = INTERVAL_MS
    log.warning("bees", "a bee")
    assert [r.getMessage() for r in caplog.records] == ["bees: 8 more in the 10 s before", "a bee"]
    caplog.clear()
    now[0] = 3 * INTERVAL_MS
    log.warning("bees", "a bee")
    assert [r.getMessage() for r in caplog.records] == ["a bee"]
