"""The end of a broker: bounded, and honest about what it could not do."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.shell import server as server_module
from headwater.broker.shell.embedded import ThreadRunner
from headwater.broker.shell.ready import Ready
from headwater.broker.shell.server import Server
from headwater.protocol.records import Record, batches, build_batch
from headwater.protocol.records import records as records_of

from .wire import Wire

CLEAN_MARKER = ".kafka_cleanshutdown"


def syncer_id(broker: hw.Broker) -> int:
    assert isinstance(broker.runner, ThreadRunner)

    def find(server: Server) -> int:
        assert server.syncer is not None
        return server.syncer.process_id

    return broker.runner.call(find)


def test_a_disk_that_does_not_answer_is_an_error_and_no_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SYNC_TIMEOUT_S", 0.3)
    broker = hw.Broker(tmp_path / "data").start()
    batch = build_batch([Record(None, b"v", (), 1)])
    with Wire(broker.address) as wire:
        wire.create_topic("t")
        assert wire.produce("t", 0, batch) == 0
        os.kill(syncer_id(broker), signal.SIGSTOP)

        def produce() -> None:
            with pytest.raises(OSError):
                wire.produce("t", 0, batch)

        unanswered = threading.Thread(target=produce)
        unanswered.start()
        assert isinstance(broker.runner, ThreadRunner)
        while not broker.runner.call(lambda server: server.durability.syncing is not None):
            pass
        with pytest.raises(hw.BrokerError, match="does not respond"):
            broker.stop()
        unanswered.join()
    assert not (tmp_path / "data" / CLEAN_MARKER).exists()
    with hw.Broker(tmp_path / "data") as again, Wire(again.address) as wire:
        found = [r.value for header, data in batches(wire.fetch("t", 0, 0)) for r in records_of(header, data)]
        assert found[:1] == [b"v"]


def test_a_signal_to_the_whole_group_is_a_clean_stop_under_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headwater", "up", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    command += ["--ready-fd", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    address = Ready.from_line(process.stdout.readline()).listeners[0].address
    batch = build_batch([Record(None, bytes(100_000), (), 1)])
    acknowledged = 0
    with Wire(address) as wire:
        wire.create_topic("t")
        try:
            while True:
                assert wire.produce("t", 0, batch) == 0
                acknowledged += 1
                if acknowledged == 50:
                    os.killpg(process.pid, signal.SIGTERM)
        except ConnectionError:
            pass
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert (tmp_path / "data" / CLEAN_MARKER).exists()
    with hw.Broker(tmp_path / "data") as again, Wire(again.address) as wire:
        offset = 0
        while data := wire.fetch("t", 0, offset):
            offset = [header.next_offset for header, _ in batches(data)][-1]
        assert offset >= acknowledged >= 50
