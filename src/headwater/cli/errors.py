"""Errors of commands: one line that says what went wrong and what to do."""


class CommandError(Exception):
    """An error that the user can fix. Only the message is shown."""


def quantity(count: int, one: str, more: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count} {one if count == 1 else more}"


def line_of(error: Exception) -> str | None:
    """The line that a command prints for an error; None if the error is a defect of the command."""
    if isinstance(error, CommandError):
        return str(error)
    # The client's errors advise a programmer. On the command line the advice is about options.
    from headwater.client import errors as client

    if not isinstance(error, client.ClientError):
        return None
    advice = {
        client.AuthenticationError: "check security.protocol, sasl.* and ssl.* in --client-config, the profile or -X",
        client.BrokerUnavailableError: "is it running, and is --bootstrap-server right?",
        client.ClientTimeoutError: "is it running, and is --bootstrap-server right?",
        client.UnknownTopicError: "headwater topic list shows the existing ones, headwater topic create makes one",
        client.RecordTooLargeError: "raise message.max.bytes with -X and the topic's max.message.bytes, or send smaller records",
    }.get(type(error), error.advice)
    text = error.message
    if error.code and not error.code.startswith("_") and error.code not in text:
        text += f" ({error.code})"
    return f"{text}; {advice}" if advice else text
