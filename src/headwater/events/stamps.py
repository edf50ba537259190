"""The headers that make a CloudEvent of a record: its id, its type, and its cause.

The cause is the event that is being handled (`context`). Headers that the publisher has set stay as they are.
"""

from functools import lru_cache

from headwater.events.context import cause_for
from headwater.events.headers import Pairs
from headwater.events.ids import ids
from headwater.events.serializers import CONTENT_TYPE, content_type_of

SPEC_VERSION = "1.0"
DEFAULT_SOURCE = "headwater"


@lru_cache(maxsize=1024)
def constant_pairs(type_text: str, content_type: str | None, source: str) -> Pairs:
    """The headers that all events of one type have in common."""
    texts = [
        ("ce_specversion", SPEC_VERSION),
        ("ce_source", source),
        ("ce_type", type_text),
        (CONTENT_TYPE, content_type),
    ]
    return [(name, text.encode()) for name, text in texts if text is not None]


def stamp(
    topic: str, value: object, headers: Pairs, source: str = DEFAULT_SOURCE, content_type: str | None = None
) -> None:
    """Makes a CloudEvent, in binary mode, of a record that is about to be published.

    Headers that are already set stay as they are. The cause is the event that is being handled. Without `content_type`, it
    is that of the value's own type.
    """
    given = {name for name, _ in headers}
    if "ce_id" in given:
        event_id = next(value.decode() for name, value in headers if name == "ce_id" and value is not None)
    else:
        event_id = ids.new()
        headers.append(("ce_id", event_id.encode()))
    kind = None if value is None else content_type or content_type_of(value)
    correlation_id, causation_id, traceparent = cause_for(event_id)
    pairs = [*constant_pairs(type_name(value) or topic, kind, source), ("ce_correlationid", correlation_id.encode())]
    if causation_id is not None:
        pairs.append(("ce_causationid", causation_id.encode()))
    if traceparent is not None:
        pairs.append(("ce_traceparent", traceparent.encode()))
    headers.extend([pair for pair in pairs if pair[0] not in given] if given else pairs)


def type_name(value: object) -> str | None:
    """The name of a value's class; None for a dict, text and the like, whose class does not say what happened."""
    kind = type(value)
    return None if kind.__module__ == "builtins" else kind.__qualname__
