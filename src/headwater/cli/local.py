"""The commands that need no broker: their options, apart from what they do, which takes long to import."""

from typing import Annotated

from headwater.cli.markers import Argument, Option

Json = Annotated[bool, Option("--json", help="Say the result as JSON.")]


def up() -> int:
    """Here for the list of commands: `main` does not come this way, and `cli/up.py` has the options."""
    from headwater.cli.up import main

    return main([])


def backup(
    paths: Annotated[list[str], Argument("DATA_DIR TO", help="The data directory, and the directory of the backups.")],
    show_list: Annotated[bool, Option("--list", help="List the backups in TO.")] = False,
    verify: Annotated[
        bool, Option("--verify", help="Read the backups in TO again, or the one whose ID follows.")
    ] = False,
    keep: Annotated[int | None, Option(min=1, help="Then remove all but so many of the newest backups.")] = None,
    as_json: Json = False,
) -> int:
    """The command. Returns the exit status: 1 where the source, or a backup, is damaged."""
    from headwater.cli import backup as backups

    return backups.backup(paths, keep, show_list=show_list, verify=verify, as_json=as_json)


def restore(
    repository_path: Annotated[str, Argument("TO", help="The directory of the backups.")],
    directory: Annotated[str, Argument("DATA_DIR", help="A new or empty directory.")],
    backup_id: Annotated[str, Option("--id", help="Which backup; without it the newest.")] = "",
    as_json: Json = False,
) -> None:
    """The command."""
    from headwater.cli import backup as backups

    backups.restore(repository_path, directory, backup_id, as_json=as_json)


def doctor(
    directory: Annotated[str, Argument("DIR", help="The data directory; its broker must be stopped.")],
    repair: Annotated[bool, Option("--repair", help="Mend what can be mended, after a copy of it was made.")] = False,
    copy_to: Annotated[
        str, Option("--copy-to", metavar="DIR", help="Where that copy goes. Default: beside the data directory.")
    ] = "",
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask before something is written.")] = False,
    as_json: Json = False,
) -> int:
    """The command. Returns the exit status: 0 where nothing is damaged, or the next start repairs it; 1 where something is
    lost or not served; 2 where the data directory could not be examined."""
    from headwater.cli import doctor as examination

    return examination.doctor(directory, copy_to, repair=repair, yes=yes, as_json=as_json)
