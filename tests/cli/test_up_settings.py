"""What `headwater up` is given: files, variables, options; what it refuses, and what nobody else can read of it."""

import os
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.configs.settings import SettingsError
from headwater.broker.shell.embedded import ChildRunner
from headwater.broker.shell.listeners import read_configuration
from headwater.cli import up

STOCK = Path(__file__).parents[1] / "broker" / "fixtures" / "kafka-4-server.properties"


def pairs(*words: str) -> dict[str, str]:
    found: list[str] = []
    read = up.read_pairs(up.parser().parse_args([*words]), found)
    if found:
        raise SettingsError(*found)
    return read


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        monkeypatch.delenv(name)


def test_a_stock_kafka_4_starts_where_it_is_asked_to() -> None:
    settings, listeners = read_configuration(pairs("--config", str(STOCK), "--insecure"))
    (listener,) = listeners
    assert (listener.name, listener.protocol, listener.port) == ("PLAINTEXT", "PLAINTEXT", 9092)
    assert listener.advertised == ("localhost", 9092)
    assert settings.log_dirs == "/tmp/kraft-combined-logs"


def test_a_stock_kafka_4_says_what_it_needs() -> None:
    with pytest.raises(SettingsError) as caught:
        read_configuration(pairs("--config", str(STOCK)))
    (problem,) = caught.value.problems
    assert "all addresses" in problem
    assert "--insecure" in problem


def test_a_stock_kafka_4_starts_on_the_loopback() -> None:
    listen = ["--listen", "127.0.0.1:9092", "--advertise", "127.0.0.1:9092"]
    _, (listener,) = read_configuration(pairs("--config", str(STOCK), *listen))
    assert listener.host == "127.0.0.1"


def test_controllers_listeners_of_other_names_are_not_listened_on() -> None:
    given = {
        "listeners": "CLIENTS://127.0.0.1:1,QUORUM://0.0.0.0:2",
        "advertised.listeners": "CLIENTS://127.0.0.1:1,QUORUM://h:2",
        "controller.listener.names": "QUORUM",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,QUORUM:PLAINTEXT",
    }
    _, listeners = read_configuration(given)
    assert [listener.name for listener in listeners] == ["CLIENTS"]


@pytest.mark.parametrize("count", ["0", "-1"])
def test_no_nodes_are_refused(count: str) -> None:
    with pytest.raises(SettingsError, match=r"headwater\.nodes"):
        read_configuration(pairs("--nodes", count))


@pytest.mark.parametrize("key", ["ssl.key.password", "listener.name.sasl_ssl.ssl.key.password", "sasl.jaas.config"])
def test_a_secret_on_the_command_line_is_refused_with_an_alternative(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        pairs("--set", f"{key}=hunter2")
    text = str(caught.value)
    assert "hunter2" not in text
    assert "--config" in text
    assert "HEADWATER_" in text


def test_the_variable_that_is_named_for_a_secret_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "listener.name.sasl_ssl.ssl.key.password"
    with pytest.raises(SettingsError) as caught:
        pairs("--set", f"{key}=hunter2")
    monkeypatch.setenv(str(caught.value).rpartition(" ")[2], "hunter2")
    assert pairs()[key] == "hunter2"
    assert pairs("--without-environment") == {}


def test_later_places_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.properties"
    path.write_text("num.partitions=1\nlog.retention.hours=1\nlog.segment.bytes=1048576\n")
    monkeypatch.setenv("HEADWATER_NUM_PARTITIONS", "2")
    monkeypatch.setenv("HEADWATER_LOG_RETENTION_HOURS", "2")
    given = pairs("--config", str(path), "--set", "num.partitions=3")
    assert given == {"num.partitions": "3", "log.retention.hours": "2", "log.segment.bytes": "1048576"}


def test_every_problem_is_a_line_and_the_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "/nowhere", "--set", "nonsense", "--set", "ssl.key.password=x", "--metrics", "10.0.0.1:1"]
    words += ["--set", "log.retention.hours=soon", "--set", "log.cleanup.policy=bogus", "--listen", "10.0.0.1:9092"]
    assert up.main([*words, "--advertise", "PLAINTEXT://0.0.0.0:1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("headwater up: ") for line in lines)


def test_settings_are_checked_without_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--check-config", "--data", str(tmp_path / "data")]
    assert up.main(words) == 0
    assert "are valid" in capsys.readouterr().out
    assert up.main([*words, "--set", "num.partitions=0"]) == 2
    assert "num.partitions" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("address", ["0.0.0.0:9100", "10.0.0.1:9100", ":9100", "example.org:9100"])
def test_metrics_for_strangers_are_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert up.main(["--metrics", address]) == 2
    assert "--insecure" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listener", "is_fine"),
    [
        ("PLAINTEXT://10.0.0.1:1", False),
        ("SASL_PLAINTEXT://10.0.0.1:1", False),
        ("SSL://10.0.0.1:1", False),
        ("PLAINTEXT://example.org:1", False),
        ("PLAINTEXT://[2001:db8::1]:1", False),
        ("PLAINTEXT://127.0.0.2:1", True),
        ("PLAINTEXT://[::1]:1", True),
        ("PLAINTEXT://localhost:1", True),
    ],
)
def test_an_address_that_others_reach_needs_tls_and_a_login(listener: str, is_fine: bool) -> None:
    if is_fine:
        read_configuration({"listeners": listener})
        return
    with pytest.raises(SettingsError, match="--insecure"):
        read_configuration({"listeners": listener})
    if "PLAINTEXT" in listener:
        read_configuration({"listeners": listener, "headwater.insecure": "true"})


def test_settings_of_a_child_process_are_not_on_its_command_line(tmp_path: Path) -> None:
    settings = {"super.users": "User:CN=a,O=b;User:ANONYMOUS", "num.partitions": 3}
    with hw.Broker(tmp_path / "data", settings=settings, in_child_process=True) as broker:
        assert isinstance(broker.runner, ChildRunner)
        process = broker.runner.process
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"super.users" not in command
        with hw.Admin(broker) as admin:
            admin.create_topic("t", -1)
            assert admin.topics()["t"].partitions == 3


def test_a_child_process_that_refuses_its_settings_says_so(tmp_path: Path) -> None:
    broker = hw.Broker(tmp_path / "data", in_child_process=True)
    broker.pairs["num.partitions"] = "none"
    with pytest.raises(hw.BrokerError, match="did not start"):
        broker.start()
