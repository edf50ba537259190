"""Which Host and which Origin are served."""

import pytest

from headwater.http.errors import HttpError
from headwater.http.origins import Origins

from .asgi import ask
from .subjects import Subjects


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8081",
        "10.1.2.3:8081",
        "[::1]:8081",
        "[fe80::1%25eth0]:80",
        "localhost",
        "LOCALHOST:8081",
        "a.localhost",
        "broker.example.org:8081",
        "Broker.Example.org.",
    ],
)
def test_addresses_localhost_and_configured_names_are_served(host: str) -> None:
    Origins(("broker.example.org",)).check_host(host)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:8081", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("sub.broker.example.org", 421),
        ("", 400),
        (None, 400),
        ("user@127.0.0.1", 400),
        ("[::1", 400),
        ("127.0.0.1/x", 400),
    ],
)
def test_other_names_are_not(host: str | None, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        Origins(("broker.example.org",)).check_host(host)
    assert caught.value.status == status


async def test_a_wrong_host_is_answered_before_anything_else_happens() -> None:
    subjects = Subjects()
    answer = await ask(subjects.api(), "POST", "/subjects", b'{"name": "x"}', headers={"host": "evil.example"})
    assert answer.status == 421
    assert "'evil.example'" in answer.json["message"]
    assert subjects.found == {}


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://127.0.0.1:8081", "http", "127.0.0.1:8081"),
        ("http://127.0.0.1", "http", "127.0.0.1:80"),
        ("https://localhost", "https", "LOCALHOST:443"),
    ],
)
def test_this_servers_own_pages_may_ask(origin: str, scheme: str, host: str) -> None:
    Origins().check_origin(origin, scheme, host)
    assert not Origins((), (origin,)).needs_cors(origin, scheme, host)


@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1:9999", "https://127.0.0.1:8081", "http://localhost:8081", "null", "https://evil.example"],
)
def test_other_pages_may_not(origin: str) -> None:
    with pytest.raises(HttpError) as caught:
        Origins().check_origin(origin, "http", "127.0.0.1:8081")
    assert caught.value.status == 403


def test_programs_that_are_no_browsers_send_no_origin() -> None:
    Origins().check_origin(None, "http", "127.0.0.1:8081")
