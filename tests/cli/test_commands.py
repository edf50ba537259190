"""The command line as a user types it: output, errors in one line, exit status."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.shell.ready import Ready

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}


@pytest.fixture(scope="module")
def broker() -> Iterator[hw.Broker]:
    with hw.Broker() as running:
        yield running


def headwater(*words: object, broker: hw.Broker | None = None, stdin: str = "", status: int = 0) -> str:
    """Runs a command; returns its output, or for a failing one its one line of error."""
    environment = dict(ENVIRONMENT)
    if broker is not None:
        environment["HEADWATER_BOOTSTRAP_SERVER"] = broker.address
    result = subprocess.run(
        [sys.executable, "-m", "headwater", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    if status:
        assert len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr
    return result.stdout


def test_topics(broker: hw.Broker) -> None:
    assert headwater("topic", "create", "a", "-p", 3, "-c", "retention.ms=5000", broker=broker) == "Created a\n"
    assert "already exists" in headwater("topic", "create", "a", broker=broker, status=1)
    assert headwater("topic", "create", "a", "--if-not-exists", broker=broker) == ""
    assert headwater("topic", "list", broker=broker).splitlines() == [
        "topic  partitions",
        "─────  ──────────",
        "a               3",
    ]
    (described,) = json.loads(headwater("topic", "describe", "a", "-o", "json", broker=broker))
    assert [row["partition"] for row in described["partitions"]] == [0, 1, 2]
    assert described["configs"] == [{"config": "retention.ms", "value": "5000", "source": "set"}]
    headwater("topic", "alter", "a", "-p", 4, "--delete-config", "retention.ms", broker=broker)
    (described,) = json.loads(headwater("topic", "describe", "a", "-o", "json", broker=broker))
    assert (len(described["partitions"]), described["configs"]) == (4, [])
    assert "no.such" in headwater("topic", "alter", "a", "-c", "no.such=1", broker=broker, status=1)
    assert headwater("topic", "delete", "a", broker=broker) == "Deleted a\n"
    assert headwater("topic", "list", broker=broker) == ""


def test_produce_and_consume(broker: hw.Broker, tmp_path: Path) -> None:
    headwater("topic", "create", "b", broker=broker)
    headwater("produce", "b", "-K", ":", "-H", "from=here", broker=broker, stdin="k1:one\nk2:two\n")
    (tmp_path / "lines").write_text("three\nfour\n")
    headwater("produce", "b", "-f", tmp_path / "lines", "-k", "k3", broker=broker)
    assert headwater("consume", "b", broker=broker).split() == ["one", "two", "three", "four"]
    shown = headwater("consume", "b", "--format", "%t/%p/%o %k=%s %h %%\\n", "-c", 2, broker=broker)
    assert shown.splitlines() == ["b/0/0 k1=one from=here %", "b/0/1 k2=two from=here %"]
    assert headwater("consume", "b", "--from", "-1", broker=broker) == "four\n"
    assert headwater("consume", "b", "--from", 2, broker=broker).split() == ["three", "four"]
    assert len(headwater("consume", "b", "--from", "2020-01-01T10:00", broker=broker).split()) == 4
    assert headwater("consume", "b", "--from", "end", broker=broker) == ""
    assert "does not exist" in headwater("consume", "nothing", broker=broker, status=1)
    assert "--from" in headwater("consume", "b", "--from", "tomorrow", broker=broker, status=1)
    assert "%z" in headwater("consume", "b", "--format", "%z", broker=broker, status=1)
    assert "no ':'" in headwater("produce", "b", "-K", ":", broker=broker, stdin="oops\n", status=1)


def test_an_offset_that_is_not_there_is_the_nearest_one(broker: hw.Broker) -> None:
    headwater("topic", "create", "n", broker=broker)
    headwater("produce", "n", broker=broker, stdin="0\n1\n2\n3\n")
    with hw.Admin(broker) as admin:
        admin.delete_records("n", 0, 2)
    assert headwater("consume", "n", "--from", 1, broker=broker).split() == ["2", "3"]
    assert headwater("consume", "n", "--from", 10**30, broker=broker) == ""
    assert headwater("consume", "n", "--from", "-0", broker=broker) == ""
    assert "partitions 0 to 0, not 7" in headwater("consume", "n", "-p", 7, broker=broker, status=1)
    assert "headwater group reset" in headwater("consume", "n", "-g", "g", "-p", 0, broker=broker, status=1)


@pytest.mark.parametrize("group", [(), ("-g", "after-markers")])
def test_the_end_after_an_aborted_transaction_is_reached(broker: hw.Broker, group: tuple[str, ...]) -> None:
    topic = "aborted" if group else "aborted-alone"
    with hw.Producer(broker, transactional_id=topic, cloudevents="none") as producer:
        with producer.transaction():
            producer.send(topic, b"committed")
        with contextlib.suppress(ZeroDivisionError), producer.transaction():
            producer.send(topic, b"aborted")
            producer.flush()
            raise ZeroDivisionError
    assert headwater("consume", topic, *group, broker=broker) == "committed\n"


def test_records_as_json(broker: hw.Broker) -> None:
    headwater("topic", "create", "j", broker=broker)
    with hw.Producer(broker, cloudevents="none") as producer:
        producer.send("j", b'{"id":1}', key=b"\xff", headers={"origin": "web"}, timestamp=1000)
        producer.send("j", None, timestamp=2000)
    first, second = map(json.loads, headwater("consume", "j", "-o", "json", broker=broker).splitlines())
    assert first == {
        "topic": "j",
        "partition": 0,
        "offset": 0,
        "timestamp": 1000,
        "key": {"base64": "/w=="},
        "value": '{"id":1}',
        "headers": [{"name": "origin", "value": "web"}],
    }
    assert (second["key"], second["value"], second["headers"]) == (None, None, [])
    assert "either" in headwater("consume", "j", "-o", "json", "--format", "%s", broker=broker, status=1)


def test_the_cluster(broker: hw.Broker) -> None:
    (shown,) = json.loads(headwater("cluster", "-o", "json", broker=broker))
    (node,) = shown["nodes"]
    assert f"{node['host']}:{node['port']}" == broker.address
    assert (shown["controller"], node["controller"], len(shown["id"])) == (node["node"], True, 22)
    assert shown["version"] == "4.3"
    levels = {row["feature"]: row["level"] for row in shown["features"]}
    assert (levels["transaction.version"], levels["metadata.version"]) == (2, 30)
    assert headwater("cluster", broker=broker).splitlines()[0] == f"{shown['id']}  Kafka 4.3"


def test_groups(broker: hw.Broker) -> None:
    headwater("topic", "create", "c", broker=broker)
    headwater("produce", "c", broker=broker, stdin="1\n2\n3\n")
    assert headwater("consume", "c", "-g", "readers", broker=broker).split() == ["1", "2", "3"]
    assert headwater("consume", "c", "-g", "readers", broker=broker) == ""
    assert "readers" in headwater("group", "list", broker=broker)
    (described,) = json.loads(headwater("group", "describe", "readers", "-o", "json", broker=broker))
    assert described["partitions"][0]["lag"] == 0
    headwater("group", "reset", "readers", "--to", "-2", broker=broker)
    assert headwater("consume", "c", "-g", "readers", broker=broker).split() == ["2", "3"]
    headwater("group", "delete", "readers", broker=broker)
    assert "readers" not in headwater("group", "list", broker=broker)
    assert "does not exist" in headwater("group", "describe", "readers", broker=broker, status=1)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("up --li", "--listen"),
        ("topic de", "describe"),
        ("consume ord", "orders-of-a-shell"),
        ("consume orders -o js", "json"),
    ],
)
def test_a_shell_completes(broker: hw.Broker, typed: str, named: str) -> None:
    headwater("topic", "create", "orders-of-a-shell", "--if-not-exists", broker=broker)
    script = headwater("completion", "bash")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    line = f"headwater {typed}"
    ask = f'{script}\nCOMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n_headwater\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    asked = {"PATH": path, "HEADWATER_BOOTSTRAP_SERVER": broker.address}
    result = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, env={**ENVIRONMENT, **asked}, check=True, timeout=60
    )
    assert named in result.stdout.splitlines()


def test_errors_are_one_line() -> None:
    assert "is it running" in headwater("topic", "list", "-b", "127.0.0.1:1", status=1)
    assert "unrecognized arguments: --nope" in headwater("topic", "list", "--nope", status=2)
    assert "no such command: lists" in headwater("topic", "lists", status=2)
    assert "0 is less than 1" in headwater("topic", "create", "t", "-p", 0, status=2)
    assert "not one of" in headwater("topic", "list", "-o", "xml", status=2)
    assert "key=value" in headwater("topic", "list", "-X", "nope", status=1)


class TestUp:
    def start(self, *options: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "headwater", "up", *map(str, options)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)

    def test_ready_metrics_and_ctrl_c(self, tmp_path: Path) -> None:
        process = self.start("--data", tmp_path / "d", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "Headwater is ready on 127.0.0.1:" in line
        assert str(tmp_path / "d") in line
        metrics = line.split("metrics on ")[1].split(",")[0]
        with urllib.request.urlopen(f"http://{metrics}/healthz") as answer:
            assert answer.read() == b"ok\n"
        shown = b""
        while (
            b"headwater_connections 0.0" not in shown
        ):  # until the connection that was asked for health is seen to be gone
            with urllib.request.urlopen(f"http://{metrics}/metrics") as answer:
                shown = answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")

    def failing(self, status: int, *options: object, lines: int = 1) -> str:
        process = self.start(*options)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == status, (output, errors)
        assert len(errors.splitlines()) == lines, errors
        return errors

    def test_an_address_of_ipv6_can_be_pasted(self, tmp_path: Path) -> None:
        process = self.start("--data", tmp_path / "d", "--listen", "[::1]:0")
        assert process.stdout is not None
        address = process.stdout.readline().split(" on ")[1].split(",")[0]
        try:
            assert address.startswith("[::1]:")
            assert headwater("topic", "create", "t", "-b", address) == "Created t\n"
        finally:
            process.terminate()
            process.communicate(timeout=30)

    def test_what_cannot_start_says_why(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            assert "in use" in self.failing(1, "--data", tmp_path / "d", "--listen", where)
        with hw.Broker(tmp_path / "d"):
            assert "another broker" in self.failing(1, "--data", tmp_path / "d", "--listen", "127.0.0.1:0")
        exposed = self.failing(2, "--listen", "0.0.0.0:9092", lines=2)
        assert "--advertise" in exposed
        assert "--insecure" in exposed
        assert "unknown setting no.such" in self.failing(2, "--set", "no.such=1")
        assert "num.partitions" in self.failing(2, "--set", "num.partitions=x")
        assert "key=value" in self.failing(2, "--set", "nothing")
        assert "cannot read" in self.failing(2, "--config", tmp_path / "none")
        assert "HOST:PORT" in self.failing(2, "--listen", "here")
        assert "ssl.keystore.location" in self.failing(2, "--set", "listeners=SSL://127.0.0.1:1")
        assert "security protocol" in self.failing(2, "--set", "listeners=OTHER://127.0.0.1:1")
        open_door = ("--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:1")
        assert "--insecure" in self.failing(2, *open_door)
        (tmp_path / "file").write_text("")
        assert "check the data directory" in self.failing(1, "--data", tmp_path / "file", "--listen", "127.0.0.1:0")
        (tmp_path / "d" / "meta.properties").write_text("version=9\n")
        assert "newer" in self.failing(1, "--data", tmp_path / "d", "--listen", "127.0.0.1:0")

    def test_a_server_properties_of_kafkas(self, tmp_path: Path) -> None:
        (tmp_path / "server.properties").write_text(
            "# Kafka's\nprocess.roles=broker,controller\nnode.id=7\nnum.partitions=5\nlog.retention.ms=7200000\n"
            "controller.quorum.voters=7@localhost:9093\nlisteners=PLAINTEXT://127.0.0.1:0\n"
            "controller.listener.names=CONTROLLER\ntransaction.state.log.min.isr=1\n"
        )
        process = self.start("--data", tmp_path / "d", "--config", tmp_path / "server.properties", "--ready-fd", 1)
        assert process.stdout is not None
        address = Ready.from_line(process.stdout.readline()).addresses["PLAINTEXT"]
        try:
            headwater("topic", "create", "t", "-b", address)
            (described,) = json.loads(headwater("topic", "describe", "t", "--all-configs", "-o", "json", "-b", address))
        finally:
            process.terminate()
            process.communicate(timeout=30)
        assert len(described["partitions"]) == 5
        assert described["partitions"][0]["leader"] == 7
        assert {"config": "retention.ms", "value": "7200000", "source": "set"} in described["configs"]
