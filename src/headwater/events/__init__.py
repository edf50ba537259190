"""The event, its headers, its serializers and its form as a CloudEvent. See README.md."""

from headwater.events.context import current_event, handling
from headwater.events.errors import CloudEventError, DeserializationError, EventError, SerializationError
from headwater.events.event import Event
from headwater.events.headers import Headers
from headwater.events.serializers import Serializer

__all__ = [
    "CloudEventError",
    "DeserializationError",
    "Event",
    "EventError",
    "Headers",
    "SerializationError",
    "Serializer",
    "current_event",
    "handling",
]
