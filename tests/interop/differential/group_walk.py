"""Three clients in one group: of the classic protocol, and of KIP-848."""

from collections.abc import Callable
from functools import partial
from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from tests.security.matrix import error_codes, message

from .requests import same
from .side import Side, Step
from .walks import Walk, step

CLIENTS = ("a", "b", "c")
STATIC = {"c": "instance-c"}  # a static member
TIMEOUT_MS = 60_000
INTERVALS = ("0", "600000")  # ms between two assignments: so short, and so long, that time does not matter


def has_members(count: int) -> Callable[[Any], bool]:
    """Of a described group."""
    return lambda group: len(group.members) == count


class GroupWalk(Walk):
    """What both protocols have: offsets, and what is to be seen of a group."""

    def client(self) -> str:
        return self.random.choice(CLIENTS)

    def who(self, side: Side, client: str) -> tuple[str, int]:
        """The member id and the generation or epoch that a client has."""
        found: tuple[str, int] = side.known.get(f"{self.name} {client}", ("", -1))
        return found

    def took(self, side: Side, client: str, member_id: str, generation: int) -> None:
        side.known[f"{self.name} {client}"] = member_id, generation
        side.names.setdefault("member", {})[member_id] = f"{self.name} {client}"

    def commit(self) -> Step:
        client, shift, offset = self.client(), self.often(0, -1, 1), self.random.randint(0, 9)
        partition, stranger = self.often(0, 1, 9), self.often(False, True)
        versions = self.version(2, 9)
        m = message(ApiKey.OFFSET_COMMIT)

        def make(side: Side) -> Any:
            member_id, generation = self.who(side, client)
            parts = [m.OffsetCommitRequestPartition(partition, offset)]
            topics = [m.OffsetCommitRequestTopic(name=self.topic, partitions=parts)]
            instance = STATIC.get(client) if versions[0] >= 7 else None
            return m(self.group, generation + shift, "x" if stranger else member_id, instance, topics=topics)

        name = f"{client} commits {offset} of {partition}, generation {shift:+}, stranger {stranger}"
        return step(name, ApiKey.OFFSET_COMMIT, versions, make)

    def fetch(self) -> Step:
        key = ApiKey.OFFSET_FETCH
        topics = [message(key).OffsetFetchRequestTopic(self.topic, [0, 1])]
        return step("fetch offsets", key, self.version(1, 7), same(key, group_id=self.group, topics=topics))

    def fetch_as_member(self) -> Step:
        client, shift, key = self.client(), self.often(0, -1, 1), ApiKey.OFFSET_FETCH
        m = message(key)

        def make(side: Side) -> Any:
            member_id, generation = self.who(side, client)
            topics = [m.OffsetFetchRequestTopics(name=self.topic, partition_indexes=[0, 1])]
            return m(groups=[m.OffsetFetchRequestGroup(self.group, member_id, generation + shift, topics)])

        return step(f"{client} fetches offsets, generation {shift:+}", key, (9,), make)

    def delete_offsets(self) -> Step:
        key = ApiKey.OFFSET_DELETE
        m = message(key)
        topics = [m.OffsetDeleteRequestTopic(self.topic, [m.OffsetDeleteRequestPartition(n) for n in (0, 9)])]
        return step("delete offsets", key, (0,), same(key, self.group, topics))

    def delete(self) -> Step:
        key = ApiKey.DELETE_GROUPS
        return step("delete the group", key, self.version(0, 2), same(key, [self.group]))

    def describe(self) -> Step:
        key = ApiKey.DESCRIBE_GROUPS
        return step("describe", key, self.version(0, 6), same(key, [self.group]))

    def describe_consumers(self) -> Step:
        key = ApiKey.CONSUMER_GROUP_DESCRIBE
        return step("describe consumers", key, (0,), same(key, [self.group]))


class ClassicGroupWalk(GroupWalk):
    """Members come together in rebalances of which each is whole; between them everything happens in any order."""

    weights = {
        "rebalance": 4,
        "heartbeat": 4,
        "sync": 2,
        "leave": 3,
        "join_wrongly": 3,
        "commit": 4,
        "fetch": 1,
        "fetch_as_member": 1,
        "delete_offsets": 1,
        "delete": 1,
        "describe": 2,
        "describe_consumers": 1,
    }

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.rebalances = 0
        self.members: set[str] = set()

    def is_choice(self, difference: str) -> bool:
        """When the leader leaves, Kafka takes the first of the others in the order of its hash map."""
        return ".leader: " in difference

    # -- a whole rebalance

    def join_body(self, side: Side, client: str, version: int, metadata: bytes) -> Any:
        m = message(ApiKey.JOIN_GROUP)
        member_id, _ = self.who(side, client)
        protocols = [m.JoinGroupRequestProtocol(name, metadata) for name in ("range", "other")]
        instance = STATIC.get(client) if version >= 5 else None
        return m(self.group, TIMEOUT_MS, TIMEOUT_MS, member_id, instance, "consumer", protocols)

    def send_join(self, side: Side, client: str, version: int, metadata: bytes) -> None:
        side.wire_of(client).send(ApiKey.JOIN_GROUP, version, self.join_body(side, client, version, metadata))

    def receive_join(self, side: Side, client: str, version: int) -> Any:
        answer = side.wire_of(client).receive(ApiKey.JOIN_GROUP, version)
        if answer.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
            self.took(side, client, answer.member_id, answer.generation_id)
        return answer

    def ask_to_join(self, side: Side, client: str, version: int, metadata: bytes) -> None:
        """Of a client that the group does not know: a dynamic member is given its id first."""
        self.took(side, client, "", -1)
        if client not in STATIC:
            self.send_join(side, client, version, metadata)
            self.receive_join(side, client, version)
        self.send_join(side, client, version, metadata)

    def wait_for_group(self, side: Side, is_so: Callable[[Any], bool]) -> None:
        key = ApiKey.DESCRIBE_GROUPS
        side.ask_until(lambda answer: is_so(answer.groups[0]), key, 5, message(key)([self.group]))

    def rebalance(self) -> Step:
        """Brings members together: new ones ask to join, then the present ones; new metadata makes them all join."""
        self.rebalances += 1
        metadata = b"%d" % self.rebalances
        (version,) = self.version(5, 9)
        new = [c for c in CLIENTS if c not in self.members and self.random.random() < 0.6]
        present = sorted(self.members)
        self.members.update(new)
        name = f"rebalance with {new} new, {present} there (version {version})"
        return Step(
            name,
            ApiKey.JOIN_GROUP,
            lambda side: None,
            (version,),
            perform=lambda side: self.bring_together(side, new, present, version, metadata),
        )

    def bring_together(self, side: Side, new: list[str], present: list[str], version: int, metadata: bytes) -> Any:
        """The answers to everybody's last JoinGroup and SyncGroup."""
        joined: dict[str, Any] = {}
        there, coming = list(present), list(new)
        if coming and not there:  # the first of all has a generation of its own
            there = [coming.pop(0)]
            self.ask_to_join(side, there[0], version, metadata)
            joined[there[0]] = self.receive_join(side, there[0], version)
        for number, client in enumerate(coming, len(there) + 1):
            self.ask_to_join(side, client, version, metadata)
            self.wait_for_group(side, has_members(number))
        if coming or present:
            for client in there:
                self.send_join(side, client, version, metadata + b"!")
                if client != there[-1]:
                    self.wait_for_group(side, lambda group: group.group_state == "PreparingRebalance")
            joined |= {client: self.receive_join(side, client, version) for client in (*coming, *there)}
        leader = next((c for c in joined if joined[c].leader == joined[c].member_id), None)
        synced = {c: self.sync_as(side, c, is_leader=c == leader) for c in sorted(joined, key=lambda c: c != leader)}
        return [answers[client] for answers in (joined, synced) for client in sorted(joined)]

    def sync_as(self, side: Side, client: str, *, is_leader: bool) -> Any:
        m = message(ApiKey.SYNC_GROUP)
        given = []
        if is_leader:
            given = [
                m.SyncGroupRequestAssignment(self.who(side, c)[0], f"for {c}".encode()) for c in sorted(self.members)
            ]
        member_id, generation = self.who(side, client)
        body = m(self.group, generation, member_id, STATIC.get(client), "consumer", "range", given)
        return side.wire_of(client).call(ApiKey.SYNC_GROUP, 5, body)

    # -- single requests

    def heartbeat(self) -> Step:
        client, shift, stranger = self.client(), self.often(0, -1, 1), self.often(False, True)
        versions = self.version(0, 4)

        def make(side: Side) -> Any:
            member_id, generation = self.who(side, client)
            instance = STATIC.get(client) if versions[0] >= 3 else None
            return message(ApiKey.HEARTBEAT)(self.group, generation + shift, "x" if stranger else member_id, instance)

        name = f"{client} beats, generation {shift:+}, stranger {stranger}"
        return step(name, ApiKey.HEARTBEAT, versions, make)

    def sync(self) -> Step:
        client, shift = self.client(), self.often(0, -1, 1)
        kind, protocol = self.often(("consumer", "range"), ("connect", "range"), ("consumer", "other"))
        versions = self.version(0, 5)

        def make(side: Side) -> Any:
            member_id, generation = self.who(side, client)
            instance = STATIC.get(client) if versions[0] >= 3 else None
            names = (kind, protocol) if versions[0] >= 5 else (None, None)
            return message(ApiKey.SYNC_GROUP)(self.group, generation + shift, member_id, instance, *names)

        return step(f"{client} syncs {protocol} of {kind}, generation {shift:+}", ApiKey.SYNC_GROUP, versions, make)

    def leave(self) -> Step:
        client, stranger = self.client(), self.often(False, True)
        versions = self.version(0, 5)
        m = message(ApiKey.LEAVE_GROUP)
        if not stranger:
            self.members.discard(client)

        def make(side: Side) -> Any:
            member_id = "x" if stranger else self.who(side, client)[0]
            if versions[0] < 3:
                return m(group_id=self.group, member_id=member_id)
            return m(group_id=self.group, members=[m.MemberIdentity(member_id, STATIC.get(client))])

        return step(f"{client} leaves, stranger {stranger}", ApiKey.LEAVE_GROUP, versions, make)

    def join_wrongly(self) -> Step:
        """Requests that no group lets in."""
        kind = self.random.choice(["stranger", "other protocols", "other type", "short timeout", "no protocols"])
        m, key = message(ApiKey.JOIN_GROUP), ApiKey.JOIN_GROUP
        name = "strange" if kind == "other protocols" else "range"
        protocols = [] if kind == "no protocols" else [m.JoinGroupRequestProtocol(name, b"")]
        member = "x"
        protocol_type = "connect" if kind == "other type" else "consumer"
        timeout = 1 if kind == "short timeout" else TIMEOUT_MS
        body = m(self.group, timeout, timeout, member, None, protocol_type, protocols)
        return step(f"join with {kind}", key, self.version(0, 9), lambda side: body)


class ConsumerGroupWalk(GroupWalk):
    """Heartbeats of KIP-848 of all kinds."""

    weights = {
        "beat": 10,
        "beat_oddly": 3,
        "join": 4,
        "leave": 2,
        "change": 2,
        "pace": 1,
        "commit": 3,
        "fetch": 1,
        "fetch_as_member": 2,
        "delete_offsets": 1,
        "delete": 1,
        "describe": 1,
        "describe_consumers": 3,
    }

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.other = f"other-{seed}"
        self.assignor = self.random.choice([None, "range", "uniform"])  # one: who breaks a tie of votes is not said
        # One, two or three members have as many each; with two topics only the range assignor leaves no choice.
        self.partitions = 6
        self.topics = (self.topic, self.other)

    def is_choice(self, difference: str) -> bool:
        """Which partitions are free already depends on which the assignor has chosen."""
        return "assignment" in difference

    def compared(self, answer: Any, field: str = "") -> Any:
        """Which partitions a member gets is the assignor's choice: their number is compared."""
        if isinstance(answer, dict):
            return {name: self.compared(value, name) for name, value in answer.items()}
        if isinstance(answer, list):
            is_numbers = field == "partitions" and all(isinstance(item, int) for item in answer)
            return len(answer) if is_numbers else [self.compared(item) for item in answer]
        return answer

    def member_id(self, client: str) -> str:
        return f"member-{client}-{self.name}"

    def owned(self, side: Side, client: str) -> Any:
        return side.known.get(f"{self.name} {client} owns", [])

    def take(self, client: str) -> Any:
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def remember(side: Side, answer: Any) -> None:
            if answer.error_code != ErrorCode.NONE:
                return
            self.took(side, client, self.member_id(client), answer.member_epoch)
            if answer.member_epoch <= 0:
                side.known[f"{self.name} {client} owns"] = []
            elif answer.assignment is not None:
                owned = [m.TopicPartitions(t.topic_id, list(t.partitions)) for t in answer.assignment.topic_partitions]
                side.known[f"{self.name} {client} owns"] = owned

        return remember

    def beats(self, name: str, client: str, make: Any) -> Step:
        return step(f"{client} {name}", ApiKey.CONSUMER_GROUP_HEARTBEAT, (1,), make, remember=self.take(client))

    def subscription(self) -> list[str]:
        both = [self.topic, self.other] if self.assignor == "range" else [self.topic]
        return list(self.often([self.topic], [self.other], both, ["nowhere"]))

    def words(self, names: list[str]) -> str:
        return "+".join(name.partition("-")[0] for name in names)

    def join(self) -> Step:
        client, names = self.client(), self.subscription()
        assignor = self.often(self.assignor, None, "odd")
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def make(side: Side) -> Any:
            who = self.member_id(client), 0, STATIC.get(client)
            return m(self.group, *who, None, TIMEOUT_MS, names, None, assignor, [])

        return self.beats(f"joins {self.words(names)} with {assignor}", client, make)

    def beat(self) -> Step:
        client, full = self.client(), self.often(True, False)
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def make(side: Side) -> Any:
            _, epoch = self.who(side, client)
            owned = self.owned(side, client) if full else None
            return m(self.group, self.member_id(client), max(epoch, 1), STATIC.get(client), topic_partitions=owned)

        return self.beats(f"beats, full {full}", client, make)

    def change(self) -> Step:
        client, names = self.client(), self.subscription()
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def make(side: Side) -> Any:
            _, epoch = self.who(side, client)
            who = self.member_id(client), max(epoch, 1), STATIC.get(client)
            return m(self.group, *who, subscribed_topic_names=names, topic_partitions=self.owned(side, client))

        return self.beats(f"subscribes to {self.words(names)}", client, make)

    def pace(self) -> Step:
        """The group gets no new assignment from now on, or at once."""
        key, interval = ApiKey.INCREMENTAL_ALTER_CONFIGS, self.random.choice(INTERVALS)
        return step(
            f"one assignment in {interval} ms", key, (1,), same(key, []), perform=partial(self.set_pace, interval)
        )

    def set_pace(self, interval: str, side: Side) -> None:
        """Kafka applies a change after it shows it; what comes with a later one is shown when the first is applied."""
        self.set_config(side, "consumer.assignment.interval.ms", interval)
        for timeout in ("45001", "45000"):
            self.set_config(side, "consumer.session.timeout.ms", timeout)

    def set_config(self, side: Side, name: str, value: str) -> None:
        m = message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
        body = m([m.AlterConfigsResource(ConfigResourceType.GROUP, self.group, [m.AlterableConfig(name, 0, value)])])
        side.ask_until(lambda answer: not any(error_codes(answer)), ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, body)
        m = message(ApiKey.DESCRIBE_CONFIGS)
        body = m([m.DescribeConfigsResource(ConfigResourceType.GROUP, self.group, [name])])
        side.ask_until(lambda answer: answer.results[0].configs[0].value == value, ApiKey.DESCRIBE_CONFIGS, 4, body)

    def beat_oddly(self) -> Step:
        client, shift = self.client(), self.random.choice([-1, 1])
        stranger = self.often(False, True)
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def make(side: Side) -> Any:
            _, epoch = self.who(side, client)
            member_id = "x" if stranger else self.member_id(client)
            return m(self.group, member_id, max(epoch + shift, 1), topic_partitions=self.owned(side, client))

        name = f"{client} beats, epoch {shift:+}, stranger {stranger}"
        return step(name, ApiKey.CONSUMER_GROUP_HEARTBEAT, (1,), make)

    def leave(self) -> Step:
        client = self.client()
        static = client in STATIC and self.random.random() < 0.5
        m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

        def make(side: Side) -> Any:
            return m(self.group, self.member_id(client), -2 if static else -1, STATIC.get(client))

        return self.beats(f"leaves, for a while {static}", client, make)
