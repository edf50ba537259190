"""Runs tests against a copy of the source with a bug in it, and says what became of the bug.

The working tree is never edited. Each worker has a copy of `src`; a bug is written into it, its tests run in a new
interpreter that imports the copy, and the file is put back. Only a test that fails, by assertion or by error, kills a bug.
Tests that cannot be collected, an interpreter that does not start or does not end, a test that is skipped: none of these
shows that a test has noticed anything. A test that runs into its own time limit kills only a bug that says that it hangs.
"""

import compileall
import contextlib
import json
import os
import py_compile
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.mutants.planting import ROOT, SOURCE, Bug, Planting
from tests.mutants.witness import REPORT_VARIABLE

TEST_TIMEOUT_S = 30.0
BUG_TIMEOUT_S = 120.0
OUTPUT_CHARACTERS = 2000


@dataclass(slots=True)
class Report:
    """What the witness wrote down; `trouble` says why there is nothing from it, or nothing to go by."""

    source: str = ""
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    timed_out: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    uncollected: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # what the tests have failed with
    trouble: str = ""


class Fate(Enum):
    """What became of a bug."""

    DIED = "died"
    SURVIVED = "SURVIVED"
    HUNG = "HUNG"
    NOT_TRIED = "NOT TRIED"


class Copy:
    """A copy of the source, which may have one bug at a time."""

    def __init__(self, home: Path, source: Path = SOURCE) -> None:
        self.home, self.source = home, home / "src"
        self.report, self.output = home / "report.json", home / "output.txt"
        shutil.copytree(source, self.source, ignore=shutil.ignore_patterns("__pycache__"))
        # Saves the tests' interpreters the work. Checked by content: a bug may come within a clock tick, with as many bytes.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.source, quiet=2, invalidation_mode=mode, workers=0)

    @contextlib.contextmanager
    def planted(self, planting: Planting | None) -> Iterator[None]:
        """With the bug, within the block."""
        if planting is None:
            yield
            return
        path = self.source / planting.path
        before = path.read_text()
        path.write_text(planting.content)
        try:
            yield
        finally:
            path.write_text(before)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        return kept | {
            "PYTHONPATH": str(self.source),  # it comes before what is installed, and that is the working tree
            "HYPOTHESIS_STORAGE_DIRECTORY": str(
                self.home / "hypothesis"
            ),  # what fails here must not be tried elsewhere
            REPORT_VARIABLE: str(self.report),
        }

    def run(
        self,
        tests: Sequence[str],
        planting: Planting | None = None,
        *,
        test_timeout_s: float = TEST_TIMEOUT_S,
        timeout_s: float = BUG_TIMEOUT_S,
        to_the_end: bool = False,
    ) -> Report:
        """Runs tests, up to the first failure unless `to_the_end`."""
        self.report.unlink(missing_ok=True)
        plugins = ["-p", "tests.mutants.witness", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", "-q", *plugins, f"--timeout={test_timeout_s:g}", "--tb=short"]
        with self.planted(planting):
            has_ended = self.has_ended([*command, *([] if to_the_end else ["-x"]), *tests], timeout_s)
        output = self.output.read_text(errors="replace")[-OUTPUT_CHARACTERS:]
        if not has_ended:
            return Report(trouble=f"the interpreter has not ended in {timeout_s:g} s: {output}")
        if not self.report.exists():
            return Report(trouble=f"pytest did not get to its end: {output}")
        report = Report(**json.loads(self.report.read_text()))
        if report.source != str(self.source.resolve()):
            report.trouble = f"the tests imported {report.source}, not the copy in {self.source}"
        elif report.uncollected:
            report.trouble = f"tests could not be collected: {report.uncollected[0]}"
        elif not (report.passed or report.failed or report.timed_out):
            report.trouble = f"no test ran: {output}"
        return report

    def has_ended(self, command: list[str], timeout_s: float) -> bool:
        """Runs a command; False if it had to be killed. What it started ends with it, also what a bug has left behind."""
        with self.output.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return True


def fate_of(bug: Bug, report: Report) -> tuple[Fate, str]:
    """What became of the bug, and by which test or why not."""
    if report.trouble:
        return Fate.NOT_TRIED, report.trouble
    if report.failed:
        name = report.failed[0]
        return Fate.DIED, f"{name}: {report.reasons.get(name, '')}"
    if report.timed_out:
        return (Fate.DIED if bug.hangs else Fate.HUNG), report.timed_out[0]
    return Fate.SURVIVED, f"{len(report.passed)} tests passed"
