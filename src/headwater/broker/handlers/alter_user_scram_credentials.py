"""AlterUserScramCredentials, 0: sets and deletes users' passwords, which arrive salted; answers when that is on disk (KIP-554)."""

from typing import Any

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.metadata import CHANGES_PER_REQUEST_MAX
from headwater.broker.metadata_records import MetadataRecordType, new_record
from headwater.broker.parts import AdministrationParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
)
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation
from headwater.security.scram import ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, credential_of

Result = AlterUserScramCredentialsResponse.AlterUserScramCredentialsResult


def handle(
    broker: AdministrationParts, request: Request
) -> Steps[AlterUserScramCredentialsResponse | Deferred[AlterUserScramCredentialsResponse]]:
    body: AlterUserScramCredentialsRequest = request.body
    changes: dict[str, list[Any]] = {}
    every: list[Any] = [*body.deletions, *body.upsertions]
    for change in every:
        changes.setdefault(change.name, []).append(change)
    names = list(changes)
    if not may_cluster(broker, request, Operation.ALTER):
        return failure_response(names, ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    response, records = AlterUserScramCredentialsResponse(), []
    for name, own in changes.items():
        yield
        try:
            record = record_of(broker, own[0])
            if len(own) > 1:  # as in Kafka, not even for two mechanisms
                message = "A user credential cannot be altered twice in the same request"
                raise ApiError(ErrorCode.DUPLICATE_RESOURCE, message)
            records.append(record)
            response.results.append(Result(name, 0, None))
        except ApiError as error:
            response.results.append(Result(name, error.code, str(error)))
    if len(records) > CHANGES_PER_REQUEST_MAX:
        return failure_response(names, ErrorCode.POLICY_VIOLATION)
    return broker.append_and_answer(records, response, failure_response(names, ErrorCode.KAFKA_STORAGE_ERROR))


def failure_response(names: list[str], code: ErrorCode) -> AlterUserScramCredentialsResponse:
    return AlterUserScramCredentialsResponse(results=[Result(name, code, None) for name in names])


def record_of(broker: AdministrationParts, change: Any) -> Any:
    """The record of a change. Raises ApiError."""
    try:
        mechanism = Mechanism(change.mechanism)
    except ValueError as error:
        raise ApiError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism") from error
    if not change.name:
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    if isinstance(change, AlterUserScramCredentialsRequest.ScramCredentialDeletion):
        if (change.name, mechanism) not in broker.metadata.credentials:
            message = "Attempt to delete a user credential that does not exist"
            raise ApiError(ErrorCode.RESOURCE_NOT_FOUND, message)
        return new_record(MetadataRecordType.REMOVE_USER_SCRAM_CREDENTIAL, name=change.name, mechanism=mechanism)
    if not ITERATIONS_MIN <= change.iterations <= ITERATIONS_MAX:
        bound = "few" if change.iterations < ITERATIONS_MIN else "many"
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, f"Too {bound} iterations")
    if not change.salt or not change.salted_password:
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Salt and salted password must not be empty")
    credential = credential_of(mechanism, change.salted_password, change.salt, change.iterations)
    return broker.metadata.credential_record(change.name, mechanism, credential)
