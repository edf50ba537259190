"""ApiVersions: what clients of each version learn of the features."""

import pytest

from headwater.broker.features import SUPPORTED_FEATURES
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from tests.broker.harness import Harness

ASK = ApiVersionsRequest("test", "1")


def test_old_clients_never_see_a_feature_that_begins_at_zero() -> None:
    answer = Harness().call(ApiKey.API_VERSIONS, 3, ASK)
    assert {f.name for f in answer.supported_features} == {n for n, (low, _) in SUPPORTED_FEATURES.items() if low > 0}
    assert answer.supported_features


@pytest.mark.parametrize("version", [4, 5])
def test_newer_clients_see_every_feature(version: int) -> None:
    answer = Harness().call(ApiKey.API_VERSIONS, version, ASK)
    assert {f.name: (f.min_version, f.max_version) for f in answer.supported_features} == SUPPORTED_FEATURES


@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_levels_in_force_are_shown_to_all(version: int) -> None:
    broker = Harness()
    answer = broker.call(ApiKey.API_VERSIONS, version, ASK)
    assert {f.name: f.max_version_level for f in answer.finalized_features} == broker.core.metadata.features
