"""The process that compacts. It shares no interpreter lock with the requests, and has a lower priority.

There is one process per job, so without jobs it costs nothing, and a job's memory is released at its end. A thread waits for
it. It inherits a lock: if the broker is killed, the next one on the directory waits until this process has noticed, and has
ended (`LogStore.wait_for_cleaner`).
"""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headwater.broker.shell.children import start_child
from headwater.effects.files import DiskLock
from headwater.storage.store import CLEANER_LOCK

if TYPE_CHECKING:
    from headwater.broker.compaction_chore import Done
    from headwater.storage.cleaner import CleanJob


class CleanerProcess:
    """Runs one job at a time and calls back in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: str) -> None:
        self.loop = loop
        self.lock_path = f"{directory}/{CLEANER_LOCK}"
        self.thread = ThreadPoolExecutor(1, "headwater-cleaner")
        self.process: subprocess.Popen[str] | None = None
        self.is_stopping = False

    def run(self, job: "CleanJob", done: "Done") -> None:
        from headwater.storage.cleaner import COMMAND_MODULE, job_text, read_result  # not needed at the start

        if self.is_stopping:  # the last checkpoint may trigger one more job
            return
        command = [sys.executable, "-P", "-m", COMMAND_MODULE, str(os.getpid())]
        future = self.loop.run_in_executor(self.thread, self.wait_for, command, job_text(job))

        def ended(finished: "asyncio.Future[tuple[str, str]]") -> None:
            if self.is_stopping or finished.cancelled():
                return
            if finished.exception() is not None:
                done(None, str(finished.exception()))
                return
            result, reason = finished.result()
            done(read_result(result) if result else None, reason)

        future.add_done_callback(ended)

    def wait_for(self, command: list[str], text: str) -> tuple[str, str]:
        """Runs in the thread. Returns the result as text, or "" and the reason."""
        pipe = subprocess.PIPE
        lock = DiskLock(self.lock_path)
        try:
            self.process = start_child(
                command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, pass_fds=[lock.descriptor]
            )
        finally:
            lock.leave_to_child()
        output, errors = self.process.communicate(text)
        lines = errors.strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with status {self.process.returncode}"
        return (output, "") if self.process.returncode == 0 else ("", reason)

    async def stop(self) -> None:
        """Ends a running job; the log is then unchanged."""
        self.is_stopping = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        await self.loop.run_in_executor(None, self.thread.shutdown)
        await asyncio.sleep(0)
