"""The classes of an API's messages. Each module of messages is imported when it is first needed."""

from functools import cache
from importlib import import_module
from typing import Any

from headwater.protocol.apis import APIS


@cache
def request_class(key: int) -> Any:
    """The class of an API's request, for example ProduceRequest for 0."""
    return message_class(key, "Request")


@cache
def response_class(key: int) -> Any:
    """The class of an API's response."""
    return message_class(key, "Response")


def message_class(key: int, kind: str) -> Any:
    api = APIS[key]
    return getattr(import_module(f"headwater.protocol.messages.{api.module}"), api.name + kind)
