"""The process that `test_consumer_kills.py` kills: handles events and writes them down, or copies them exactly once.

Arguments: address, topic, group, "handle" FILE or "copy" OUTPUT-TOPIC, number of the worker.
"""

import os
import sys
from typing import Any, Literal

import headwater as hw

SESSION_TIMEOUT_S = 1.0
SETTINGS = {
    "session.timeout.ms": int(SESSION_TIMEOUT_S * 1000),
    "heartbeat.interval.ms": 200,
    "auto.commit.interval.ms": 100,
}


def handle(events: "hw.Consumer[Any]", path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for event in events:
        os.write(file, b"%d\n" % event.value)


def copy(events: "hw.Consumer[Any]", address: str, topic: str, worker: str) -> None:
    with hw.Producer(address, transactional_id=f"{topic}-{worker}", cloudevents="none") as producer:
        for batch in events.batches(20):
            with producer.transaction(events):
                for event in batch:
                    producer.send(topic, event.value, key=event.key)


def main() -> None:
    address, topic, group, mode, target, worker = sys.argv[1:]
    commit: Literal["auto", "manual"] = "auto" if mode == "handle" else "manual"
    while True:
        try:
            with hw.Consumer(address, topic, group=group, value=int, commit=commit, settings=SETTINGS) as events:
                if mode == "handle":
                    handle(events, target)
                else:
                    copy(events, address, target, worker)
        except hw.ClientError as error:  # a rebalance ends a transaction: from the beginning
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
