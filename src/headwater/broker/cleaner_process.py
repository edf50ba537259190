"""The process that compacts: it shares no interpreter lock with the requests, and gives way to them.

One a job: it costs nothing while there is none, and its memory is gone when it is done. A thread waits for it.
"""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.broker.compacting import Done
    from headwater.storage.cleaner import CleanJob


COMMAND = [sys.executable, "-m", "headwater.storage.cleaner"]


class CleanerProcess:
    """Runs one job at a time and calls back in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = ThreadPoolExecutor(1, "headwater-cleaner")
        self.process: subprocess.Popen[str] | None = None
        self.is_stopping = False

    def run(self, job: "CleanJob", done: "Done") -> None:
        from headwater.storage.cleaner import job_text, read_result  # not needed to start the broker

        future = self.loop.run_in_executor(self.thread, self.wait_for, job_text(job))

        def ended(finished: "asyncio.Future[tuple[str, str]]") -> None:
            if self.is_stopping or finished.cancelled():
                return
            if finished.exception() is not None:
                done(None, str(finished.exception()))
                return
            result, reason = finished.result()
            done(read_result(result) if result else None, reason)

        future.add_done_callback(ended)

    def wait_for(self, text: str) -> tuple[str, str]:
        """In the thread: the result as text, or "" and the reason."""
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        output, errors = self.process.communicate(text)
        lines = errors.strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with status {self.process.returncode}"
        return (output, "") if self.process.returncode == 0 else ("", reason)

    async def stop(self) -> None:
        """Ends a job that is under way; the log is then as it was."""
        self.is_stopping = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        await self.loop.run_in_executor(None, self.thread.shutdown)
        await asyncio.sleep(0)
