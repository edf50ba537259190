"""What a client names cannot make a second line of the log."""

import io
import logging

from headwater.effects.logs import escape, get_logger


def logged(logger: logging.Logger) -> tuple[io.StringIO, logging.Handler]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger.addHandler(handler)
    return out, handler


def test_names_stay_on_their_line() -> None:
    logger = get_logger("headwater.test_logs")
    out, handler = logged(logger)
    try:
        logger.error("group %s, %d members: %s", "a\n2026 CRITICAL forged\r\x1b[2J\u2028", 3, ValueError("x\ny"))
    finally:
        logger.removeHandler(handler)
    assert out.getvalue() == "group a\\n2026 CRITICAL forged\\r\\x1b[2J\\u2028, 3 members: x\\ny\n"


def test_no_line_of_a_traceback_begins_as_a_record_does() -> None:
    logger = get_logger("headwater.test_logs")
    out, handler = logged(logger)
    try:
        try:
            raise ValueError("x\n2026 CRITICAL forged\x1b[2J")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    first, *others = out.getvalue().splitlines()
    assert first == "failed"
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_ordinary_text_is_left_alone() -> None:
    assert escape("größe 1 %s") == "größe 1 %s"
