"""The wheel alone, in an empty environment: the broker starts from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_wheel_installs_and_starts(tmp_path: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    build = [uv if uv.exists() else "uv", "build", "--wheel", "--quiet", "--out-dir", tmp_path / "dist", ROOT]
    subprocess.run(list(map(str, build)), check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run(list(map(str, pip)), check=True)
    command = [str(tmp_path / "empty" / "bin" / "headwater"), "up", "--listen", "127.0.0.1:0", "--data", "d"]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()
    assert "Headwater is ready on 127.0.0.1:" in line
