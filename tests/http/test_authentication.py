"""Basic and Bearer: who asks, and what a request without the right credentials gets."""

import base64

import pytest

from headwater.http.authentication import Basic, Bearer

from .asgi import ask
from .subjects import Subjects


async def check(user: str, password: str) -> bool:
    return (user, password) == ("älice", "se:cret")


async def find_user(token: str) -> str | None:
    return {"t0ken": "alice"}.get(token)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def test_a_user_with_the_right_password_is_known_to_the_handler() -> None:
    api = Subjects().api(authentication=Basic(check))
    answer = await ask(api, "GET", "/me", headers=basic("älice:se:cret"))
    assert (answer.status, answer.json["user"]) == (200, "älice")


async def test_the_scheme_has_no_case() -> None:
    headers = {"authorization": basic("älice:se:cret")["Authorization"].replace("Basic", "bAsIC")}
    assert (await ask(Subjects().api(authentication=Basic(check)), "GET", "/me", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Bearer t0ken"},
        basic("älice"),
        basic("älice:wrong"),
        basic("bob:se:cret"),
    ],
)
async def test_without_the_right_credentials_nothing_is_done(headers: dict[str, str]) -> None:
    subjects = Subjects()
    api = subjects.api(authentication=Basic(check))
    answer = await ask(api, "POST", "/subjects", b'{"name": "x"}', headers=headers)
    assert answer.status == answer.json["error_code"] == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="headwater", charset="UTF-8"'
    assert subjects.found == {}


async def test_a_wrong_user_and_a_wrong_password_are_answered_alike() -> None:
    api = Subjects().api(authentication=Basic(check))
    first, second = [await ask(api, "GET", "/me", headers=basic(text)) for text in ("bob:x", "älice:x")]
    assert first.body == second.body


async def test_strangers_do_not_learn_which_paths_there_are() -> None:
    api = Subjects().api(authentication=Basic(check))
    assert (await ask(api, "GET", "/nowhere")).status == 401
    assert (await ask(api, "GET", "/openapi.json")).status == 401


async def test_a_path_may_be_public() -> None:
    api = Subjects().api(authentication=Basic(check), public_paths=["/me"])
    answer = await ask(api, "GET", "/me")
    assert (answer.status, answer.json["user"]) == (200, None)


async def test_a_token_stands_for_a_user() -> None:
    api = Subjects().api(authentication=Bearer(find_user))
    answer = await ask(api, "GET", "/me", headers={"Authorization": "Bearer t0ken"})
    assert (answer.status, answer.json["user"]) == (200, "alice")
    for wrong in ("Bearer other", "Bearer ", "Basic t0ken"):
        answer = await ask(api, "GET", "/me", headers={"Authorization": wrong})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="headwater"')
