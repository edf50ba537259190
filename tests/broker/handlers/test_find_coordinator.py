"""FindCoordinator: where a group's and a transaction's requests go."""

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from tests.broker.harness import Harness


@pytest.mark.parametrize(("version", "message"), [(0, ""), (1, "NONE"), (2, "NONE"), (3, "NONE")])
def test_a_single_answer_has_a_message(version: int, message: str) -> None:
    answer = Harness().call(ApiKey.FIND_COORDINATOR, version, FindCoordinatorRequest("g", 0))
    assert (answer.error_code, answer.error_message) == (ErrorCode.NONE, message)


def test_answers_for_several_keys_have_none() -> None:
    ask = FindCoordinatorRequest(key_type=0, coordinator_keys=["g", "h"])
    answer = Harness().call(ApiKey.FIND_COORDINATOR, 4, ask)
    assert [(c.key, c.error_code, c.error_message) for c in answer.coordinators] == [("g", 0, ""), ("h", 0, "")]


def test_an_unknown_kind_is_refused() -> None:
    answer = Harness().call(ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest("g", 7))
    assert (answer.error_code, answer.node_id, answer.port) == (ErrorCode.INVALID_REQUEST, -1, -1)
