"""One record per request, Kafka and Headwater in alternating rounds: requests per second, p99, and processor time per request.

    python -m benchmarks.small_requests [--rounds 5] [--seconds 3] [--page-cache]

The table has the median of all rounds. Headwater answers after fsync, Kafka from the page cache; `--page-cache` has both make
the same promise.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.brokers import Headwater, Kafka, RunningBroker
from benchmarks.connections import one_record_a_request
from benchmarks.run import machine

CONNECTIONS = (1, 10, 100, 1000)
WARM_UP_CONNECTIONS, WARM_UP_S = 100, 3.0
TOPIC = "small-requests"


class Result(NamedTuple):
    """Of one round. The processor time per request is the broker's with its children, in microseconds."""

    rate: float
    p99_ms: float
    processor_us: float


def measure(broker: RunningBroker, seconds: float) -> dict[int, Result]:
    """The result for each number of connections."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
    one_record_a_request(broker.port, TOPIC, WARM_UP_CONNECTIONS, WARM_UP_S)
    found = {}
    for connections in CONNECTIONS:
        cpu_s = broker.cpu_s()
        rate, p99_ms = one_record_a_request(broker.port, TOPIC, connections, seconds)
        found[connections] = Result(rate, p99_ms, 1e6 * (broker.cpu_s() - cpu_s) / (rate * seconds))
    return found


def row(connections: int, theirs: list[Result], ours: list[Result]) -> str:
    """A line of the table: the medians, and how many times as fast Headwater is."""
    cells, rates = [f"{connections:,}"], []
    for results in (theirs, ours):
        rate, p99_ms, processor_us = (statistics.median(column) for column in zip(*results, strict=True))
        rates.append(rate)
        cells.append(f"{rate:,.0f} / {p99_ms:.1f} / {processor_us:.0f}")
    return f"| {' | '.join(cells)} | {rates[1] / rates[0]:.2f} × |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of connections")
    parser.add_argument("--page-cache", action="store_true", help="Headwater, too, answers from the page cache")
    arguments = parser.parse_args()
    durability = "page-cache" if arguments.page_cache else "journal"
    makers: list[Callable[[Path], RunningBroker]] = [Kafka, partial(Headwater, durability=durability)]
    results: list[list[dict[int, Result]]] = [[], []]
    for _ in range(arguments.rounds):
        for make, found in zip(makers, results, strict=True):
            with tempfile.TemporaryDirectory() as directory, make(Path(directory) / "broker") as broker:
                found.append(measure(broker, arguments.seconds))
    print(f"{machine()}; requests per second / p99 in ms / processor per request in µs; median of {arguments.rounds}\n")
    print("| connections | Kafka | Headwater | Headwater is |\n|---:|---:|---:|---:|")
    for connections in CONNECTIONS:
        print(row(connections, *([each[connections] for each in found] for found in results)))


if __name__ == "__main__":
    main()
