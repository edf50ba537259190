"""Where `headwater consume` begins; `test_commands` has the command as a whole."""

import pytest

import headwater as hw
from headwater.cli.errors import CommandError
from headwater.cli.reading import start_place


@pytest.mark.parametrize(
    ("start", "place"),
    [
        ("beginning", "earliest"),
        ("end", "latest"),
        ("-3", -3),
        ("-0", "latest"),
        ("0", {0: 2}),
        ("3", {0: 3}),
        ("9" * 30, {0: 4}),
    ],
)
def test_an_offset_is_one_that_the_partition_has(start: str, place: object) -> None:
    with hw.Broker() as broker, hw.Admin(broker) as admin:
        with hw.Producer(broker, value=int) as producer:
            for number in range(4):
                producer.send("t", number)
        admin.delete_records("t", 0, 2)
        assert start_place(admin, "t", start) == place


def test_an_invalid_place_is_named() -> None:
    with pytest.raises(CommandError, match="--from 'tomorrow' is not beginning, end, -10, an offset, or a time"):
        start_place(hw.Admin("127.0.0.1:1"), "t", "tomorrow")
