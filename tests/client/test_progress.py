"""The bookkeeping of a consumer, without a broker and without librdkafka: by its table, by examples, and by generated histories."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headwater.client import progress as module
from headwater.client.offsets import Place
from headwater.client.progress import STORE_INTERVAL_MS, TABLE, VOID, Input, Progress, State

T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)
PLACES = (T0, T1, U0)


class Message(NamedTuple):
    """A message, and in which session of its partition it was fetched."""

    place: Place
    at: int
    session: int = 0

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.at


def progress_of(*places: Place, commits_by_itself: bool = True, keeps_firsts: bool = False) -> Progress[Message]:
    progress = Progress[Message](commits_by_itself=commits_by_itself, keeps_firsts=keeps_firsts, now_ms=0)
    progress.assign(places)
    return progress


def begin(progress: Progress[Message], *messages: tuple[Place, int]) -> list[Message]:
    progress.begin(progress.take([Message(*each) for each in messages]))
    return progress.batch


def deliver(progress: Progress[Message], message: Message) -> bool:
    """What the loops over a batch do. False: the message is passed over."""
    progress.delivered += 1
    return not (progress.void and progress.is_void(message))


# -- the table


def table_of_text() -> dict[State, tuple[State, ...]]:
    """The table that the module's docstring shows."""
    rows = [[cell.strip() for cell in line.split("|")] for line in (module.__doc__ or "").splitlines() if "|" in line]
    assert rows[0] == ["", *(each.name for each in Input)]
    return {State[name]: tuple(State[cell] for cell in cells) for name, *cells in rows[1:]}


def test_the_table_is_the_one_of_the_text() -> None:
    assert table_of_text() == TABLE
    described = re.findall(r"^- `([A-Z_]+)`: ", module.__doc__ or "", re.MULTILINE)
    assert described == [state.name for state in State]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("happened", Input)
def test_a_partition_changes_as_the_table_says(state: State, happened: Input) -> None:
    progress = progress_of(U0)
    if state is not State.AWAY:
        progress.states[T0] = state
    progress.change([T0], happened)
    following = TABLE[state][list(Input).index(happened)]
    assert progress.states.get(T0, State.AWAY) is following
    assert (T0 in progress.void) == (following in VOID)
    assert (T0 in progress.unknown) == (following is State.UNKNOWN)
    assert progress.states[U0] is State.READ


# -- examples


def test_the_last_message_is_handled_when_the_next_batch_is_asked_for() -> None:
    progress = progress_of(T0)
    for message in begin(progress, (T0, 5), (T0, 6)):
        assert deliver(progress, message)
    assert progress.before_leaving(0) == {T0: 6}
    progress.confirm()
    assert progress.due(STORE_INTERVAL_MS) == {T0: 7}
    assert progress.due(3 * STORE_INTERVAL_MS) == {}


def test_positions_are_due_when_the_interval_is_over() -> None:
    progress = progress_of(T0)
    begin(progress, (T0, 5))
    progress.deliver_all()
    progress.confirm()
    assert progress.due(STORE_INTERVAL_MS - 1) == {}
    assert progress.due(STORE_INTERVAL_MS) == {T0: 6}


def test_a_batch_that_is_handled_as_a_whole_is_not_handled_in_part() -> None:
    progress = progress_of(T0)
    begin(progress, (T0, 5), (T0, 6), (T0, 7))
    progress.deliver_all()
    assert progress.before_leaving(0) == {}


def test_what_was_given_back_comes_first() -> None:
    progress = progress_of(T0)
    messages = begin(progress, (T0, 5), (T0, 6), (T0, 7))
    for message in messages[:2]:
        deliver(progress, message)
    progress.give_back()
    assert progress.before_leaving(0) == {T0: 6}
    progress.confirm()
    assert progress.begin_ahead(10) == messages[1:]


def test_nothing_is_given_back_where_nothing_was_delivered() -> None:
    progress = progress_of(T0)
    messages = begin(progress, (T0, 5))
    progress.give_back()
    progress.confirm()
    assert progress.begin_ahead(10) == messages


def test_a_commit_of_the_application_includes_the_message_that_is_being_handled() -> None:
    progress = progress_of(T0, T1, commits_by_itself=False)
    first, second, _ = begin(progress, (T0, 5), (T1, 7), (T0, 6))
    deliver(progress, first)
    deliver(progress, second)
    assert progress.to_commit() == {T0: 6, T1: 8}
    progress.confirm_commit()
    assert progress.to_commit() == {}
    assert progress.due(STORE_INTERVAL_MS) == progress.before_leaving(STORE_INTERVAL_MS) == {}


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_what_was_not_committed_and_went_is_lost_until_the_consumer_goes_back(is_confirmed: bool) -> None:
    progress = progress_of(T0, T1, commits_by_itself=False)
    begin(progress, (T0, 5))
    progress.deliver_all()
    if is_confirmed:
        progress.confirm()
    progress.revoke({T1})
    was_lost = [progress.is_lost]
    progress.revoke({T0})
    was_lost.append(progress.is_lost)
    assert progress.to_commit() == {}
    progress.rewind()
    assert [*was_lost, progress.is_lost] == [False, True, False]


def test_going_back_asks_for_the_position_of_each_partition() -> None:
    progress = progress_of(T0, T1, commits_by_itself=False)
    begin(progress, (T0, 5), (T1, 6))
    progress.deliver_all()
    progress.rewind()
    assert progress.unknown == [T0, T1]
    assert (progress.batch, progress.to_commit(), progress.positions()) == ([], {}, {})
    assert begin(progress, (T0, 6), (T1, 7)) == []
    progress.rotate_unknown()
    assert progress.unknown == [T1, T0]
    progress.find([T0])
    assert [message.place for message in begin(progress, (T0, 5), (T1, 8))] == [T0]


def test_what_was_fetched_before_a_seek_is_not_delivered() -> None:
    progress = progress_of(T0, T1)
    begin(progress, (T0, 5), (T1, 7))
    progress.confirm()
    progress.find([T0])
    assert [message.place for message in progress.begin_ahead(10)] == [T1]


@pytest.mark.parametrize("is_known", [True, False])
def test_old_and_new_messages_of_one_call_are_all_dropped(is_known: bool) -> None:
    progress = progress_of(T0, T1)
    progress.revoke({T0})
    progress.assign([T0], is_known=is_known)
    assert [message.place for message in begin(progress, (T0, 7), (T1, 3), (T0, 5))] == [T1]
    assert progress.unknown == [T0]


def test_the_first_messages_are_kept_where_a_group_may_have_no_position() -> None:
    progress = progress_of(T0, commits_by_itself=False, keeps_firsts=True)
    begin(progress, (T0, 5), (T0, 6))
    begin(progress, (T0, 7))
    assert progress.firsts == {T0: 5}
    progress.revoke({T0})
    assert progress.firsts == {}


def at_end(progress: Progress[Message]) -> bool:
    """Asks again: a type checker believes that a property stays what it was."""
    return progress.is_at_end


def test_the_end_is_reached_when_all_partitions_were_delivered_to_their_ends() -> None:
    progress = progress_of(T0, T1)
    progress.begin(progress.take([Message(T0, 0)], {T0, T1}))
    assert not at_end(progress)  # T0's message is not delivered yet
    progress.deliver_all()
    assert at_end(progress)
    progress.confirm()
    begin(progress, (T1, 5))
    progress.deliver_all()
    assert not at_end(progress)  # more came, so its end is not known
    progress.take([], {T1})
    assert at_end(progress)


def test_there_is_no_end_without_partitions() -> None:
    assert not progress_of().is_at_end


def test_what_was_given_back_is_before_the_end() -> None:
    progress = progress_of(T0)
    progress.begin(progress.take([Message(T0, 0)], {T0}))
    deliver(progress, progress.batch[0])
    progress.give_back()
    progress.confirm()
    assert not at_end(progress)
    progress.begin_ahead(1)
    progress.deliver_all()
    assert at_end(progress)


@pytest.mark.parametrize("happened", [Input.ASSIGNED, Input.FOUND, Input.REWOUND])
def test_an_end_is_forgotten_when_a_partition_is_read_from_elsewhere(happened: Input) -> None:
    progress = progress_of(T0)
    progress.take([], {T0})
    assert at_end(progress)
    progress.change([T0], happened)
    assert not at_end(progress)


def test_the_partitions_that_another_member_has_do_not_count() -> None:
    progress = progress_of(T0, T1)
    progress.take([], {T0})
    assert not at_end(progress)
    progress.revoke([T1])
    progress.empty()
    assert at_end(progress)


def test_an_end_from_before_a_rebalance_is_not_believed() -> None:
    progress = progress_of(T0)
    progress.revoke([T0])
    progress.assign([T0])
    progress.take([], {T0})  # one call brought the end, before the partition went and came back
    assert not at_end(progress)


def test_an_end_is_not_believed_while_it_is_not_known_where_the_group_is() -> None:
    progress = progress_of()
    progress.assign([T0], is_known=False)
    progress.take([], {T0})
    assert not at_end(progress)
    progress.find([T0])
    assert not at_end(progress)


def test_positions_are_of_what_was_delivered_too() -> None:
    progress = progress_of(T0, T1)
    begin(progress, (T0, 5))
    progress.deliver_all()
    progress.confirm()
    first, _ = begin(progress, (T1, 7), (T1, 8))
    deliver(progress, first)
    assert progress.positions() == {T0: 6, T1: 8}


# -- generated histories


class Histories(RuleBasedStateMachine):
    """A consumer between librdkafka, the group and the application, all three played by the test.

    Of each partition that is assigned, `fetched` has the offsets that came since its position was set, and `given` how
    many of them the application was given: it must get them in this order, without a gap. `positions` are those that
    may be committed: after each message that was handled.
    """

    @initialize(commits_by_itself=st.booleans())
    def start(self, commits_by_itself: bool) -> None:
        self.is_auto = commits_by_itself
        self.progress = Progress[Message](commits_by_itself=commits_by_itself, keeps_firsts=True, now_ms=0)
        self.now_ms = 0.0
        self.group: dict[Place, int] = defaultdict(int)
        self.next: dict[Place, int] = {}  # of each partition that is assigned: what librdkafka fetches next
        self.session: dict[Place, int] = defaultdict(int)
        self.fetched: dict[Place, list[int]] = {}
        self.given: dict[Place, int] = {}
        self.positions: dict[Place, set[int]] = {}
        self.sought: set[Place] = set()
        self.open: list[Message] = []  # what the application is handling
        self.is_batch = False
        self.is_ended = False  # the iteration: the next message comes with another batch
        self.give(PLACES[:2], is_known=True)

    # -- what the group and librdkafka do

    def read_from(self, place: Place, offset: int) -> None:
        self.next[place], self.fetched[place], self.given[place] = offset, [], 0

    def give(self, places: Iterable[Place], is_known: bool) -> None:
        places = [place for place in places if place not in self.next]
        for place in places:
            self.session[place] += 1
            self.positions[place] = set()
            self.sought.discard(place)
            self.read_from(place, self.group[place] if is_known else 1000)
        self.progress.assign(places, is_known=is_known)

    def take_away(self, places: Iterable[Place], is_lost: bool) -> None:
        places = {place for place in places if place in self.next}
        if not is_lost:
            self.store(self.progress.before_leaving(self.now_ms))
            if self.is_auto:
                for place in places - self.sought:
                    assert self.group[place] >= max(self.positions[place], default=0)  # nothing handled is lost
        uncommitted = [p for p in places if any(position > self.group[p] for position in self.reached(p))]
        self.progress.revoke(places)
        if not self.is_auto and not places & self.sought and uncommitted:
            assert self.progress.is_lost
        for place in places:
            del self.next[place]

    def reached(self, place: Place) -> set[int]:
        return self.positions[place] | {m.at + 1 for m in self.open if self.is_current(m) and m.place == place}

    def is_current(self, message: Message) -> bool:
        return message.place in self.next and message.session == self.session[message.place]

    def store(self, positions: dict[Place, int]) -> None:
        for place, position in positions.items():
            assert place in self.next  # another member's progress stays as it is
            assert position in self.positions[place]  # nothing beyond what is handled
            self.commit_position(place, position)

    def commit_position(self, place: Place, position: int) -> None:
        assert position >= self.group[place] or place in self.sought  # never backwards
        self.group[place] = position

    # -- what the application does

    def finish(self) -> None:
        """The application asks for more: what it was handling is handled."""
        for message in self.open:
            if self.is_current(message):
                self.positions[message.place].add(message.at + 1)
        self.open = []
        self.progress.confirm()
        self.store(self.progress.due(self.now_ms))

    def accept(self, message: Message) -> None:
        """The application is given a message: of this session, the next one of its partition."""
        assert self.is_current(message)
        assert self.progress.states[message.place] is State.READ
        given = self.given[message.place]
        assert self.fetched[message.place][given] == message.at
        self.given[message.place] = given + 1
        self.open.append(message)

    # -- rules

    @rule(places=st.sets(st.sampled_from(PLACES), min_size=1), is_known=st.booleans())
    def assign(self, places: set[Place], is_known: bool) -> None:
        self.give(sorted(places), is_known)

    @rule(
        places=st.sets(st.sampled_from(PLACES), min_size=1),
        is_lost=st.booleans(),
        others=st.integers(0, 3),
        comes_back=st.booleans(),
        is_known=st.booleans(),
    )
    def revoke(self, places: set[Place], is_lost: bool, others: int, comes_back: bool, is_known: bool) -> None:
        places &= self.next.keys()
        self.take_away(places, is_lost)
        for place in places:
            self.group[place] += others  # another member handles some
        if comes_back:
            self.give(sorted(places), is_known)

    @rule(
        number_max=st.integers(1, 6),
        number=st.sampled_from((0, 1, 2, 3, 4, None)),
        went=st.sampled_from((set(), set(), set(), {T0}, {T0, T1})),
        comes_back=st.booleans(),
    )
    def fetch(self, number_max: int, number: int | None, went: set[Place], comes_back: bool) -> None:
        """The next batch, of which the application is given a number of messages; None: all of them at once."""
        self.finish()
        self.is_batch, self.is_ended = number is None, False
        if not self.progress.begin_ahead(number_max):
            self.progress.empty()
            self.progress.begin(self.progress.take(self.poll(went, comes_back)))
        if number is None:
            self.progress.deliver_all()
            for message in self.progress.batch:
                self.accept(message)
        else:
            self.deliver_some(number)

    def poll(self, went: set[Place], comes_back: bool) -> list[Message]:
        """One call of librdkafka, with a rebalance in its midst."""
        messages = self.collect()
        if went:
            self.take_away(went, is_lost=False)
            if comes_back:
                self.give(sorted(went), is_known=True)
            messages += self.collect()
        return messages

    def collect(self) -> list[Message]:
        messages = []
        for place, offset in [*self.next.items(), *self.next.items()]:
            messages.append(Message(place, self.next[place], self.session[place]))
            self.fetched[place].append(self.next[place])
            self.next[place] += 1 + offset % 3 // 2  # with gaps, as compaction leaves them
        return messages

    @precondition(lambda self: not self.is_ended and self.progress.delivered < len(self.progress.batch))
    @rule(number=st.integers(1, 4))
    def deliver(self, number: int) -> None:
        self.deliver_some(number)

    def deliver_some(self, number: int) -> None:
        for message in self.progress.batch[self.progress.delivered :][:number]:
            for last in self.open:
                if self.is_current(last):
                    self.positions[last.place].add(last.at + 1)
            self.open = []
            if deliver(self.progress, message):
                self.accept(message)
            else:
                assert not self.is_current(message)

    @precondition(lambda self: len(self.open) == 1 and not self.is_batch)
    @rule()
    def give_back(self) -> None:
        message = self.open.pop()
        self.progress.give_back()
        self.is_ended = True
        if self.is_current(message):
            self.given[message.place] -= 1

    @rule(ms=st.sampled_from((1.0, STORE_INTERVAL_MS)))
    def wait(self, ms: float) -> None:
        self.now_ms += ms

    @rule()
    def commit(self) -> None:
        if self.progress.is_lost and not self.is_auto:
            self.rewind()
            return
        for place, position in self.progress.to_commit().items():
            assert position in self.reached(place)
            self.commit_position(place, position)
        for place in self.next:
            if place not in self.sought:
                assert self.group[place] >= max(self.reached(place), default=0)
        self.progress.confirm_commit()

    @rule()
    def rewind(self) -> None:
        self.progress.rewind()
        self.open = []
        for place in self.next:
            self.positions[place] = set()

    @precondition(lambda self: self.progress.unknown)
    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        places = data.draw(st.lists(st.sampled_from(self.progress.unknown), min_size=1, unique=True))
        for place in places:
            self.read_from(place, self.group[place])
        self.progress.find(places)

    @precondition(lambda self: self.next)
    @rule(data=st.data(), offset=st.integers(0, 20))
    def seek(self, data: st.DataObject, offset: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.next)))
        self.finish()
        self.sought.add(place)
        self.read_from(place, offset)
        self.progress.find([place])

    # -- what always holds

    @invariant()
    def states_are_of_the_partitions_that_are_assigned(self) -> None:
        ours = {p for p, s in self.progress.states.items() if s is not State.LEFT}
        assert ours == set(self.next)

    @invariant()
    def positions_are_of_partitions_that_are_read(self) -> None:
        progress = self.progress
        read = {place for place, state in progress.states.items() if state is State.READ}
        assert progress.pending.keys() <= progress.handled.keys() <= read
        assert {message.place for message in progress.ahead} <= read

    @invariant()
    def numbers_of_the_batch_are_within_it(self) -> None:
        progress = self.progress
        assert 0 <= progress.delivered <= len(progress.batch)
        assert 0 <= progress.committed <= progress.delivered + (progress.unfinished == 0)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40)
