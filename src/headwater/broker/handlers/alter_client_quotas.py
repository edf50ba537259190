"""AlterClientQuotas, 0 to 1: sets and removes quotas; answers when they are on disk (KIP-546, ClientQuotaControlManager.java).

An entity that is not valid, or a quota of it, leaves that entity as it is, and the others are changed. Not here: quotas for IP
addresses.
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.metadata import CHANGES_PER_REQUEST_MAX, TOO_MANY_CHANGES
from headwater.broker.metadata_records import quota_record
from headwater.broker.parts import AdministrationParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.alter_client_quotas import AlterClientQuotasRequest, AlterClientQuotasResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation
from headwater.security.quotas import Entity, entity_from, invalid

Response = AlterClientQuotasResponse
Answer = Response | Deferred[Response]


def handle(broker: AdministrationParts, request: Request) -> Steps[Answer]:
    body: AlterClientQuotasRequest = request.body
    if not may_cluster(broker, request, Operation.ALTER_CONFIGS):
        return failure(body, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, None)
    response, seen = Response(), set[Entity]()
    changes = []
    for entry in body.entries:
        yield
        entity = [(part.entity_type, part.entity_name) for part in entry.entity]
        result = Response.EntryData(0, None, [Response.EntityData(*part) for part in entity])
        response.entries.append(result)
        try:
            known = entity_from(entity)
            if known in seen:
                raise invalid(f"Ignoring duplicate entity {dict(known)}")
            seen.add(known)
            wanted = wanted_values(entry)
            changes += [
                quota_record(known, key, value) for key, value in list(broker.metadata.quotas.changes(known, wanted))
            ]
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
    if len(changes) > CHANGES_PER_REQUEST_MAX:
        return failure(body, ErrorCode.POLICY_VIOLATION, TOO_MANY_CHANGES)
    if body.validate_only or not changes:
        return response
    return broker.append_and_answer(changes, response, failure(body, ErrorCode.KAFKA_STORAGE_ERROR, None))


def wanted_values(entry: AlterClientQuotasRequest.EntryData) -> dict[str, float | None]:
    """Raises ApiError for a quota that is named twice."""
    wanted: dict[str, float | None] = {}
    for change in entry.ops:
        if change.key in wanted:
            raise invalid(f"Duplicate quota key {change.key}")
        wanted[change.key] = None if change.remove else change.value
    return wanted


def failure(body: AlterClientQuotasRequest, code: ErrorCode, message: str | None) -> Response:
    return Response(
        entries=[
            Response.EntryData(code, message, [Response.EntityData(e.entity_type, e.entity_name) for e in entry.entity])
            for entry in body.entries
        ]
    )
