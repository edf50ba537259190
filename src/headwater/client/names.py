"""Checks the names that callers give, before librdkafka gets them.

Its Python binding ends the whole process for some names: an empty group is an assertion that fails, and text that is not
UTF-8 (half of a surrogate pair, as `os.fsdecode` makes of any byte) is a null pointer. A NUL ends a name silently. Topic
names follow Kafka's rule (Topic.java); a string on the wire is 32,767 bytes at most.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headwater.client.errors import ConfigurationError, InvalidNameError

TOPIC_LENGTH_MAX = 249
STRING_BYTES_MAX = 32_767
LEGAL_TOPIC = re.compile(r"[a-zA-Z0-9._-]+")
NEVER_EMPTY = {
    "bootstrap.servers": "the broker's address",
    "group.id": "group=",
    "group.instance.id": "instance_id=",
    "transactional.id": "transactional_id=",
}


def checked_text(what: str, name: object) -> str:
    """A name that is safe to hand to librdkafka. Raises InvalidNameError."""
    if not isinstance(name, str):
        raise InvalidNameError(f"{what} is {name!r}; give it as text")
    if not name:
        raise InvalidNameError(f"{what} is empty; an environment variable that is not set is a usual cause")
    if "\0" in name:
        raise InvalidNameError(f"{what} {name!r} has a NUL in it; leave it out")
    if len(name) * 3 > STRING_BYTES_MAX or not name.isascii():
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidNameError(f"{what} {name!r} is not UTF-8; decode its bytes with their own encoding") from None
        if size > STRING_BYTES_MAX:
            raise InvalidNameError(f"{what} has {size} bytes; Kafka allows {STRING_BYTES_MAX} at most")
    return name


def checked_topic(name: object) -> str:
    """A topic's name by Kafka's rule. Raises InvalidNameError."""
    text = checked_text("the topic", name)
    if text in (".", "..") or len(text) > TOPIC_LENGTH_MAX or not LEGAL_TOPIC.fullmatch(text):
        shown = text if len(text) <= TOPIC_LENGTH_MAX else f"{text[:40]}…"
        raise InvalidNameError(
            f"the topic {shown!r}: a name is 1 to {TOPIC_LENGTH_MAX} letters, digits, '.', '_' and '-', and not '.' or '..'"
        )
    return text


def checked_subscription(topics: str | Sequence[str]) -> list[str]:
    """Names of topics, and regular expressions that begin with ^. Raises InvalidNameError."""
    if not isinstance(topics, str | Iterable):
        raise InvalidNameError(f"the topics are {topics!r}; give a name, or a list of names")
    names = [topics] if isinstance(topics, str) else list(topics)
    if not names:
        raise InvalidNameError("there are no topics to read; give at least one")
    for name in names:
        if isinstance(name, str) and name.startswith("^"):
            checked_text("the pattern of topics", name)
        else:
            checked_topic(name)
    return names


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises InvalidNameError for a name among librdkafka's settings, and ConfigurationError for a value that is not text."""
    for name, value in settings.items():
        checked_text("the name of a setting", name)
        if name in NEVER_EMPTY:
            checked_text(f"{NEVER_EMPTY[name]} ({name})", value)
        elif isinstance(value, str) and value:
            # A certificate may be longer than a name.
            checked_value(name, value)


def checked_value(name: str, value: str) -> str:
    """A setting's value that is safe for librdkafka. Raises ConfigurationError without the value: it may be a password."""
    if "\0" in value:
        raise ConfigurationError(f"the value of {name} has a NUL in it; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"the value of {name} is not UTF-8; decode its bytes with their own encoding"
        ) from None
    return value


def checked_timeout_ms(timeout_ms: float, what: str = "timeout_ms") -> float:
    """A time to wait. With a negative one or NaN librdkafka would wait for ever. Raises ConfigurationError."""
    if not isinstance(timeout_ms, int | float) or not timeout_ms >= 0:
        raise ConfigurationError(f"{what} is {timeout_ms!r}; give milliseconds, 0 or more")
    return min(float(timeout_ms), 2.0**31 - 1)
