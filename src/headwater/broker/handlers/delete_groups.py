"""DeleteGroups, 0 to 3: removes empty groups and their offsets; answers when that is on disk."""

from functools import partial

from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> Steps[DeleteGroupsResponse | Deferred[DeleteGroupsResponse]]:
    body: DeleteGroupsRequest = request.body
    answers: dict[str, ErrorCode | Deferred[ErrorCode]] = {}
    for group_id in dict.fromkeys(body.groups_names):
        yield
        answers[group_id] = group_refusal(broker, request, Operation.DELETE, group_id) or broker.groups.delete_group(
            group_id
        )
    results = {group_id: answer for group_id, answer in answers.items() if isinstance(answer, ErrorCode)}
    open_answers = {group_id: answer for group_id, answer in answers.items() if isinstance(answer, Deferred)}
    if not open_answers:
        return response(results)
    deferred: Deferred[DeleteGroupsResponse] = Deferred()

    def done(group_id: str, error: ErrorCode) -> None:
        results[group_id] = error
        if len(results) == len(answers):
            deferred.complete(response({name: results[name] for name in answers}))

    for group_id, answer in open_answers.items():
        answer.when_done(partial(done, group_id))
    return deferred


def response(results: dict[str, ErrorCode]) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[DeleteGroupsResponse.DeletableGroupResult(name, error) for name, error in results.items()]
    )
