"""The authorizer's verdicts, entry by entry."""

from collections.abc import Iterable

import pytest

from headwater.security.acls import (
    Acl,
    AclFilter,
    Acls,
    Operation,
    PatternType,
    Permission,
    ResourceType,
    host_matches,
)

LITERAL, PREFIXED = PatternType.LITERAL, PatternType.PREFIXED
ALLOW, DENY = Permission.ALLOW, Permission.DENY
TOPIC = ResourceType.TOPIC
ALICE = "User:alice"
Entry = tuple[str, PatternType, str, str, Operation, Permission]  # name, pattern, principal, host, what, verdict


def acls(*entries: Entry, super_users: Iterable[str] = (), allow_if_no_acl: bool = False) -> Acls:
    made = Acls(super_users, allow_if_no_acl=allow_if_no_acl)
    for number, (name, pattern, principal, host, operation, permission) in enumerate(entries):
        made.add(bytes([number]) * 16, Acl(TOPIC, name, pattern, principal, host, operation, permission))
    return made


def may(made: Acls, operation: Operation, name: str = "orders", principal: str = ALICE, host: str = "10.1.2.3") -> bool:
    return made.allows(principal, host, operation, TOPIC, name)


def test_nobody_may_do_what_no_entry_allows() -> None:
    assert not may(acls(), Operation.READ)
    assert may(acls(allow_if_no_acl=True), Operation.READ)
    other = ("orders", LITERAL, "User:bob", "*", Operation.READ, ALLOW)
    assert not may(acls(other, allow_if_no_acl=True), Operation.READ)
    assert may(acls(super_users=[ALICE]), Operation.READ)


def test_groups_count_for_their_members() -> None:
    groups = ("Group:billing", "Group:sales")

    def allowed(made: Acls, principals: tuple[str, ...] = groups) -> tuple[bool, bool]:
        """Of the topic, and of any topic."""
        return (
            made.allows(ALICE, "10.1.2.3", Operation.READ, TOPIC, "orders", principals),
            made.allows_any(ALICE, "10.1.2.3", Operation.READ, TOPIC, principals),
        )

    entry: Entry = ("orders", LITERAL, "Group:sales", "*", Operation.READ, ALLOW)
    assert allowed(acls(entry)) == (True, True)
    assert allowed(acls(entry), ()) == allowed(acls(entry), ("Group:other",)) == (False, False)
    mine: Entry = ("orders", LITERAL, ALICE, "*", Operation.READ, ALLOW)
    denied: Entry = ("orders", LITERAL, "Group:billing", "*", Operation.READ, DENY)
    assert allowed(acls(mine, entry, denied)) == (False, False)
    assert allowed(acls(mine, denied), ()) == (True, True)
    assert allowed(acls(super_users=["Group:billing"])) == (True, True)
    assert allowed(acls(super_users=["Group:billing"]), ("Group:sales",)) == (False, False)


@pytest.mark.parametrize(
    ("name", "pattern", "applies"),
    [
        ("orders", LITERAL, True),
        ("order", LITERAL, False),
        ("*", LITERAL, True),
        ("ord", PREFIXED, True),
        ("orders", PREFIXED, True),
        ("orders-eu", PREFIXED, False),
        ("*", PREFIXED, False),
    ],
)
def test_entries_apply_by_name(name: str, pattern: PatternType, applies: bool) -> None:
    assert may(acls((name, pattern, ALICE, "*", Operation.READ, ALLOW)), Operation.READ) == applies


@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER])
def test_describe_is_implied(operation: Operation) -> None:
    made = acls(("orders", LITERAL, ALICE, "*", operation, ALLOW))
    assert may(made, Operation.DESCRIBE)
    assert not may(made, Operation.CREATE)


def test_describe_configs_is_implied_by_altering_them_only() -> None:
    assert may(acls(("orders", LITERAL, ALICE, "*", Operation.ALTER_CONFIGS, ALLOW)), Operation.DESCRIBE_CONFIGS)
    assert not may(acls(("orders", LITERAL, ALICE, "*", Operation.ALTER, ALLOW)), Operation.DESCRIBE_CONFIGS)


def test_a_denial_wins_and_implies_nothing() -> None:
    allow_all = ("*", LITERAL, "User:*", "*", Operation.ALL, ALLOW)
    made = acls(allow_all, ("ord", PREFIXED, ALICE, "*", Operation.READ, DENY))
    assert not may(made, Operation.READ)
    assert may(made, Operation.DESCRIBE)
    assert may(made, Operation.READ, principal="User:bob")
    assert may(made, Operation.READ, name="prices")
    assert not may(acls(allow_all, ("orders", LITERAL, "User:*", "*", Operation.ALL, DENY)), Operation.DESCRIBE)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("*", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.4", "10.1.2.3", False),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.2.0.0/16", "10.1.2.3", False),
        ("fe80::/10", "fe80::1", True),
        ("10.0.0.0/8", "::1", False),
        ("nonsense/8", "10.1.2.3", False),
    ],
)
def test_hosts_and_ranges(pattern: str, host: str, matches: bool) -> None:
    assert host_matches(pattern, host) == matches
    made = acls(("orders", LITERAL, ALICE, pattern, Operation.READ, ALLOW))
    assert may(made, Operation.READ, host=host) == matches


def test_filters_find_by_exact_name_or_by_what_applies() -> None:
    entries = [
        ("orders", LITERAL, ALICE, "*", Operation.READ, ALLOW),
        ("ord", PREFIXED, ALICE, "*", Operation.READ, ALLOW),
        ("*", LITERAL, "User:bob", "*", Operation.WRITE, DENY),
    ]
    made = acls(*entries)

    def names(wanted: AclFilter) -> list[str]:
        return sorted(acl.name for _, acl in made.find(wanted))

    assert names(AclFilter()) == ["*", "ord", "orders"]
    assert names(AclFilter(name="orders")) == ["orders"]
    assert names(AclFilter(name="orders", pattern_type=PatternType.MATCH)) == ["*", "ord", "orders"]
    assert names(AclFilter(pattern_type=PREFIXED)) == ["ord"]
    assert names(AclFilter(principal="User:bob")) == ["*"]
    assert names(AclFilter(operation=Operation.READ, permission=DENY)) == []
    made.remove(bytes([1]) * 16)
    assert names(AclFilter(pattern_type=PREFIXED)) == []
    assert not may(acls(), Operation.READ, name="order-1")


def test_some_topic_is_enough_for_an_idempotent_producer() -> None:
    def any_topic(made: Acls) -> bool:
        return made.allows_any(ALICE, "h", Operation.WRITE, TOPIC)

    allow = ("orders", LITERAL, ALICE, "*", Operation.WRITE, ALLOW)
    assert any_topic(acls(allow))
    assert not any_topic(acls(("orders", LITERAL, ALICE, "*", Operation.READ, ALLOW)))
    assert not any_topic(acls(allow, ("orders", LITERAL, ALICE, "*", Operation.WRITE, DENY)))
    assert not any_topic(acls(allow, ("*", LITERAL, ALICE, "*", Operation.ALL, DENY)))
    assert not any_topic(acls(allow, ("ord", PREFIXED, "User:*", "*", Operation.WRITE, DENY)))
    assert any_topic(acls(super_users=[ALICE]))
