"""The table of endpoints is served: types, errors as bodies, headers. Without a port."""

import logging

import pytest

from headwater.effects.clock import ManualClock
from headwater.http.api import Api
from headwater.http.endpoints import Call, Endpoint
from headwater.http.limits import Limits
from headwater.http.origins import Origins

from .asgi import ask
from .subjects import Subjects


async def test_a_body_is_decoded_and_an_answer_encoded() -> None:
    api = Subjects().api()
    created = await ask(api, "POST", "/subjects", b'{"name": "orders", "version": 3}')
    assert (created.status, created.json) == (201, {"name": "orders", "version": 3})
    assert created.headers["content-type"] == "application/json"
    read = await ask(api, "GET", "/subjects/orders")
    assert (read.status, read.json) == (200, {"name": "orders", "version": 3})


async def test_none_is_an_answer_without_a_body() -> None:
    answer = await ask(Subjects().api(), "DELETE", "/subjects/orders")
    assert (answer.status, answer.body) == (204, b"")


async def test_a_handler_sees_the_query_the_headers_and_the_user() -> None:
    answer = await ask(Subjects().api(), "GET", "/me?asked=yes", headers={"User-Agent": "test"})
    assert answer.json == {"user": None, "asked": "yes", "agent": "test"}


async def test_a_handler_may_answer_by_itself() -> None:
    answer = await ask(Subjects().api(), "GET", "/text")
    assert (answer.status, answer.body) == (200, b"text")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "message"),
    [
        ("GET", "/subjects/none", b"", 404, 40401, "Subject 'none' not found."),
        ("GET", "/nowhere", b"", 404, 404, "There is nothing at /nowhere; /openapi.json lists the paths."),
        ("GET", "/subjects/orders/", b"", 404, 404, "There is nothing at /subjects/orders/; "),
        ("PUT", "/subjects/orders", b"", 405, 405, "PUT is not supported at /subjects/orders."),
        ("POST", "/subjects", b"{", 400, 400, "The body is not JSON: "),
        ("POST", "/subjects", b"\xff", 400, 400, "The body is not JSON: "),
        ("POST", "/subjects", b"[" * 100_000, 422, 422, "The body does not have the expected form: "),
        (
            "POST",
            "/subjects",
            b'{"name": 3}',
            422,
            422,
            "The body does not have the expected form: Expected `str`, got `int`",
        ),
    ],
)
async def test_every_error_is_a_body(method: str, path: str, body: bytes, status: int, code: int, message: str) -> None:
    answer = await ask(Subjects().api(), method, path, body)
    assert answer.status == status
    assert answer.json["error_code"] == code
    assert answer.json["message"].startswith(message)
    assert answer.headers["content-type"] == "application/json"


async def test_a_wrong_method_names_the_right_ones() -> None:
    answer = await ask(Subjects().api(), "PUT", "/subjects/orders")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


async def test_a_failure_is_for_the_log_and_not_for_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await ask(Subjects().api(), "GET", "/fail")
    assert (answer.status, answer.json["message"]) == (500, "The server failed; see its log.")
    assert "the secret is 42" in caplog.text
    assert "GET /fail failed" in caplog.text


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    api = Subjects().api(limits=Limits(body_bytes_max=10))
    answer = await ask(api, "POST", "/subjects", [], headers={"Content-Length": "11"}, ends=False)
    assert (answer.status, answer.json["message"]) == (413, "The body is larger than 10 bytes.")


async def test_a_body_that_becomes_too_large_is_read_no_further() -> None:
    parts = [b"123456", b"123456", b"123456"]
    answer = await ask(Subjects().api(limits=Limits(body_bytes_max=10)), "POST", "/subjects", parts)
    assert answer.status == 413
    assert parts == [b"123456"]


async def test_a_body_may_be_as_large_as_the_limit() -> None:
    body = b'{"name": "orders"}'
    answer = await ask(Subjects().api(limits=Limits(body_bytes_max=len(body))), "POST", "/subjects", body)
    assert answer.status == 201


async def test_a_body_that_does_not_end_has_a_limit_in_time() -> None:
    api = Subjects().api(limits=Limits(body_s=0.01))
    answer = await ask(api, "POST", "/subjects", b'{"name"', ends=False)
    assert (answer.status, answer.json["message"]) == (408, "The body did not end within 0.01 s.")


async def test_a_handler_has_a_limit_in_time() -> None:
    answer = await ask(Subjects().api(limits=Limits(answer_s=0.01)), "GET", "/wait")
    assert (answer.status, answer.json["message"]) == (504, "There was no answer within 0.01 s.")


async def test_a_handlers_own_timeout_is_its_failure() -> None:
    async def give_up(call: Call[None]) -> None:
        raise TimeoutError

    answer = await ask(Api("A", "1", [Endpoint("GET", "/", give_up)]), "GET", "/")
    assert answer.status == 500


@pytest.mark.parametrize("path", ["/me", "/nowhere", "/fail"])
async def test_every_answer_tells_browsers_to_run_frame_and_keep_nothing(path: str) -> None:
    answer = await ask(Subjects().api(clock=ManualClock(1_700_000_000_000)), "GET", path)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert "access-control-allow-origin" not in answer.headers


async def test_pages_may_have_a_policy_of_their_own() -> None:
    answer = await ask(Subjects().api(content_security_policy="default-src 'self'"), "GET", "/me")
    assert answer.headers["content-security-policy"] == "default-src 'self'"


async def test_only_http_is_served() -> None:
    with pytest.raises(ValueError, match="not websocket"):
        await Subjects().api()({"type": "websocket"}, None, None)  # type: ignore[arg-type]  # neither is used


class TestCors:
    ORIGIN = "https://console.example.org"

    def api(self) -> Api:
        return Subjects().api(origins=Origins(allowed=(self.ORIGIN,)))

    async def test_an_allowed_origin_may_read(self) -> None:
        answer = await ask(self.api(), "GET", "/me", headers={"Origin": self.ORIGIN})
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert answer.headers["vary"] == "Origin"

    async def test_an_error_can_be_read_too(self) -> None:
        answer = await ask(self.api(), "GET", "/nowhere", headers={"Origin": self.ORIGIN})
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (404, self.ORIGIN)

    async def test_a_page_asks_first(self) -> None:
        headers = {"Origin": self.ORIGIN, "Access-Control-Request-Method": "POST"}
        answer = await ask(self.api(), "OPTIONS", "/subjects", headers=headers)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, self.ORIGIN)
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    async def test_another_origin_is_refused_and_nothing_happens(self, method: str) -> None:
        subjects = Subjects()
        api = subjects.api(origins=Origins(allowed=(self.ORIGIN,)))
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await ask(api, method, "/subjects", b'{"name": "orders"}', headers=headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
        assert subjects.found == {}

    async def test_without_it_not_even_a_question_is_answered_with_yes(self) -> None:
        headers = {"Origin": self.ORIGIN, "Access-Control-Request-Method": "POST"}
        answer = await ask(Subjects().api(), "OPTIONS", "/subjects", headers=headers)
        assert answer.status == 403
