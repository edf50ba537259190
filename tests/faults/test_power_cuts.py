"""Power cuts of ext4 under mixed load: whatever was acknowledged is there, once, in order, on what the disk then has.

`TEST_POWER_CUTS` says how many (`make power-cuts`: 50), and `TEST_POWER_SEED` repeats a run's choices.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CUTS = int(os.environ.get("TEST_POWER_CUTS", "3"))
SEED = int(os.environ.get("TEST_POWER_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
TOOLS = ("unshare", "mount", "umount", "mkfs.ext4", "e2fsck")
ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
TIMEOUT_S = 120 + 30 * CUTS
CLEAN_TIMEOUT_S = 60
UNREACHABLE = "/disk"  # the file of a recorded disk whose mount is gone


def missing() -> str:
    """Why it cannot run here; "" where it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "it mounts disks: that needs root on Linux"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    absent += [path for path in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(path)]
    return f"it needs {', '.join(absent)}" if absent else ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def start(directory: Path, cuts: int) -> "subprocess.Popen[str]":
    """Its standard input ends with this process, and it with that."""
    command = [*ISOLATED, sys.executable, "-m", "tests.power.cuts", str(directory), str(cuts), str(SEED)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path: Path) -> None:
    process = start(tmp_path, CUTS)
    try:
        assert process.stdout is not None
        output = process.stdout.read()
        code = process.wait(TIMEOUT_S)
    finally:
        process.kill()
        process.communicate()
    print(output)
    assert code == 0, f"TEST_POWER_SEED={SEED}: {output[-8000:]}"


def attached(directory: Path) -> set[str]:
    """The loop devices whose files are in this directory."""
    return {device for device, file in backing_files().items() if file.startswith(str(directory))}


def backing_files() -> dict[str, str]:
    """The file of each loop device; only the end of its path where it can no longer be reached."""
    found = {}
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it was detached meanwhile
            found[device.parts[3]] = device.read_text().strip()
    return found


def children_of(process: "subprocess.Popen[str]") -> list[Path]:
    """The folders of its children in /proc: they are there until a process has ended, and all of its namespace."""
    numbers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [Path("/proc") / number for number in numbers]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CLEAN_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # nothing tells a test that another process has come so far


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_run_that_is_ended_leaves_nothing_attached_or_mounted(tmp_path: Path, is_killed: bool) -> None:
    process = start(tmp_path, 1000)
    try:
        wait_until(lambda: bool(attached(tmp_path)))
        devices, children = attached(tmp_path), children_of(process)
        assert children
        if is_killed:
            process.kill()
        else:
            assert process.stdin is not None
            process.stdin.close()  # as the kernel does when this process is killed
        process.wait(CLEAN_TIMEOUT_S)
        wait_until(lambda: not any(child.exists() for child in children))
        assert not attached(tmp_path)
        assert [device for device in devices if backing_files().get(device) == UNREACHABLE] == []
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []
