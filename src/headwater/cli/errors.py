"""How the commands say what went wrong: in one line, with what to do."""


class CommandError(Exception):
    """What a user can mend; the message is all that is shown."""


def quantity(count: int, one: str, more: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count} {one if count == 1 else more}"


def line_of(error: Exception) -> str | None:
    """What a command says of an error; None for one that is a defect of the command."""
    if isinstance(error, CommandError):
        return str(error)
    # The client's errors give advice to a programmer. On the command line there are options.
    from headwater.client import errors as client

    if not isinstance(error, client.ClientError):
        return None
    advice = {
        client.AuthenticationError: "look at security.protocol, sasl.* and ssl.* of --client-config, the profile or -X",
        client.BrokerUnavailableError: "is it running, and is --bootstrap-server right?",
        client.ClientTimeoutError: "is it running, and is --bootstrap-server right?",
        client.UnknownTopicError: "headwater topic list shows those that exist, headwater topic create makes one",
        client.RecordTooLargeError: "raise message.max.bytes with -X and max.message.bytes of the topic, or send less",
    }.get(type(error), error.advice)
    text = error.message
    if error.code and not error.code.startswith("_") and error.code not in text:
        text += f" ({error.code})"
    return f"{text}; {advice}" if advice else text
