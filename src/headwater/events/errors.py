"""Errors in an event's content."""


class EventError(ValueError):
    """An event cannot be written or read: the base class of these errors."""


class SerializationError(EventError):
    """A serializer cannot write a value or key."""


class DeserializationError(EventError):
    """The bytes of an event are not what the reader expects. `event.raw` still has them."""


class CloudEventError(EventError):
    """A record claims to be a CloudEvent, but is not a valid one."""
