"""`headwater profile`: lists and shows named connections."""

import os
from typing import Annotated

from headwater.cli.command import Commands
from headwater.cli.connection import PROFILE_VARIABLE, Connection, complete_profiles
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.profiles import all_profiles, find_profile, profiles_file

app = Commands()


@app.command("list", help="List the profiles in your profiles.toml.")
def list_profiles(output: OutputOption = Output.TABLE) -> None:
    found = all_profiles()
    if not found and output is Output.TABLE:
        raise CommandError(f"there are no profiles; define them in {profiles_file()}")
    active = os.environ.get(PROFILE_VARIABLE)
    show(
        [
            {"profile": p.name, "bootstrap server": p.bootstrap_server, "active": p.name == active}
            for p in found.values()
        ],
        output,
    )


@app.command("show", help="Show what a profile sets. Secrets are not shown.")
def show_profile(
    name: Annotated[str, Argument("PROFILE", complete=complete_profiles)], output: OutputOption = Output.TABLE
) -> None:
    found = find_profile(name)
    settings = Connection(profile=name).settings()
    del settings["log_level"]
    hidden = {key: "(hidden)" for key in settings if "password" in key or key.endswith(("key.pem",))}
    rows = [{"setting": key, "value": value} for key, value in sorted({**settings, **hidden}.items())]
    if output is Output.TABLE:
        print(f"{found.name}  {profiles_file()}")
    show(rows, output)
