"""The version prefix of the keys and values of coordinators' records, and the errors for records that were not written."""

from headwater.protocol.error_codes import ErrorCode
from headwater.replay.decision import RecordTooLargeError


def prefix_version(number: int, data: bytes) -> bytes:
    """The record's kind before a key, or its version before a value."""
    return number.to_bytes(2, "big") + data


def append_error(error: OSError) -> ErrorCode:
    """The error for records that could not be appended, as in Kafka. A client may only retry the second."""
    is_too_large = isinstance(error, RecordTooLargeError)
    return ErrorCode.UNKNOWN_SERVER_ERROR if is_too_large else ErrorCode.COORDINATOR_NOT_AVAILABLE
