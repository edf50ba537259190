"""A plugin of the pytest that runs against a planted bug: it writes down what failed, and which source was imported."""

import json
import os
from pathlib import Path

import pytest

import headwater

REPORT_VARIABLE = "MUTANTS_REPORT"
TIMEOUT_TEXT = "from pytest-timeout"
REASON_CHARACTERS = 100

passed: list[str] = []
failed: list[str] = []
timed_out: list[str] = []
skipped: list[str] = []
uncollected: list[str] = []
seconds: dict[str, float] = {}
reasons: dict[str, str] = {}


def reason_of(report: pytest.TestReport) -> str:
    """The first line of what the test failed with."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longreprtext).strip().split("\n")[0][:REASON_CHARACTERS]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        uncollected.append(f"{report.nodeid}: {report.longreprtext[-1000:]}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid
    seconds[name] = seconds.get(name, 0.0) + report.duration
    if report.skipped:
        skipped.append(name)
    elif report.failed:
        (timed_out if TIMEOUT_TEXT in report.longreprtext else failed).append(name)
        reasons[name] = reason_of(report)
    elif report.when == "call":
        passed.append(name)


def pytest_sessionfinish() -> None:
    found = {
        "source": str(Path(headwater.__file__ or "").resolve().parents[1]),
        "passed": passed,
        "failed": failed,
        "timed_out": timed_out,
        "skipped": skipped,
        "uncollected": uncollected,
        "seconds": seconds,
        "reasons": reasons,
    }
    Path(os.environ[REPORT_VARIABLE]).write_text(json.dumps(found))
