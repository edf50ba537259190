"""ApiVersions, 0 to 5: what this broker serves, from the table in `dispatch.py`.

An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the supported range, so that the client can use a
lower version (KIP-511). In 5 the client may name the cluster and node that it expects (KIP-1242). The finalized features
(KIP-584) tell clients which protocols to use. Below 4, supported features whose lowest level is 0 are left out, because
kafka-clients 3.3 to 3.7 refuse a range that begins there (KAFKA-17011).
"""

import re
from collections.abc import Iterable
from typing import TypeAlias

from headwater.broker.connection import Request
from headwater.broker.features import SUPPORTED_FEATURES
from headwater.broker.parts import DescriptionParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

ZERO_LEVEL_VERSION = 4
Versions: TypeAlias = Iterable[tuple[int, int, int]]  # (key, lowest, highest version)
SOFTWARE_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(broker: DescriptionParts, request: Request, served: Versions) -> ApiVersionsResponse:
    body: ApiVersionsRequest = request.body
    if request.api_version >= 3 and not (
        SOFTWARE_NAME.fullmatch(body.client_software_name) and SOFTWARE_NAME.fullmatch(body.client_software_version)
    ):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    wrong_cluster = body.cluster_id is not None and body.cluster_id != broker.store.cluster_id
    wrong_node = body.node_id >= 0 and body.node_id != broker.cluster.node_of(request.connection.endpoint)
    if wrong_cluster or wrong_node:
        return ApiVersionsResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)
    response = versions_response(ErrorCode.NONE, served)
    for name, (low, high) in SUPPORTED_FEATURES.items():
        if low == 0 and request.api_version < ZERO_LEVEL_VERSION:
            continue
        response.supported_features.append(ApiVersionsResponse.SupportedFeatureKey(name, low, high))
    for name, level in broker.metadata.features.items():
        if level:
            response.finalized_features.append(ApiVersionsResponse.FinalizedFeatureKey(name, level, level))
    response.finalized_features_epoch = broker.metadata_log.log.high_watermark
    return response


def unsupported_version(served: Versions) -> ApiVersionsResponse:
    """The answer to an unknown version, to be sent in version 0."""
    return versions_response(ErrorCode.UNSUPPORTED_VERSION, served)


def versions_response(error: ErrorCode, served: Versions) -> ApiVersionsResponse:
    return ApiVersionsResponse(error, [ApiVersionsResponse.ApiVersion(*row) for row in served])
