"""The commands that need no broker. Their options are here; the rest, which takes long to import, is elsewhere."""

from typing import Annotated

from headwater.cli.markers import Argument, Option

Json = Annotated[bool, Option("--json", help="Print the result as JSON.")]


def up() -> int:
    """Only for the list of commands: `main` handles `up` itself, and `cli/up.py` has its options."""
    from headwater.cli.up import main

    return main([])


def backup(
    paths: Annotated[list[str], Argument("DATA_DIR TO", help="The data directory, and the directory of the backups.")],
    show_list: Annotated[bool, Option("--list", help="List the backups in TO.")] = False,
    verify: Annotated[bool, Option("--verify", help="Check all backups in TO, or the one with the given ID.")] = False,
    keep: Annotated[int | None, Option(min=1, help="Afterwards remove all but the newest N backups.")] = None,
    as_json: Json = False,
) -> int:
    """The command. Returns the exit status: 1 if the source, or a backup, is damaged."""
    from headwater.cli import backup as backups

    return backups.backup(paths, keep, show_list=show_list, verify=verify, as_json=as_json)


def restore(
    repository_path: Annotated[str, Argument("TO", help="The directory of the backups.")],
    directory: Annotated[str, Argument("DATA_DIR", help="A new or empty directory.")],
    backup_id: Annotated[str, Option("--id", help="The backup to restore. Default: the newest.")] = "",
    as_json: Json = False,
) -> None:
    """The command."""
    from headwater.cli import backup as backups

    backups.restore(repository_path, directory, backup_id, as_json=as_json)


def doctor(
    directory: Annotated[str, Argument("DIR", help="The data directory; its broker must be stopped.")],
    repair: Annotated[
        bool, Option("--repair", help="Repair the damage as far as possible, after copying the files that change.")
    ] = False,
    copy_to: Annotated[
        str, Option("--copy-to", metavar="DIR", help="The directory for the copy. Default: next to the data directory.")
    ] = "",
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> int:
    """The command. Returns the exit status: 0 if nothing is damaged, or the next start repairs it; 1 if something is lost or
    not served; 2 if the data directory could not be examined."""
    from headwater.cli import doctor as examination

    return examination.doctor(directory, copy_to, repair=repair, yes=yes, as_json=as_json)
