"""The `headwater` command. `up` is imported alone, so that the broker does not wait for the other commands' libraries."""

import sys


def main() -> None:
    """The entry point."""
    if sys.argv[1:2] == ["up"]:
        from headwater.cli.up import main as up

        sys.exit(up(sys.argv[2:]))
    from headwater.cli.app import run

    run()


if __name__ == "__main__":
    main()
