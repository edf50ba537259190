"""What the command line says of errors."""

import pytest

from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError, line_of, quantity
from headwater.client.errors import (
    AuthenticationError,
    AuthorizationError,
    BrokerUnavailableError,
    ClientError,
    UnknownTopicError,
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("give one"), "give one"),
        (ClientError("creating topic a: it is there", "TOPIC_X"), "creating topic a: it is there (TOPIC_X)"),
        (ClientError("it is there (TOPIC_X)", "TOPIC_X"), "it is there (TOPIC_X)"),
        (
            BrokerUnavailableError("no answer", "_TRANSPORT"),
            "no answer; is it running, and is --bootstrap-server right?",
        ),
        (
            AuthenticationError("wrong"),
            "wrong; check security.protocol, sasl.* and ssl.* in --client-config, the profile or -X",
        ),
        (AuthorizationError("no"), "no; an administrator can allow it: headwater acl add"),
        (UnknownTopicError("topic a does not exist"), "topic a does not exist; headwater topic list shows"),
    ],
)
def test_an_error_is_a_line_with_advice_for_the_command_line(error: Exception, line: str) -> None:
    said = line_of(error)
    assert said is not None
    assert said.startswith(line)
    assert "settings=" not in said
    assert "admin." not in said


def test_what_is_a_defect_is_not_hidden() -> None:
    assert line_of(ZeroDivisionError("division by zero")) is None


def test_one_is_not_many() -> None:
    assert (quantity(1, "record", "records"), quantity(2, "record", "records")) == ("1 record", "2 records")


@pytest.mark.parametrize("text", ["no-sign", "@/no/such/file"])
def test_settings_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(CommandError, match=text.removeprefix("@")):
        Connection("here:1", [text]).settings()
