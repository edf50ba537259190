"""How long a broker with much data takes from its SIGKILL until it serves again.

    python -m benchmarks.recovery [--gigabytes 10] [--partitions 1000] [--kills 5] [--directory DIR]

It fills the partitions with large batches. Then, for each kill, it produces small batches to all partitions until the
journal has about as much as it can have, and kills the broker with SIGKILL in the middle of that. It starts the broker
again and measures, from the start of the process, until it is ready, until a Produce with acks=all is answered, and until a
Fetch from the end of a partition's log is answered with what was acknowledged last. Where the disk has too little room it
takes less data, and says so. The data is removed at the end.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from random import Random

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import Record, batches, build_batch
from tests.broker.wire import Wire
from tests.interop.servers import HeadwaterServer

TOPIC = "recovery"
GIGABYTE = 1 << 30
LARGE_BYTES = 1_000_000
REQUEST_PARTITIONS = 8
SMALL_RECORDS, SMALL_BYTES = 10, 500
TAIL_BYTES = 200 << 20  # of the two journal files of 128 MiB
ROOM_SHARE = 0.4  # of what is free: segments, journal, and something left


def batch_of(records: int, size: int, random: Random) -> bytes:
    return bytes(build_batch([Record(b"key", random.randbytes(size), (), 1_700_000_000_000) for _ in range(records)]))


def produce_request(partitions: list[int], batch: bytes) -> ProduceRequest:
    data = [ProduceRequest.PartitionProduceData(partition, batch) for partition in partitions]
    return ProduceRequest(None, -1, 60_000, [ProduceRequest.TopicProduceData(name=TOPIC, partition_data=data)])


class Load:
    """Produces a batch to all partitions in turn, several requests ahead, until it has produced enough or is cut off."""

    def __init__(self, address: str, partitions: int, batch: bytes, size_bytes: int) -> None:
        self.address, self.partitions, self.batch = address, partitions, batch
        self.requests = max(1, size_bytes // (len(batch) * REQUEST_PARTITIONS))
        self.acknowledged: dict[int, int] = {}  # the last offset of each partition
        self.bytes = 0

    def run(self) -> None:
        """Raises OSError when the broker is killed."""
        with Wire(self.address, 120.0) as wire:
            ahead = 0
            for number in range(self.requests):
                first = number * REQUEST_PARTITIONS
                chosen = [n % self.partitions for n in range(first, first + REQUEST_PARTITIONS)]
                wire.send(ApiKey.PRODUCE, 9, produce_request(chosen, self.batch))
                ahead += 1
                if ahead > 4:
                    self.receive(wire)
                    ahead -= 1
            for _ in range(ahead):
                self.receive(wire)

    def receive(self, wire: Wire) -> None:
        for answer in wire.receive(ApiKey.PRODUCE, 9).responses[0].partition_responses:
            if answer.error_code:
                raise RuntimeError(f"partition {answer.index} answered with error {answer.error_code}")
            self.acknowledged[answer.index] = answer.base_offset
            self.bytes += len(self.batch)


def killed_under_load(server: HeadwaterServer, partitions: int, random: Random) -> Load:
    """Kills the broker while it is busy; returns what was acknowledged."""
    load = Load(server.address, partitions, batch_of(SMALL_RECORDS, SMALL_BYTES, random), 4 * TAIL_BYTES)

    def run() -> None:
        try:
            load.run()
        except OSError:  # it was killed
            return

    thread = threading.Thread(target=run)
    thread.start()
    while load.bytes < TAIL_BYTES and thread.is_alive():
        time.sleep(0.01)
    server.kill()
    thread.join()
    return load


def processor_s(process_id: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def served_again(server: HeadwaterServer, load: Load, batch: bytes) -> tuple[float, float, float, float]:
    """Starts it; the seconds until it is ready, has answered a Produce, and a Fetch of what was acknowledged last.

    The fourth is the broker's processor time until then: on a machine that is busy otherwise the others are of little use.
    """
    start_s = time.perf_counter()
    server.restart()
    ready_s = time.perf_counter() - start_s
    partition, offset = next(reversed(load.acknowledged.items()))
    with Wire(server.address, 120.0) as wire:
        if error := wire.produce(TOPIC, partition, batch):
            raise RuntimeError(f"Produce answered with error {error}")
        produced_s = time.perf_counter() - start_s
        header, _ = next(batches(wire.fetch(TOPIC, partition, offset)))
        fetched_s = time.perf_counter() - start_s
    if header.base_offset != offset:
        raise RuntimeError(f"partition {partition}: offset {offset} was acknowledged, {header.base_offset} is there")
    return ready_s, produced_s, fetched_s, processor_s(server.process.pid)


def measure(directory: Path, gigabytes: float, partitions: int, kills: int) -> None:
    random = Random(1)
    server = HeadwaterServer(directory / "data", "--set", "log.retention.ms=-1")
    try:
        with Wire(server.address, 120.0) as wire:
            wire.create_topic(TOPIC, partitions)
        start_s = time.perf_counter()
        Load(server.address, partitions, batch_of(1, LARGE_BYTES, random), int(gigabytes * GIGABYTE)).run()
        took_s = time.perf_counter() - start_s
        print(f"{gigabytes:.1f} GB in {partitions} partitions, written in {took_s:.0f} s", flush=True)
        small = batch_of(SMALL_RECORDS, SMALL_BYTES, random)
        found: list[tuple[float, float, float, float]] = []
        for _ in range(kills):
            load = killed_under_load(server, partitions, random)
            found.append(served_again(server, load, small))
            ready_s, produced_s, fetched_s, used_s = found[-1]
            print(
                f"SIGKILL, then ready, Produce and Fetch answered after {ready_s:.2f}, {produced_s:.2f}, {fetched_s:.2f} s; "
                f"{used_s:.2f} s of processor time",
                flush=True,
            )
        whole = [fetched_s for _, _, fetched_s, _ in found]
        print(f"until all is served: median {statistics.median(whole):.2f} s, worst {max(whole):.2f} s")
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where the data is made; by default where temporary files are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-recovery-", dir=arguments.directory) as name:
        room = shutil.disk_usage(name).free * ROOM_SHARE / GIGABYTE
        gigabytes = min(arguments.gigabytes, room)
        if gigabytes < arguments.gigabytes:
            print(f"only {gigabytes:.1f} GB: the disk has no room for {arguments.gigabytes:g}")
        measure(Path(name), gigabytes, arguments.partitions, arguments.kills)


if __name__ == "__main__":
    main()
