"""The `headwater` command. `up` is imported alone, so that the broker need not load the other commands' libraries."""

import gc
import os
import sys

NAMES = ("HEADWATER_BOOTSTRAP_SERVER", "HEADWATER_PROFILE")  # variables whose values are names


def main() -> None:
    """The entry point."""
    fill_standard_descriptors()
    if sys.argv[1:2] == ["up"]:
        gc.disable()  # imported objects stay: searching them for garbage would waste time, now and at each later collection
        from headwater.cli.up import main as up

        gc.freeze()
        gc.enable()
        sys.exit(up(sys.argv[2:]))
    if (text := not_text([*sys.argv[1:], *(os.environ.get(name, "") for name in NAMES)])) is not None:
        print(f"headwater: {text!r} is not UTF-8; all names in Kafka are UTF-8", file=sys.stderr)
        sys.exit(2)
    from headwater.cli.app import run

    sys.exit(run(sys.argv[1:]))


def fill_standard_descriptors() -> None:
    """Opens the null device where standard input, output or error is closed (`>&-`).

    Otherwise the first files and sockets would have these numbers. libuv ends the process when it closes a socket with one of
    them, and a warning on standard error could go to a client. The null device is opened for reading only, so that a program
    that writes to it still fails, as it would with a closed descriptor.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # it has the lowest free number


def not_text(texts: list[str]) -> str | None:
    """The first text that is not UTF-8, or None: librdkafka's binding would end the process, and dump its memory."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            return text
    return None


if __name__ == "__main__":
    main()
