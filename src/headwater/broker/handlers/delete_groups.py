"""DeleteGroups, 0 to 3: removes empty groups with their positions; answers when that is on disk."""

from functools import partial

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse


def handle(core: BrokerCore, request: Request) -> DeleteGroupsResponse | Deferred:
    body: DeleteGroupsRequest = request.body
    answers = {group_id: core.groups.delete_group(group_id) for group_id in body.groups_names}
    results = {group_id: answer for group_id, answer in answers.items() if isinstance(answer, ErrorCode)}
    open_answers = {group_id: answer for group_id, answer in answers.items() if isinstance(answer, Deferred)}
    if not open_answers:
        return response(results)
    deferred = Deferred()

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
