"""How the process's open files are shared."""

import resource

import pytest

from headwater.broker import descriptors
from headwater.broker.configs.settings import Settings


class Limits:
    """The process's limits, as `resource` has them."""

    def __init__(self, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard

    def getrlimit(self, kind: int) -> tuple[int, int]:
        return self.soft, self.hard

    def setrlimit(self, kind: int, limits: tuple[int, int]) -> None:
        if limits[0] > self.hard >= 0:
            raise ValueError("not allowed to raise maximum limit")
        self.soft, self.hard = limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    made = Limits(1024, 20_000)
    monkeypatch.setattr(resource, "getrlimit", made.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", made.setrlimit)
    monkeypatch.setattr(descriptors, "open_now", lambda: 20)
    return made


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [(1024, 20_000, 20_000), (1024, 1024, 1024), (4096, 1 << 30, 1 << 20), (256, -1, 1 << 20), (-1, -1, -1)],
)
def test_the_soft_limit_is_raised_to_the_hard_one(limits: Limits, soft: int, hard: int, becomes: int) -> None:
    limits.soft, limits.hard = soft, hard
    descriptors.raise_limit()
    assert (limits.soft, limits.hard) == (becomes, hard)


@pytest.mark.parametrize("soft", [256, 1024, 4096, 20_000, 1 << 20])
def test_logs_connections_and_the_rest_fit(limits: Limits, soft: int) -> None:
    limits.soft = soft
    settings = Settings()
    connections = descriptors.for_connections(settings, has_logs=True)
    assert connections >= descriptors.FOR_CONNECTIONS_MIN
    assert descriptors.for_logs(settings) + connections + 20 + descriptors.RESERVE <= soft
    assert descriptors.for_connections(settings, has_logs=False) > connections


def test_what_is_asked_for_the_logs_is_theirs(limits: Limits) -> None:
    settings = Settings.from_pairs({"headwater.open.files.max": "100"})
    assert descriptors.for_logs(settings) == 100
    assert descriptors.for_connections(settings, has_logs=True) == 1024 - 100 - 20 - descriptors.RESERVE
