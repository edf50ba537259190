"""UpdateFeatures, 0 to 2: finalizes features at other levels, all or none; answers when that is on disk (KIP-584).

A lower level needs an upgrade type that allows it. transaction.version and group.version affect clients from their next
ApiVersions request on; metadata.version is stored and described.
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.features import SUPPORTED_FEATURES
from headwater.broker.metadata_records import MetadataRecordType, new_record
from headwater.broker.parts import AdministrationParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3
RESULTS_VERSION_MAX = 1
Result = UpdateFeaturesResponse.UpdatableFeatureResult


def handle(broker: AdministrationParts, request: Request) -> UpdateFeaturesResponse | Deferred[UpdateFeaturesResponse]:
    body: UpdateFeaturesRequest = request.body
    if not may_cluster(broker, request, Operation.ALTER):
        return UpdateFeaturesResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    for update in body.feature_updates:
        problem = update_problem(broker, update, request.api_version)
        if problem is not None:
            prefix = "The update failed for all features since the following feature had an error: "
            code = ErrorCode.INVALID_UPDATE_VERSION
            message = (
                f"{prefix}Invalid update version {update.max_version_level} for feature {update.feature}. {problem}"
            )
            return UpdateFeaturesResponse(error_code=code, error_message=message)
    response = UpdateFeaturesResponse(error_message=None)
    if request.api_version <= RESULTS_VERSION_MAX:
        response.results = [Result(update.feature, 0, "NONE") for update in body.feature_updates]
    changes = [
        new_record(MetadataRecordType.FEATURE_LEVEL, name=update.feature, feature_level=update.max_version_level)
        for update in body.feature_updates
        if broker.metadata.features.get(update.feature, 0) != update.max_version_level
    ]
    if body.validate_only:
        return response
    failed = UpdateFeaturesResponse(
        error_code=ErrorCode.KAFKA_STORAGE_ERROR, error_message="the disk is full or failing"
    )
    return broker.append_and_answer(changes, response, failed)


def update_problem(
    broker: AdministrationParts, update: UpdateFeaturesRequest.FeatureUpdateKey, version: int
) -> str | None:
    node_id = broker.cluster.node_ids[0]
    supported = SUPPORTED_FEATURES.get(update.feature)
    if supported is None:
        return f"Local controller {node_id} does not support this feature."
    low, high = supported
    if not low <= update.max_version_level <= high:
        return f"Local controller {node_id} only supports versions {low}-{high}"
    may_downgrade = update.upgrade_type in (SAFE_DOWNGRADE, UNSAFE_DOWNGRADE) if version else update.allow_downgrade
    if update.max_version_level < broker.metadata.features.get(update.feature, 0) and not may_downgrade:
        return (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
            "downgrade."
        )
    return None
