"""Which planes run, and where, as the command line says."""

import pytest

from headwater.broker.configs.settings import SettingsError
from headwater.planes.table import Plane, choose

TABLE = (
    Plane("registry", "module:registry", "127.0.0.1:8081"),
    Plane("metrics", "module:metrics", "127.0.0.1:9464", option="--metrics", is_default=False),
)


def chosen(planes: str | None, addresses: dict[str, str], *, is_insecure: bool = False) -> list[tuple[str, str, int]]:
    placed = choose(TABLE, planes, addresses, is_insecure=is_insecure)
    return [(each.plane.name, each.host, each.port) for each in placed]


REGISTRY = ("registry", "127.0.0.1", 8081)


@pytest.mark.parametrize(
    ("planes", "addresses", "expected"),
    [
        (None, {}, [REGISTRY]),
        (None, {"metrics": "127.0.0.1:0"}, [REGISTRY, ("metrics", "127.0.0.1", 0)]),
        ("none", {}, []),
        ("metrics", {}, [("metrics", "127.0.0.1", 9464)]),
        ("metrics, registry", {}, [REGISTRY, ("metrics", "127.0.0.1", 9464)]),
        ("metrics=[::1]:1,registry=localhost:0", {}, [("registry", "localhost", 0), ("metrics", "::1", 1)]),
        ("metrics", {"metrics": "127.0.0.1:7"}, [("metrics", "127.0.0.1", 7)]),
    ],
)
def test_planes_are_chosen(planes: str | None, addresses: dict[str, str], expected: list[tuple[str, str, int]]) -> None:
    assert chosen(planes, addresses) == expected


@pytest.mark.parametrize(
    ("planes", "addresses", "messages"),
    [
        ("nonsense", {}, ["--planes: there is no plane 'nonsense'; use registry, metrics, or none"]),
        ("none,metrics", {}, ["--planes: there is no plane 'none'"]),
        ("", {}, ["--planes: there is no plane ''"]),
        ("metrics=here", {}, ["--metrics: 'here' is not of the form HOST:PORT"]),
        ("registry=here,x", {}, ["--planes: there is no plane 'x'", "--planes: 'here' is not"]),
        (
            "none",
            {"metrics": "127.0.0.1:0"},
            ["--metrics gives an address to metrics, and --planes none leaves it out"],
        ),
        (
            "metrics=127.0.0.1:1",
            {"metrics": "127.0.0.1:2"},
            ["--metrics gives an address to metrics, and --planes metrics"],
        ),
        ("registry=0.0.0.0:8081", {}, ["--planes on 0.0.0.0 would show everyone what this broker does"]),
        (None, {"metrics": ":9100"}, ["--metrics on all addresses would show everyone what this broker does"]),
    ],
)
def test_what_is_wrong_is_said(planes: str | None, addresses: dict[str, str], messages: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        chosen(planes, addresses)
    assert len(caught.value.problems) == len(messages)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert problem.startswith(message)


def test_strangers_may_look_where_that_is_wanted() -> None:
    assert chosen("registry=0.0.0.0:1", {}, is_insecure=True) == [("registry", "0.0.0.0", 1)]
