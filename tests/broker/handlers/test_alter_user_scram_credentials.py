"""AlterUserScramCredentials: a user is altered once per request, as in Kafka's ScramControlManager."""

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from headwater.security.scram import Mechanism
from tests.broker.harness import Harness

Upsertion = AlterUserScramCredentialsRequest.ScramCredentialUpsertion
Deletion = AlterUserScramCredentialsRequest.ScramCredentialDeletion
SHA_256, SHA_512 = Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_512


def upsertion(name: str, mechanism: int = SHA_256, iterations: int = 4096) -> Upsertion:
    return Upsertion(name, mechanism, iterations, b"salt", b"x" * 32)


def alter(broker: Harness, deletions: list[Deletion], upsertions: list[Upsertion]) -> dict[str, ErrorCode]:
    answer = broker.call(
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, AlterUserScramCredentialsRequest(deletions, upsertions)
    )
    return {result.user: ErrorCode(result.error_code) for result in answer.results}


def test_several_users_are_altered_together() -> None:
    broker = Harness()
    assert alter(broker, [], [upsertion("a"), upsertion("b", SHA_512)]) == {
        "a": ErrorCode.NONE,
        "b": ErrorCode.NONE,
    }
    assert set(broker.core.metadata.credentials) == {("a", SHA_256), ("b", SHA_512)}
    assert alter(broker, [Deletion("a", SHA_256)], [upsertion("b", SHA_256)]) == {
        "a": ErrorCode.NONE,
        "b": ErrorCode.NONE,
    }
    assert set(broker.core.metadata.credentials) == {("b", SHA_512), ("b", SHA_256)}


@pytest.mark.parametrize("second", [SHA_256, SHA_512])
def test_a_user_is_altered_once_whatever_the_mechanism(second: Mechanism) -> None:
    broker = Harness()
    found = alter(broker, [], [upsertion("a"), upsertion("a", second), upsertion("b")])
    assert found == {"a": ErrorCode.DUPLICATE_RESOURCE, "b": ErrorCode.NONE}
    assert set(broker.core.metadata.credentials) == {("b", SHA_256)}
    found = alter(broker, [Deletion("b", SHA_256)], [upsertion("b", second)])
    assert found == {"b": ErrorCode.DUPLICATE_RESOURCE}
    assert set(broker.core.metadata.credentials) == {("b", SHA_256)}


def test_what_is_wrong_with_the_first_change_is_said_first() -> None:
    changes = [upsertion("a", iterations=1), upsertion("a")]
    assert alter(Harness(), [], changes) == {"a": ErrorCode.UNACCEPTABLE_CREDENTIAL}
