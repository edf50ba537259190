"""How far a consumer is: what it was given, what is handled, what may be committed. Pure: no librdkafka, no clock, no thread.

A reader fetches messages and asks here what to do with them. Each batch goes through the same steps: `take` what came,
`begin` the batch, deliver one message after the other, `confirm` what was delivered. Two numbers say how far a batch is:
`delivered`, how many of its messages the application was given; and `committed`, up to which of those the position is
committed already. The loop over the messages counts `delivered` itself, before it delivers a message, and passes over void
ones: a call for each message would cost more than everything else here. The last message counts as handled only when the
next one is asked for. If its handler raised, it is given back (`give_back`), and comes first in the next batch.

A rebalance takes partitions away and brings others, in the middle of all this. So every partition has a state:

- `AWAY`: another member has it, or nobody. Nothing of it is delivered, nothing is committed.
- `READ`: it is ours, and it is known where the group is in it. Its messages are delivered and its position is committed.
- `UNKNOWN`: it is ours, but it is not known where the group is in it. What comes of it is dropped. It is read from the
  group's position as soon as that is found.
- `LEFT`: it went while messages of it were in hand. Those are void: another member handles them.
- `BACK`: it went, and came back while messages of it were still in hand. Those are void: they come again.
- `BACK_UNKNOWN`: the same, but it is not known where the group is in it.

                | ASSIGNED | ASSIGNED_UNKNOWN | REVOKED | EMPTIED | MIXED   | FOUND | REWOUND
    AWAY         | READ     | UNKNOWN          | AWAY    | AWAY    | AWAY    | AWAY  | AWAY
    READ         | READ     | UNKNOWN          | LEFT    | READ    | READ    | READ  | UNKNOWN
    UNKNOWN      | READ     | UNKNOWN          | LEFT    | UNKNOWN | UNKNOWN | READ  | UNKNOWN
    LEFT         | BACK     | BACK_UNKNOWN     | LEFT    | AWAY    | AWAY    | LEFT  | AWAY
    BACK         | BACK     | BACK_UNKNOWN     | LEFT    | READ    | UNKNOWN | BACK  | UNKNOWN
    BACK_UNKNOWN | BACK     | BACK_UNKNOWN     | LEFT    | UNKNOWN | UNKNOWN | BACK  | UNKNOWN

`EMPTIED` says that nothing from before is in hand any longer. `MIXED` says that one call brought messages while partitions
went and came back: nobody can tell the old ones from the new ones. For example, one call of librdkafka collects message 7
of a partition, then revokes the partition, assigns it again at 5 and collects message 5. All of them are dropped, and the
partition is read again from the group's position.

What always holds:

1. A position to commit is at most the one after the last message of its partition that was delivered, and no message
   before it was skipped.
2. Only partitions that are `READ` have positions to commit, so nothing overwrites the progress of another member.
3. Of `void` partitions nothing is delivered, nothing is counted as handled, and nothing is kept for later.
4. While a partition stays assigned, a message is delivered twice only if it was given back, or after a `rewind` or a seek.
"""

from collections.abc import Collection, Iterable
from enum import Enum, auto
from typing import Generic

from headwater.client.offsets import Message, Place, first_offsets, last_offsets, outside, place_of

STORE_INTERVAL_MS = 50.0  # much shorter than librdkafka commits


class State(Enum):
    """What a partition is to this consumer; the module's docstring says what each means."""

    AWAY = auto()
    READ = auto()
    UNKNOWN = auto()
    LEFT = auto()
    BACK = auto()
    BACK_UNKNOWN = auto()


class Input(Enum):
    """What changes a partition's state; the columns of the table."""

    ASSIGNED = auto()
    """It was assigned, and is read from the group's position."""
    ASSIGNED_UNKNOWN = auto()
    """It was assigned, but the group's position could not be asked for."""
    REVOKED = auto()
    """It was taken away, whether this consumer was asked first or not."""
    EMPTIED = auto()
    """Nothing that was fetched before is in hand any longer."""
    MIXED = auto()
    """Messages from before and after a rebalance came together."""
    FOUND = auto()
    """It is read from a known position now: the group's, or one that the application has sought."""
    REWOUND = auto()
    """Everything in hand was dropped, to go back to what is committed."""


AWAY, READ, UNKNOWN, LEFT, BACK, BACK_UNKNOWN = State
TABLE: dict[State, tuple[State, ...]] = {  # a row per state, a column per Input
    AWAY: (READ, UNKNOWN, AWAY, AWAY, AWAY, AWAY, AWAY),
    READ: (READ, UNKNOWN, LEFT, READ, READ, READ, UNKNOWN),
    UNKNOWN: (READ, UNKNOWN, LEFT, UNKNOWN, UNKNOWN, READ, UNKNOWN),
    LEFT: (BACK, BACK_UNKNOWN, LEFT, AWAY, AWAY, LEFT, AWAY),
    BACK: (BACK, BACK_UNKNOWN, LEFT, READ, UNKNOWN, BACK, UNKNOWN),
    BACK_UNKNOWN: (BACK, BACK_UNKNOWN, LEFT, UNKNOWN, UNKNOWN, BACK, UNKNOWN),
}
NEXT = {(state, each): following for state, row in TABLE.items() for each, following in zip(Input, row, strict=True)}
VOID = frozenset({LEFT, BACK, BACK_UNKNOWN})


class Fetching:
    """A block in which messages are fetched and begun. `as` says whether Ctrl-C has ended the block before.

    Then messages may have been lost on the way: librdkafka has handed them over, and nobody has them. A block that ends with an
    Exception has lost none.
    """

    def __init__(self) -> None:
        self.was_interrupted = False

    def __enter__(self) -> bool:
        found, self.was_interrupted = self.was_interrupted, True
        return found

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.was_interrupted = kind is not None and not issubclass(kind, Exception)


class Progress(Generic[Message]):
    """See the module's docstring.

    With `commits_by_itself`, positions are due now and then (`due`); without, the application commits (`to_commit`,
    `confirm_commit`). With `keeps_firsts`, it remembers where a group without a position began.
    `is_of_one_topic` says that no message is of another topic than the others, which spares a look at each.
    """

    def __init__(
        self, *, commits_by_itself: bool, keeps_firsts: bool, now_ms: float, is_of_one_topic: bool = False
    ) -> None:
        self.commits_by_itself, self.keeps_firsts = commits_by_itself, keeps_firsts
        self.is_of_one_topic = is_of_one_topic
        self.states: dict[Place, State] = {}  # of those that are not away, the oldest first
        self.void: frozenset[Place] = frozenset()  # those whose messages in hand are void
        self.unknown: list[Place] = []  # those in which the group's position is not known
        self.batch: list[Message] = []  # the messages that are being delivered
        self.delivered = self.committed = 0
        self.unfinished = 0  # how many of the last delivered ones are being handled: one, the whole batch, or none
        self.ahead: list[Message] = []  # fetched, and not delivered yet
        self.handled: dict[Place, int] = {}  # the position after what is handled
        self.pending: dict[Place, int] = {}  # the same, if it has yet to be committed
        self.firsts: dict[Place, int] = {}  # the first message of each in which the group had no position
        self.ended: set[Place] = set()  # those of which nothing has come since librdkafka reached their end
        self.is_lost = False  # what was handled and not committed went with its partition
        self.stored_ms = now_ms  # when positions were due last

    # -- partitions

    def assign(self, places: Iterable[Place], *, is_known: bool = True) -> None:
        """These partitions are this consumer's; `is_known` says whether they are read from the group's position."""
        self.change(places, Input.ASSIGNED if is_known else Input.ASSIGNED_UNKNOWN)

    def revoke(self, places: Collection[Place]) -> None:
        """These partitions are no longer this consumer's. `before_leaving` has what could be committed just before."""
        open_places = self.pending.keys() | self.last_offsets(self.committed, self.delivered).keys()
        self.is_lost |= not open_places.isdisjoint(places)
        self.ahead = outside(self.ahead, places)
        for place in places:
            for positions in (self.handled, self.pending, self.firsts):
                positions.pop(place, None)
        self.change(places, Input.REVOKED)

    def find(self, places: Collection[Place]) -> None:
        """These partitions are read from a known position now; what was fetched of them before is not delivered."""
        self.ahead = outside(self.ahead, places)
        self.change(places, Input.FOUND)

    def rotate_unknown(self) -> None:
        """Moves the first partition of `unknown` to its end."""
        if self.unknown:
            place = self.unknown[0]
            self.states[place] = self.states.pop(place)
            self.sort_out()

    def change(self, places: Iterable[Place], happened: Input) -> None:
        """Changes the states of these partitions by the table."""
        states = self.states
        for place in places:
            self.ended.discard(place)
            state = NEXT[states.get(place, AWAY), happened]
            if state is AWAY:
                states.pop(place, None)
            else:
                states[place] = state
        self.sort_out()

    def sort_out(self) -> None:
        """Works out what follows from `states`, so that nothing has to be looked up for each message."""
        self.void = frozenset(place for place, state in self.states.items() if state in VOID)
        self.unknown = [place for place, state in self.states.items() if state is UNKNOWN]

    # -- a batch

    def empty(self) -> None:
        """Notes that the messages to be taken next come after all rebalances so far."""
        if self.void:
            self.change(self.void, Input.EMPTIED)

    def take(self, messages: list[Message], ended: Collection[Place] = ()) -> list[Message]:
        """What may be delivered of the messages that one call has fetched, while rebalances may have happened.

        `ended` are partitions whose end came after their last message. An end of a partition that is void, or in which
        the group's position is not known, may be an old one: it will be reported again.
        """
        if self.ended:
            self.ended -= last_offsets(messages, is_of_one_topic=self.is_of_one_topic).keys()
        self.ended.update(place for place in ended if self.states.get(place) is READ)
        if self.void:
            messages = outside(messages, self.void)
            self.change(self.void, Input.MIXED)
        if self.keeps_firsts and (self.unknown or not self.commits_by_itself):
            self.firsts = {**first_offsets(messages), **self.firsts}
        return outside(messages, self.unknown) if self.unknown else messages

    def begin(self, messages: list[Message]) -> None:
        """The batch to deliver next; everything of the last one has to be confirmed."""
        self.batch, self.delivered, self.committed, self.unfinished = messages, 0, 0, 1

    def begin_ahead(self, number_max: int) -> list[Message]:
        """Begins a batch of what was fetched before and not delivered; it may be empty."""
        messages = self.ahead[:number_max]
        self.begin(messages)  # first, so that Ctrl-C between the two lines loses nothing
        self.ahead = self.ahead[number_max:]
        return messages

    def is_void(self, message: Message) -> bool:
        """Whether the next message of the batch has to be passed over. To be asked only if anything is `void`."""
        return place_of(message) in self.void

    def deliver_all(self) -> None:
        """The application has the whole batch at once."""
        self.delivered = self.unfinished = len(self.batch)

    def give_back(self) -> None:
        """The message that was delivered last is not handled: it is delivered again."""
        if self.delivered:
            self.delivered -= 1
            self.unfinished = 0

    def confirm(self) -> None:
        """Everything that was delivered is handled; the rest of the batch is delivered next."""
        if self.batch:
            handled = self.last_offsets(self.committed, self.delivered)
            ahead = self.batch[self.delivered :] + self.ahead
            self.ahead = outside(ahead, self.void) if self.void else ahead
            self.begin([])
            for place, position in self.own(handled):
                self.handled[place] = self.pending[place] = position

    def rewind(self) -> None:
        """Goes back to what is committed: everything since then is delivered again."""
        self.begin([])
        self.ahead = []
        self.is_lost = False
        self.handled.clear()
        self.pending.clear()
        self.change(list(self.states), Input.REWOUND)

    def repeat(self) -> dict[Place, int]:
        """Forgets the last fetch, which was lost before `begin`. Returns the positions at which to read again.

        The other partitions are read from the group's position.
        """
        self.change([place for place in self.states if place not in self.handled], Input.REWOUND)
        return dict(self.own(self.handled))

    # -- positions

    @property
    def is_at_end(self) -> bool:
        """Whether there are partitions, and all of them were delivered to their ends.

        Offsets do not tell: after the last message there may be markers and aborted records.
        """
        is_delivered = not self.ahead and self.delivered == len(self.batch)
        return is_delivered and bool(self.states) and self.states.keys() <= self.ended

    def last_offsets(self, first: int, end: int) -> dict[Place, int]:
        """The positions after the batch's messages from `first` to before `end`. With one partition only the last is looked at."""
        batch = self.batch
        if first < end and len(self.states) == 1 and place_of(batch[first]) == place_of(batch[end - 1]):
            return {place_of(batch[first]): batch[end - 1].offset() + 1}
        return last_offsets(batch[first:end], is_of_one_topic=self.is_of_one_topic)

    def own(self, positions: dict[Place, int]) -> list[tuple[Place, int]]:
        """Those positions that this consumer may commit."""
        return [each for each in positions.items() if self.states.get(each[0]) is READ]

    def due(self, now_ms: float) -> dict[Place, int]:
        """Positions to store for the next commit; each is due once. Empty if it is too early, or there are none."""
        if not self.pending or not self.commits_by_itself or now_ms - self.stored_ms < STORE_INTERVAL_MS:
            return {}
        due, self.pending, self.stored_ms = self.pending, {}, now_ms
        return due

    def before_leaving(self, now_ms: float) -> dict[Place, int]:
        """What can be committed before partitions go: everything that is handled, but not what is being handled now."""
        if not self.commits_by_itself:
            return {}
        handled = self.last_offsets(self.committed, max(0, self.delivered - self.unfinished))
        due, self.pending, self.stored_ms = {**self.pending, **dict(self.own(handled))}, {}, now_ms
        return due

    def to_commit(self) -> dict[Place, int]:
        """The positions that the application commits: after everything that was delivered and is not committed yet."""
        delivered = self.last_offsets(self.committed, self.delivered)
        return {**self.pending, **dict(self.own(delivered))}

    def confirm_commit(self) -> None:
        """What `to_commit` returned is committed."""
        self.committed = self.delivered
        self.is_lost = False
        self.pending.clear()

    def positions(self) -> dict[Place, int]:
        """The position after the delivered messages of each partition that had some."""
        return {**self.handled, **self.last_offsets(0, self.delivered)}
