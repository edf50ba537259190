"""The process that syncs: signals are the broker's business, and a child that is stuck is not waited for."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.broker.shell import syncer
from headwater.broker.shell.syncer import Syncer
from headwater.effects.files import SyncError


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


async def test_the_child_asks_the_system_for_a_sync_of_that_very_file(tmp_path: Path) -> None:
    """A pipe cannot be synced, and the system says so: a child that did not ask would report success (M01)."""
    reading, writing = os.pipe()
    file = os.open(tmp_path / "journal", os.O_RDWR | os.O_CREAT)
    answers: asyncio.Queue[OSError | None] = asyncio.Queue()
    child = Syncer([file, writing], asyncio.get_running_loop(), answers.put_nowait, ["0.journal", "1.journal"])
    for index, number in ((0, None), (1, errno.EINVAL), (0, None), (1, errno.EINVAL)):
        child.sync(index)
        error = await answers.get()
        assert (error.errno if error is not None else None) == number
        if error is not None:
            assert isinstance(error, SyncError)
            assert error.filename == "1.journal"
    child.stop()
    for descriptor in (reading, writing, file):
        os.close(descriptor)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not there")
def test_every_acknowledged_batch_was_synced(tmp_path: Path) -> None:
    """What the kernel saw: between a write to the journal and the answer to its client there is a sync of the journal."""
    trace = tmp_path / "trace"
    command = [
        *(
            "strace",
            "-f",
            "-y",
            "-qq",
            "-s",
            "4096",
            "-e",
            "trace=pwrite64,pwritev,pwritev2,fdatasync",
            "-o",
            str(trace),
        ),
        *(sys.executable, "-c", WRITE_ONE, str(tmp_path / "data")),
    ]
    subprocess.run(command, check=True, timeout=60)
    calls = [line for line in trace.read_text().splitlines() if "0.journal" in line or "1.journal" in line]
    last_write = max(at for at, line in enumerate(calls) if "pwrite" in line and "needle" in line)
    assert any("fdatasync" in line for line in calls[last_write:]), calls


WRITE_ONE = """
import sys
import headwater as hw
broker = hw.Broker(sys.argv[1]).start()
with hw.Producer(broker.address) as producer:
    producer.send("t", b"needle").result(30_000)
import os
os._exit(0)  # no clean stop, which would sync everything
"""
