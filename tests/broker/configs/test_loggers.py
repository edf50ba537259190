"""The levels of the broker's loggers."""

import logging
from collections.abc import Iterator

import pytest

from headwater.broker.configs import loggers
from headwater.protocol.config_resources import AlterConfigOp
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError

SET, DELETE = AlterConfigOp.SET, AlterConfigOp.DELETE
NAME = "headwater.test.loggers"


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Every logger has afterwards the level that it had before."""
    logging.getLogger(NAME)
    before = [(logger, logger.level) for logger in loggers.find_loggers().values()]
    yield
    for logger, level in before:
        logger.setLevel(level)


def change(*operations: tuple[str, int, str | None]) -> None:
    loggers.apply_levels(loggers.checked_levels(operations))


@pytest.mark.parametrize("level", loggers.LEVELS)
def test_a_logger_has_the_level_that_it_was_given_until_that_is_removed(level: str) -> None:
    before = loggers.levels()
    change((NAME, SET, level))
    assert loggers.levels() == {**before, NAME: level}
    assert logging.getLogger(NAME).isEnabledFor(loggers.LEVELS[level])
    assert not logging.getLogger(NAME).isEnabledFor(loggers.LEVELS[level] - 1)
    change((NAME, DELETE, None))
    assert loggers.levels() == before


def test_the_root_is_that_of_all_of_our_loggers_and_of_no_other() -> None:
    others = logging.getLogger("some.application"), logging.getLogger()
    before = [logger.getEffectiveLevel() for logger in others]
    change(("root", SET, "ERROR"), (NAME, SET, "DEBUG"))
    found = loggers.levels()
    assert (found["root"], found[NAME], found["headwater.broker.configs.loggers"]) == ("ERROR", "DEBUG", "ERROR")
    assert [logger.getEffectiveLevel() for logger in others] == before
    assert "some.application" not in found
    assert "headwater.test" not in found  # a package without a logger of its own


def test_every_change_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    change((NAME, SET, "DEBUG"))
    change((NAME, DELETE, None))
    assert caplog.messages == [f"Updated the log level of {NAME} to DEBUG", f"Unset the log level of {NAME}"]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (0, "TRACE"),
        (10, "DEBUG"),
        (15, "INFO"),
        (20, "INFO"),
        (30, "WARN"),
        (40, "ERROR"),
        (50, "FATAL"),
        (60, "FATAL"),
    ],
)
def test_levels_between_kafkas_show_as_the_next_severe_one(level: int, name: str) -> None:
    assert loggers.level_name(level) == name


@pytest.mark.parametrize(
    ("name", "operation", "level", "code", "words"),
    [
        ("no.such", SET, "INFO", ErrorCode.INVALID_CONFIG, "no.such does not exist"),
        ("no.such", DELETE, None, ErrorCode.INVALID_CONFIG, "does not exist"),
        (NAME, SET, "LOUD", ErrorCode.INVALID_CONFIG, "DEBUG, ERROR, FATAL, INFO, TRACE, WARN"),
        (NAME, SET, "debug", ErrorCode.INVALID_CONFIG, "not a supported log level"),
        (NAME, SET, None, ErrorCode.INVALID_REQUEST, "Null value"),
        ("root", DELETE, None, ErrorCode.INVALID_REQUEST, "root"),
        (NAME, AlterConfigOp.APPEND, "INFO", ErrorCode.INVALID_REQUEST, "APPEND"),
        (NAME, AlterConfigOp.SUBTRACT, "INFO", ErrorCode.INVALID_REQUEST, "SUBTRACT"),
        (NAME, 9, "INFO", ErrorCode.INVALID_REQUEST, "Unknown operation type 9"),
    ],
)
def test_a_change_that_cannot_be_is_refused_together_with_the_others(
    name: str, operation: int, level: str | None, code: ErrorCode, words: str
) -> None:
    before = loggers.levels()
    with pytest.raises(ApiError, match=words) as raised:
        change((NAME, SET, "ERROR"), (name, operation, level))
    assert raised.value.code == code
    assert loggers.levels() == before
