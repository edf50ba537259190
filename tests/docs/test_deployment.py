"""What is deployed starts: the unit and the Dockerfile use options that there are, and the metrics are those of the broker."""

import json
import re
import shlex
from pathlib import Path

from headwater.cli.up import parser
from headwater.observability.metrics import METRICS, REQUESTS, UP

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_the_unit_starts_the_broker_and_waits_for_its_clean_stop() -> None:
    text = (DEPLOY / "headwater.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    command, *arguments = shlex.split(settings["ExecStart"])
    assert Path(command).name == "headwater"
    assert arguments[0] == "up"
    parsed = parser().parse_args(arguments[1:])
    assert parsed.data.startswith(f"/var/lib/{settings['StateDirectory']}/")
    gives_up_s = float(re.findall(r"^STOP_TIMEOUT_S = ([\d.]+)", up_source(), re.MULTILINE)[0])
    assert int(settings["TimeoutStopSec"]) > gives_up_s


def up_source() -> str:
    return (ROOT / "src" / "headwater" / "cli" / "up.py").read_text()


def test_the_container_starts_the_broker() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    entry, more = (
        json.loads(re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE)[0]) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry[:2] == ["headwater", "up"]
    parsed = parser().parse_args([*entry[2:], *more])
    assert parsed.data.startswith("/data/")
    assert parsed.insecure


def test_the_page_on_monitoring_has_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    names = {metric.name + ("_total" if metric.is_total else "") for metric in (UP, REQUESTS, *METRICS)}
    assert set(re.findall(r"`(headwater_\w+)`", text)) == names
