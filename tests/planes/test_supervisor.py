"""The process of the planes is kept running, started again after longer and longer, and stopped with the broker."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from headwater.planes import supervisor as module
from headwater.planes.restarts import Restarts
from headwater.planes.supervisor import Supervisor

WAIT_S = 20
# Answers with its handover on the socket that it inherited, then waits for the end of its input.
SERVES = """
import os, socket, sys
line = sys.stdin.buffer.readline()
socket.socket(fileno=int(line)).sendall(b"%d " % os.getpid() + line)
print("ready", flush=True)
sys.stdin.buffer.read()
"""
ENDS = "raise SystemExit(7)"
STUBBORN = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(3600)"


@contextlib.asynccontextmanager
async def supervised(script: str) -> AsyncIterator[tuple[Supervisor, socket.socket]]:
    """A supervisor of a script, and this end of a socket whose other end the script inherits."""
    own, others = socket.socketpair()
    own.setblocking(False)
    with own, others:
        number = others.fileno()
        found = Supervisor(lambda: b"%d\n" % number, [number], command=[sys.executable, "-c", script])
        try:
            yield found, own
        finally:
            found.stop()
            await asyncio.wait_for(found.ended(), WAIT_S)
            assert found.process is None


async def said(own: socket.socket) -> tuple[int, bytes]:
    """What the script says: its process id, and its handover."""
    data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(own, 1000), WAIT_S)
    process_id, handover = data.split(b" ")
    return int(process_id), handover


async def test_it_gets_its_handover_and_the_descriptors_and_says_when_it_is_ready() -> None:
    async with supervised(SERVES) as (supervisor, own):
        supervisor.start()
        process_id, handover = await said(own)
        assert process_id == supervisor.process.pid  # type: ignore[union-attr]  # it is there
        assert handover == supervisor.handover()
        await asyncio.wait_for(supervisor.ready.wait(), WAIT_S)


async def test_one_that_is_killed_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Restarts, "delay_ms", lambda restarts, ran_ms: 0.0)
    async with supervised(SERVES) as (supervisor, own):
        supervisor.start()
        first, _ = await said(own)
        with caplog.at_level(logging.WARNING):
            os.kill(first, signal.SIGKILL)
            second, handover = await said(own)
    assert second != first
    assert handover
    assert "ended by signal 9; restarting it in 0.0 s" in caplog.text


async def test_one_that_ends_at_once_is_started_later_and_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delays: list[float] = []
    four = asyncio.Event()
    restarts = Restarts()

    def delay_ms(self: Restarts, ran_ms: float) -> float:
        delays.append(restarts_delay(restarts, ran_ms))
        if len(delays) == 4:
            four.set()
        return 0.0

    restarts_delay = Restarts.delay_ms
    monkeypatch.setattr(Restarts, "delay_ms", delay_ms)
    async with supervised(ENDS) as (supervisor, _):
        with caplog.at_level(logging.WARNING):
            supervisor.start()
            await asyncio.wait_for(four.wait(), WAIT_S)
    assert delays[:4] == [500, 1000, 2000, 4000]
    assert "ended with status 7" in caplog.text


async def test_a_command_that_is_not_there_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = asyncio.Event()

    def delay_ms(self: Restarts, ran_ms: float) -> float:
        if caplog.text:
            tried.set()
        return 0.0

    monkeypatch.setattr(Restarts, "delay_ms", delay_ms)
    supervisor = Supervisor(bytes, [], command=["/nowhere/at/all"])
    with caplog.at_level(logging.WARNING):
        supervisor.start()
        await asyncio.wait_for(tried.wait(), WAIT_S)
        supervisor.stop()
        await supervisor.ended()
    assert "cannot be started: " in caplog.text


async def test_nothing_is_started_again_after_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with supervised(SERVES) as (supervisor, own):
        supervisor.start()
        await said(own)
        supervisor.stop()
        await asyncio.wait_for(supervisor.ended(), WAIT_S)
        assert supervisor.process is None
        assert supervisor.timer is None


async def test_one_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.1)
    async with supervised(STUBBORN) as (supervisor, _):
        supervisor.start()
        await asyncio.wait_for(supervisor.ready.wait(), WAIT_S)
        with caplog.at_level(logging.WARNING):
            supervisor.stop()
            await asyncio.wait_for(supervisor.ended(), WAIT_S)
    assert "killing it" in caplog.text


async def test_signals_to_the_group_are_not_for_it() -> None:
    async with supervised(SERVES) as (supervisor, own):
        supervisor.start()
        process_id, _ = await said(own)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process_id, number)
        await asyncio.wait_for(supervisor.ready.wait(), WAIT_S)
        assert supervisor.process is not None
        assert supervisor.process.poll() is None
