"""What goes wrong with an event's own content."""


class EventError(ValueError):
    """Base of what is raised for an event that cannot be written or read."""


class SerializationError(EventError):
    """A value or key that its serializer cannot write."""


class DeserializationError(EventError):
    """Bytes that are not what the reader expects; the event's `raw` still has them."""


class CloudEventError(EventError):
    """A record that claims to be a CloudEvent and is not."""
