"""Which tests of other people's suites are left out, and why."""

from pathlib import Path

HERE = Path(__file__).parent


def read_exceptions(suite: str) -> dict[str, str]:
    """The tests of a suite that are left out, with the reasons."""
    lines = (HERE / f"{suite}.txt").read_text().splitlines()
    pairs = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: reason for name, _, reason in pairs}
