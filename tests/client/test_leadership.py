"""Elections, and a topic that only the elected leader writes; also when the leader's process is killed."""

import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.client.errors import NotLeaderError
from headwater.client.leadership import LeaderElection
from headwater.client.replayed_topic import ReplayedTopic
from tests.client.test_replayed_topic import Names

WAIT_S = 30.0
WAIT_MS = WAIT_S * 1000
SESSION_MS = 6_000  # the shortest that Kafka allows


class Watched:
    """A process that takes part, and the leaders that it hears of."""

    def __init__(self, address: str, group: str, identity: bytes) -> None:
        self.leaders: queue.Queue[bytes | None] = queue.Queue()
        self.election = LeaderElection(
            address, group, identity, on_change=self.leaders.put, session_timeout_ms=SESSION_MS
        )

    def wait_leader(self, identity: bytes) -> None:
        while self.leaders.get(timeout=WAIT_S) != identity:
            continue


@contextmanager
def taking_part(address: str, group: str, identity: bytes) -> Iterator[Watched]:
    watched = Watched(address, group, identity)
    with watched.election:
        yield watched


def test_the_first_leads_until_it_leaves(address: str, name: str) -> None:
    with taking_part(address, name, b"one") as one:
        one.wait_leader(b"one")
        first_term = one.election.term()
        with taking_part(address, name, b"two") as two:
            two.wait_leader(b"one")
            with pytest.raises(NotLeaderError, match=f"group {name}: one leads"):
                two.election.term()
            one.wait_leader(b"one")
            assert one.election.term() > first_term
            assert (one.election.is_leader, two.election.is_leader) == (True, False)
            assert [one.election.leader, two.election.leader] == [b"one", b"one"]
            one.election.close()
            assert one.election.leader is None
            with pytest.raises(NotLeaderError, match="nobody is known to lead"):
                one.election.term()
            two.wait_leader(b"two")
            assert two.election.is_leader


def test_a_topic_is_written_by_whoever_leads(address: str, name: str) -> None:
    ones, twos = Names(), Names()
    with taking_part(address, name, b"one") as one:
        one.wait_leader(b"one")
        with (
            taking_part(address, name, b"two") as two,
            ReplayedTopic(address, name, ones, leader=one.election) as topic,
            ReplayedTopic(address, name, twos, leader=two.election) as other,
        ):
            two.wait_leader(b"one")
            one.wait_leader(b"one")  # of the generation that two is in
            assert topic.carry_out(lambda: ones.add(b"a", 1)) == 1
            with pytest.raises(NotLeaderError, match="one leads"):
                other.carry_out(lambda: twos.add(b"a", 1))
            one.election.close()
            two.wait_leader(b"two")
            assert other.carry_out(lambda: twos.add(b"a", 1)) == 2
            with pytest.raises(NotLeaderError):
                topic.carry_out(lambda: ones.add(b"a", 1))


LEADER = """
import sys
from headwater.client.leadership import LeaderElection
from headwater.client.replayed_topic import ReplayedTopic
from tests.client.test_leadership import SESSION_MS, Watched
from tests.client.test_replayed_topic import Names

address, name = sys.argv[1:]
watched, names = Watched(address, name, b"process"), Names()
with watched.election, ReplayedTopic(address, name, names, leader=watched.election) as topic:
    watched.wait_leader(b"process")
    while True:
        print(topic.carry_out(lambda: names.add(b"a", 1)), flush=True)
"""


def test_a_leader_that_is_killed_in_the_middle_of_its_writes_is_followed_by_another(address: str, name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, address, name], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(5)]
    names = Names()
    with (
        taking_part(address, name, b"heir") as heir,
        ReplayedTopic(address, name, names, leader=heir.election) as topic,
    ):
        heir.wait_leader(b"process")
        process.kill()
        answered += map(int, process.stdout.read().split())
        process.stdout.close()
        process.wait(WAIT_S)
        heir.wait_leader(b"heir")
        found = topic.carry_out(lambda: names.add(b"a", 1), WAIT_MS)
    # Every answer was written, and at most one write was under way.
    assert answered == list(range(1, len(answered) + 1))
    assert found in (len(answered) + 1, len(answered) + 2)
