"""What all tests share.

In CI a skipped test is a failure, since there everything that is needed is installed. Coverage is measured in the tests of
`MEASURED` alone: they are the units' own and the broker's. What a simulation draws would reach other lines each time, and be
twice as slow.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

HERE = Path(__file__).parent
MEASURED = ("broker", "bus", "coordinators", "effects", "protocol", "replay", "security", "storage")
skipped: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.path.is_relative_to(HERE / folder) for folder in MEASURED):
            item.add_marker("no_cover")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and skipped and exitstatus == 0:
        session.exitstatus = 1
        print(f"\nskipped tests fail in CI: {', '.join(skipped)}")
