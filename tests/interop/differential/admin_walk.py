"""Topics, configurations, ACLs and users: made, changed, described and removed in any order."""

from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.metadata import MetadataRequest
from tests.security.matrix import message

from .requests import same
from .side import Side, Step
from .walks import Walk, step

CONFIGS = {
    "retention.ms": ("5000", "-1", "x"),
    "cleanup.policy": ("compact", "delete", "compact,delete", "odd"),
    "compression.type": ("zstd", "producer", "odd"),
    "max.message.bytes": ("1000", "0", "-1"),
    "min.insync.replicas": ("1", "0"),
    "segment.bytes": ("1048576", "1"),
    "no.such": ("1",),
}
SET, DELETE, APPEND, SUBTRACT = range(4)
ANY, LITERAL, PREFIXED, MATCH = 1, 3, 4, 2


class AdminWalk(Walk):
    """Two topics, two users and the ACLs about them."""

    share = 0.3

    weights = {
        "create_topic": 4,
        "delete_topic": 2,
        "create_partitions": 3,
        "alter_config": 6,
        "describe_configs": 4,
        "describe_topics": 4,
        "create_acl": 4,
        "delete_acls": 2,
        "describe_acls": 4,
        "alter_user": 4,
        "describe_users": 3,
    }

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.markers = 0
        self.topics = ()

    def settle(self, side: Side) -> None:
        """A broker learns of changes in their order: when it knows a topic that was made after them it knows them."""
        if self.drawn.startswith("describe"):
            return
        name = f"marker-{self.name}-{self.markers}"
        self.markers += 1
        side.wire.create_topic(name, 1)
        wanted = MetadataRequest([MetadataRequest.MetadataRequestTopic(name=name)], False)
        side.ask_until(lambda answer: answer.topics[0].error_code == 0, ApiKey.METADATA, 12, wanted)

    def compared(self, answer: Any) -> Any:
        """Without the topics' ids: Kafka makes one up for a topic that is not created, Headwater tells none."""
        if isinstance(answer, dict):
            return {name: self.compared(value) for name, value in answer.items() if name != "topic_id"}
        return [self.compared(item) for item in answer] if isinstance(answer, list) else answer

    def some_topic(self) -> str:
        return f"{self.random.choice('pq')}-{self.name}"

    # -- topics and configurations

    def some_configs(self) -> list[tuple[str, str]]:
        if self.random.random() < 0.6:
            return []
        name = self.random.choice(list(CONFIGS))
        return [(name, self.random.choice(CONFIGS[name]))]

    def create_topic(self) -> Step:
        name, count, replicas = self.some_topic(), self.often(self.random.randint(1, 3), 0, -1), self.often(1, -1, 2)
        found, only_checks = self.some_configs(), self.often(False, True)
        m = message(ApiKey.CREATE_TOPICS)
        configs = [m.CreatableTopicConfig(*pair) for pair in found]
        make = same(ApiKey.CREATE_TOPICS, [m.CreatableTopic(name, count, replicas, [], configs)], 5000, only_checks)
        text = f"create {name} with {count} partitions, {replicas} replicas, {found}, validate only {only_checks}"
        return step(text, ApiKey.CREATE_TOPICS, self.version(5, 7), make)

    def delete_topic(self) -> Step:
        name, key = self.some_topic(), ApiKey.DELETE_TOPICS
        return step(f"delete {name}", key, self.version(1, 5), same(key, topic_names=[name], timeout_ms=5000))

    def create_partitions(self) -> Step:
        name, count, only_checks = self.some_topic(), self.random.randint(0, 5), self.often(False, True)
        key, m = ApiKey.CREATE_PARTITIONS, message(ApiKey.CREATE_PARTITIONS)
        make = same(key, [m.CreatePartitionsTopic(name, count, None)], 5000, only_checks)
        return step(f"{count} partitions for {name}, validate only {only_checks}", key, self.version(0, 3), make)

    def alter_config(self) -> Step:
        topic, name, operation = (
            self.some_topic(),
            self.random.choice(list(CONFIGS)),
            self.often(SET, DELETE, APPEND, SUBTRACT),
        )
        value, only_checks = self.random.choice(CONFIGS[name]), self.often(False, True)
        key, m = ApiKey.INCREMENTAL_ALTER_CONFIGS, message(ApiKey.INCREMENTAL_ALTER_CONFIGS)
        change = m.AlterableConfig(name, operation, None if operation == DELETE else value)
        make = same(key, [m.AlterConfigsResource(2, topic, [change])], only_checks)
        text = f"alter {name} of {topic} by {operation} with {value}, validate only {only_checks}"
        return step(text, key, self.version(0, 1), make)

    def describe_configs(self) -> Step:
        key, m = ApiKey.DESCRIBE_CONFIGS, message(ApiKey.DESCRIBE_CONFIGS)
        wanted = m.DescribeConfigsResource(2, self.some_topic(), list(CONFIGS))
        return step("describe configs", key, self.version(1, 4), same(key, [wanted], True, self.often(False, True)))

    def describe_topics(self) -> Step:
        name = self.some_topic()
        wanted = MetadataRequest([MetadataRequest.MetadataRequestTopic(name=name)], False)
        return step(f"describe {name}", ApiKey.METADATA, self.version(4, 13), lambda side: wanted)

    # -- ACLs

    def acl(self) -> tuple[Any, ...]:
        pick = self.random.choice
        kind = pick([2, 2, 3, 5])
        principal = pick(["User:a", "User:b", "User:*", "a"])
        host = pick(["*", "10.0.0.1", "nowhere"])
        return kind, f"r-{self.name}", pick([LITERAL, PREFIXED]), principal, host, pick([3, 4, 8, 5]), pick([2, 3])

    def acl_filter(self) -> tuple[Any, ...]:
        pick = self.random.choice
        kind, _, _, principal, host, operation, permission = self.acl()
        name = f"r-{self.name}" + pick(["", "", "x"])
        return (
            self.often(kind, 1),
            name,
            pick([ANY, LITERAL, PREFIXED, MATCH]),
            self.often(None, principal),
            self.often(None, host),
            self.often(1, operation),
            self.often(1, permission),
        )

    def create_acl(self) -> Step:
        found, key = self.acl(), ApiKey.CREATE_ACLS
        return step(f"create acl {found}", key, self.version(1, 3), same(key, [message(key).AclCreation(*found)]))

    def delete_acls(self) -> Step:
        found, key = self.acl_filter(), ApiKey.DELETE_ACLS
        make = same(key, [message(key).DeleteAclsFilter(*found)])
        return step(f"delete acls {found}", key, self.version(1, 3), make)

    def describe_acls(self) -> Step:
        found, key = self.acl_filter(), ApiKey.DESCRIBE_ACLS
        return step(f"describe acls {found}", key, self.version(1, 3), same(key, *found))

    # -- users

    def alter_user(self) -> Step:
        key, m = ApiKey.ALTER_USER_SCRAM_CREDENTIALS, message(ApiKey.ALTER_USER_SCRAM_CREDENTIALS)
        user, mechanism = f"{self.random.choice('ab')}-{self.name}", self.often(1, 2, 9)
        iterations = self.often(4096, 8192, 1, 100_000)
        removes = self.random.random() < 0.4
        deletions = [m.ScramCredentialDeletion(user, mechanism)] if removes else []
        upsertions = [] if removes else [m.ScramCredentialUpsertion(user, mechanism, iterations, b"salt", b"x" * 32)]
        if self.random.random() < 0.2:  # once more
            upsertions.append(m.ScramCredentialUpsertion(user, self.often(2, 1), 4096, b"salt", b"x" * 64))
        make = same(key, deletions, upsertions)
        return step(f"{user}, mechanism {mechanism}, {iterations} iterations, removed {removes}", key, (0,), make)

    def describe_users(self) -> Step:
        key, m = ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, message(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS)
        users = [m.UserName(f"{user}-{self.name}") for user in self.random.choice(["a", "b", "ab", "aa"])]
        return step(f"describe users {len(users)}", key, (0,), same(key, users))
