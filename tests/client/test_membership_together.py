"""Several members against the real coordinator, on a clock that is moved by hand, with answers that get lost.

Hypothesis says what happens next. Whatever does: no two members hold the leader's part at the same time, and when things are
quiet again all of them are in one generation, with what their leader gave them.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headwater.client.group_members import Assigned, Call, MemberSettings
from headwater.client.membership import Membership, State
from headwater.effects.entropy import SeededEntropy
from headwater.protocol.apis import APIS
from tests.broker.harness import Harness, Pending
from tests.client.test_membership import Names

MEMBERS_MAX = 4
SETTINGS = MemberSettings("g", "sr", session_timeout_ms=8_000, rebalance_timeout_ms=5_000, heartbeat_interval_ms=1_500)


class Simulated:
    """A member whose requests go to a harness, and whose answers may be lost."""

    def __init__(self, number: int, broker: Harness, member: MemberSettings = SETTINGS) -> None:
        self.broker = broker
        self.member = Membership(member, Names(b"member %d" % number), SeededEntropy(number))
        self.pending: Pending | None = None
        self.call: Call | None = None
        self.asked_ms = 0.0
        self.is_cut = False  # neither requests nor answers come through
        self.is_deaf = False  # requests do, answers do not
        self.told: list[Any] = []

    @property
    def now_ms(self) -> float:
        return self.broker.clock.steady_ms()

    def run(self) -> None:
        """Does what there is to do now."""
        for _ in range(50):
            if self.call is None:
                step = self.member.next_step(self.now_ms)
                self.collect()
                if not isinstance(step, Call):
                    return
                self.begin(step)
            if not self.end():
                return
        raise AssertionError("a member is busy for ever")

    def begin(self, call: Call) -> None:
        self.call, self.asked_ms, self.pending = call, self.now_ms, None
        if not self.is_cut:
            key = call.message.API_KEY
            self.pending = self.broker.send(key, APIS[key].latest_stable, call.message)

    def end(self) -> bool:
        """Whether the request is over."""
        assert self.call is not None
        if self.pending is not None and self.pending.is_done and not self.is_deaf and not self.is_cut:
            answer = self.pending.message
        elif self.now_ms - self.asked_ms >= self.call.timeout_ms:
            answer = None
        else:
            return False
        self.call = self.pending = None
        self.member.answered(answer, self.now_ms)
        self.collect()
        return True

    def lose_answer(self) -> None:
        """The connection breaks: no answer will come."""
        self.pending = None
        if self.call is not None:
            self.call = None
            self.member.answered(None, self.now_ms)
            self.collect()

    def collect(self) -> None:
        self.told += self.member.occurrences
        self.member.occurrences.clear()

    def holding(self) -> Assigned | None:
        return self.member.holding(self.now_ms)


class Group(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Harness()
        self.members: list[Simulated] = []
        self.made = 0

    def chosen(self, data: st.DataObject) -> Simulated:
        return data.draw(st.sampled_from(self.members))

    @precondition(lambda self: len(self.members) < MEMBERS_MAX)
    @rule()
    def come(self) -> None:
        self.made += 1
        self.members.append(Simulated(self.made, self.broker))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def run_one(self, data: st.DataObject) -> None:
        self.chosen(data).run()

    @rule(milliseconds=st.integers(1, 4000), times=st.integers(1, 6))
    def wait(self, milliseconds: int, times: int) -> None:
        for _ in range(times):
            self.broker.advance(milliseconds)
            for each in self.members:
                each.run()

    @rule(milliseconds=st.integers(1, 20_000))
    def wait_without_running(self, milliseconds: int) -> None:
        """All members' threads are held up."""
        self.broker.advance(milliseconds)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), is_cut=st.booleans(), is_deaf=st.booleans())
    def cut(self, data: st.DataObject, is_cut: bool, is_deaf: bool) -> None:
        each = self.chosen(data)
        each.is_cut, each.is_deaf = is_cut, is_deaf
        each.lose_answer()

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        each = self.chosen(data)
        each.call = each.pending = None
        each.member.leave()
        each.run()  # if it is cut off, nobody hears it
        self.members.remove(each)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.members.remove(self.chosen(data))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def join_again(self, data: st.DataObject) -> None:
        self.chosen(data).member.join_again("has changed")

    @rule(how=st.sampled_from((Harness.kill, Harness.restart)))
    def restart(self, how: Callable[[Harness], None]) -> None:
        how(self.broker)
        for each in self.members:
            each.lose_answer()

    @invariant()
    def one_leader_at_a_time(self) -> None:
        leading = [each for each in self.members if (found := each.holding()) is not None and found.is_leader]
        assert len(leading) <= 1, [each.holding() for each in leading]

    def teardown(self) -> None:
        for each in self.members:
            each.is_cut = each.is_deaf = False
            each.lose_answer()
        for _ in range(80):
            self.broker.advance(500)
            for each in self.members:
                each.run()
        held = [each.holding() for each in self.members]
        assert all(each is not None for each in held), [(m.member.state, m.member.error) for m in self.members]
        names = {each.member.embedded.name for each in self.members if isinstance(each.member.embedded, Names)}
        assert len({assigned.generation for assigned in held if assigned is not None}) <= 1
        for assigned in held:
            assert assigned is not None
            assert set(assigned.assignment.split(b",")) == names
        self.broker.core.close()


Group.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestGroup = Group.TestCase


def test_a_static_member_that_comes_back_keeps_its_generation_and_fences_the_one_before() -> None:
    broker = Harness()
    settings_of_one = SETTINGS._replace(instance_id="one")
    first, other = Simulated(1, broker, settings_of_one), Simulated(2, broker)
    for _ in range(20):
        broker.advance(500)
        first.run()
        other.run()
    before = first.holding()
    assert before is not None
    again = Simulated(1, broker, settings_of_one)
    again.run()
    after = again.holding()
    assert after is not None
    assert (after.generation, after.assignment) == (before.generation, before.assignment)
    broker.advance(2000)
    first.run()
    assert first.member.state is State.FAILED
    assert "FENCED_INSTANCE_ID" in str(first.member.error)
    broker.core.close()


def test_a_leader_that_is_cut_off_stops_before_the_others_continue() -> None:
    broker = Harness()
    first = Simulated(1, broker)
    for _ in range(4):
        broker.advance(500)
        first.run()
    assert first.holding() is not None
    first.is_cut = True
    other = Simulated(2, broker)
    while (found := other.holding()) is None:
        broker.advance(100)
        first.run()
        other.run()
    assert found.is_leader
    assert first.holding() is None
    assert broker.clock.steady_ms() < 2000 + SETTINGS.session_timeout_ms  # it waited for the rebalance, not the session
    broker.core.close()
