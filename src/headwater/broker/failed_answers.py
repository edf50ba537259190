"""The answer to a request that failed because of a defect of the broker: UNKNOWN_SERVER_ERROR, wherever the response has an
error code.

Kafka does the same for each request (`AbstractRequest.getErrorResponse`): the client gives up only that request, and not
every request that it has in flight on the connection. The answer is built from the message data: it has an error code for
the whole response if there is a field for it, otherwise an element with an error code for each element of the request.
"""

from typing import Any

from headwater.broker.dispatch import SERVED_KEYS, served_api
from headwater.effects.buffers import Buffer
from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import read_request_header, response_frame
from headwater.protocol.schema import Field

ERROR_CODES = ("error_code", "partition_error_code")
NOT_NAMES = (*ERROR_CODES, "error_message", "throttle_time_ms")


def failed_frame(frame: Buffer) -> list[Buffer] | None:
    """The answer to a request frame; None if the response has no field for an error, or the client expects no answer."""
    try:
        header = read_request_header(frame)
        if header.api_key not in SERVED_KEYS:
            return None
        entry = served_api(header.api_key)
        body, _ = decode(entry.request_class, header.api_version, frame, header.body_at)
    except ProtocolError:
        return None
    if header.api_key == ApiKey.PRODUCE and body.acks == 0:
        return None
    answer_class = response_class(header.api_key)
    failed = FailedAnswer(answer_class, header.api_version)
    if not failed.has_place(answer_class):
        return None
    message = failed.struct(answer_class, body)
    return response_frame(entry.api, header.api_version, header.correlation_id, message)


class FailedAnswer:
    """Builds a response of one class in one version."""

    def __init__(self, response_class: Any, version: int) -> None:
        self.response_class = response_class
        self.version = version

    def fields(self, class_: Any) -> list[Field]:
        return [field for field in class_.SCHEMA if field.low <= self.version <= field.high]

    def element_class(self, field: Field) -> Any | None:
        """The class of an array's elements; None if it is not an array of structs."""
        return getattr(self.response_class, field.element, None) if field.is_array else None

    def has_place(self, class_: Any) -> bool:
        """Whether the class, or a class that it contains, has an error code."""
        return any(
            field.name in ERROR_CODES or ((inner := self.element_class(field)) is not None and self.has_place(inner))
            for field in self.fields(class_)
        )

    def struct(self, class_: Any, asked: Any) -> Any:
        """A struct of the response for one of the request, which may be just a name or a number."""
        made = class_()
        fields = self.fields(class_)
        self.name(made, fields, asked)
        code = next((field.name for field in fields if field.name in ERROR_CODES), None)
        if code is not None:
            setattr(made, code, ErrorCode.UNKNOWN_SERVER_ERROR)
            return made
        for field in fields:
            inner = self.element_class(field)
            if inner is not None and self.has_place(inner):
                setattr(made, field.name, [self.struct(inner, each) for each in self.asked_elements(asked)])
        return made

    def name(self, made: Any, fields: list[Field], asked: Any) -> None:
        """Names the element of the request that it is about."""
        if hasattr(asked, "SCHEMA"):
            known = {field.name for field in asked.SCHEMA}
            for field in fields:
                if field.name in known and not field.is_array and field.name not in NOT_NAMES:
                    setattr(made, field.name, getattr(asked, field.name))
            return
        kind = "int32" if isinstance(asked, int) else "uuid" if isinstance(asked, bytes) else "string"
        name = next((field.name for field in fields if field.type == kind and field.name not in NOT_NAMES), None)
        if name is not None:
            setattr(made, name, asked)

    def asked_elements(self, asked: Any) -> list[Any]:
        """The elements of the first array in which a request, or a part of it, names something."""
        if not hasattr(asked, "SCHEMA"):
            return []
        arrays = [getattr(asked, field.name) for field in self.fields(asked) if field.is_array]
        return next((array for array in arrays if array), [])
