"""The process that syncs: signals are the broker's business, and a child that is stuck is not waited for."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from headwater.broker import syncer
from headwater.broker.syncer import Syncer


class Child:
    """A syncer on one file, and what it answered."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.answers: asyncio.Queue[OSError | None] = asyncio.Queue()
        self.syncer = Syncer([self.descriptor], asyncio.get_running_loop(), self.answers.put_nowait)

    async def sync(self) -> OSError | None:
        self.syncer.sync(0)
        return await self.answers.get()

    def stop(self) -> None:
        self.syncer.stop()
        os.close(self.descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_to_the_whole_group_leave_the_child_alone(tmp_path: Path, number: signal.Signals) -> None:
    child = Child(tmp_path / "journal")
    os.kill(child.syncer.process_id, number)  # also before the child has run its first line
    assert await child.sync() is None
    os.kill(child.syncer.process_id, number)
    assert await child.sync() is None
    child.stop()
    assert child.syncer.process.returncode == 0


async def test_a_child_that_is_stopped_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncer, "STOP_TIMEOUT_S", 0.1)
    child = Child(tmp_path / "journal")
    os.kill(child.syncer.process_id, signal.SIGSTOP)
    child.stop()
    assert child.syncer.process.returncode == -signal.SIGKILL


async def test_a_child_that_has_ended_is_a_failed_sync(tmp_path: Path) -> None:
    child = Child(tmp_path / "journal")
    os.kill(child.syncer.process_id, signal.SIGKILL)
    error = await child.answers.get()
    assert error is not None
    assert "has ended" in str(error)
    os.close(child.descriptor)
    child.syncer.process.wait()
    child.syncer.socket.close()
