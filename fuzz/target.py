"""The broker that is attacked: `headwater up` as users start it, with its default limits, and what is looked at afterwards."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz.bystander import TOPIC, Bystander, Latencies
from headwater.protocol.records import Record, build_batch
from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer
from tests.tokens import AUDIENCE, ISSUER, key_set, public_entry

LARGE_BATCHES = 60
LARGE_BATCH_BYTES = 1_000_000
GROWTH_MIB_MAX = 128
DEFECTS = re.compile(r"Traceback|could not be handled|UNKNOWN_SERVER_ERROR|CRITICAL")


class Target:
    """A running broker with a listener for everyone and one with SASL."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "headwater.log"
        keys = directory / "keys.json"
        keys.write_bytes(key_set(public_entry("key-1")))
        settings = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
            "sasl.oauthbearer.expected.issuer": ISSUER,
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "headwater.sasl.oauthbearer.allowed.files": str(keys),
        }
        options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.server = HeadwaterServer(directory / "data", "--listen", "SASL_PLAINTEXT://127.0.0.1:0", *options)
        self.address, self.secured = self.server.address, self.server.addresses["SASL_PLAINTEXT"]
        with Wire(self.address) as wire:
            wire.create_topic(TOPIC)
            wire.create_topic("fuzz", 2)
            wire.create_topic("large")
            wire.create_topic("compacted", 1, cleanup_policy="compact")
            wire.create_topic("packed", 1, compression_type="zstd")
            large = build_batch([Record(None, os.urandom(LARGE_BATCH_BYTES))])
            assert all(wire.produce("large", 0, large) == 0 for _ in range(LARGE_BATCHES))

    def memory_mib(self) -> float:
        """The memory that the broker's own process has now."""
        return self.status_mib("VmRSS")

    def peak_mib(self) -> float:
        """The most memory that it has had since `begin_peak`."""
        return self.status_mib("VmHWM")

    def status_mib(self, name: str) -> float:
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        (kib,) = re.findall(rf"{name}:\s+(\d+) kB", status)
        return int(kib) / 1024

    def begin_peak(self) -> float:
        """From here on `peak_mib` counts again; returns what is in memory now."""
        Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")
        return self.memory_mib()

    def defects(self) -> list[str]:
        """Lines of the broker's log that only a defect writes."""
        return [line for line in self.log.read_text().splitlines() if DEFECTS.search(line)]

    def serve_bystander(self, seconds: float) -> Latencies:
        return Bystander(self.address, seconds).result()


@contextmanager
def target(directory: Path) -> Iterator[Target]:
    running = Target(directory)
    try:
        yield running
    finally:
        assert running.server.stop() == 0, running.log.read_text()[-4000:]
