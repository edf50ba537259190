"""The levels of this broker's loggers, which clients see and change while it runs (KIP-412).

A logger has the name of its module, as in the lines of the log; `root` stands for all of Headwater's. One without a level of
its own has that of the nearest logger above it, which mostly is `root`.
A change holds until the broker ends, as in Kafka, and never reaches the loggers of a program that embeds a broker.

The levels have Kafka's names. Python has no TRACE; it is a level below DEBUG here.
"""

import logging
from collections.abc import Iterable, Mapping

from headwater.broker.configs.catalog import shorten
from headwater.effects.logs import get_logger
from headwater.protocol.config_resources import AlterConfigOp
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError

logger = get_logger(__name__)

ROOT = "root"
OURS = "headwater"
LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
}


def find_loggers() -> dict[str, logging.Logger]:
    """The loggers that there are, by name."""
    known = list(logging.Logger.manager.loggerDict.items())  # a copy: other threads may make loggers
    ours = {name: each for name, each in known if name.startswith(f"{OURS}.") and isinstance(each, logging.Logger)}
    return {ROOT: get_logger(OURS), **dict(sorted(ours.items()))}


def level_name(level: int) -> str:
    """The most severe of Kafka's levels that a logger of this level still lets through."""
    return next((name for name, least in reversed(LEVELS.items()) if level <= least), "FATAL")


def levels() -> dict[str, str]:
    """The level in force of every logger."""
    return {name: level_name(each.getEffectiveLevel()) for name, each in find_loggers().items()}


def checked_levels(operations: Iterable[tuple[str, int, str | None]]) -> dict[str, str | None]:
    """The new levels, from (logger, operation, level); None removes a logger's own level. Raises ApiError."""
    known, changes = find_loggers(), dict[str, str | None]()
    for name, operation, level in operations:
        if operation not in (AlterConfigOp.SET, AlterConfigOp.DELETE):
            words = (
                AlterConfigOp(operation).name
                if operation in set(AlterConfigOp)
                else f"Unknown operation type {operation}"
            )
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{words} is not allowed for the BROKER_LOGGER resource")
        if name not in known:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Logger {shorten(name)} does not exist!")
        if operation == AlterConfigOp.DELETE:
            if name == ROOT:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Removing the log level of the root logger is not allowed")
            changes[name] = None
            continue
        if level is None:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
        if level not in LEVELS:
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"Cannot set the log level of {name} to {shorten(level)} as it is not a supported log level. "
                f"Valid log levels are {', '.join(sorted(LEVELS))}",
            )
        changes[name] = level
    return changes


def apply_levels(changes: Mapping[str, str | None]) -> None:
    """Puts levels in force that `checked_levels` returned."""
    known = find_loggers()
    for name, level in changes.items():
        if level is None:
            known[name].setLevel(logging.NOTSET)
            logger.warning("Unset the log level of %s", name)
        else:
            known[name].setLevel(LEVELS[level])
            logger.warning("Updated the log level of %s to %s", name, level)
