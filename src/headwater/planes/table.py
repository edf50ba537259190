"""Which planes run beside the broker, and where. A plane is an HTTP application with its own port.

The table of planes belongs to the command that starts them (`headwater up`). It names each application's factory, as
`module:function`, which only the planes' process imports. `--planes` chooses planes from the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

from headwater.broker.configs.settings import SettingsError
from headwater.broker.shell.listeners import host_and_port, is_loopback

NONE = "none"


class Plane(NamedTuple):
    """An entry of the table. `application` is called with the BrokerAccess, and returns the Api.

    `option` is the option that sets its address, if it has one. A plane that is not a default runs only if it is asked for.
    """

    name: str
    application: str
    address: str
    option: str = "--planes"
    is_default: bool = True


class PlacedPlane(NamedTuple):
    """A chosen plane, and where it listens."""

    plane: Plane
    host: str
    port: int


def choose(
    table: Sequence[Plane], chosen: str | None, addresses: dict[str, str], *, is_insecure: bool
) -> list[PlacedPlane]:
    """The planes of a command line, in the order of the table. Raises SettingsError with all problems.

    `chosen` is the value of `--planes`: `none`, or names with or without an address: `metrics,console=127.0.0.1:8080`.
    Without it, the default planes run, and those in `addresses`, which come from options of their own.
    """
    found: list[str] = []
    if chosen is None:
        wanted = {plane.name: "" for plane in table if plane.is_default} | addresses
    else:
        wanted = split_names(chosen, [plane.name for plane in table], found)
        for plane in table:
            if plane.name in addresses and wanted.get(plane.name) != "":
                what = "gives it another one" if plane.name in wanted else "leaves it out"
                found.append(f"{plane.option} gives an address to {plane.name}, and --planes {chosen} {what}")
        wanted |= addresses
    placed = []
    for plane in table:
        if plane.name in wanted:
            try:
                placed.append(place(plane, wanted[plane.name], is_insecure=is_insecure))
            except SettingsError as error:
                found += error.problems
    if found:
        raise SettingsError(*found)
    return placed


def split_names(chosen: str, known: Sequence[str], found: list[str]) -> dict[str, str]:
    """The address, or "", of each named plane. Adds problems to `found`."""
    words = [word.strip() for word in chosen.split(",")]
    if words == [NONE]:
        return {}
    named = {}
    for name, _, address in (word.partition("=") for word in words):
        if name in known:
            named[name] = address
        else:
            found.append(f"--planes: there is no plane {name!r}; use {', '.join(known)}, or {NONE}")
    return named


def place(plane: Plane, address: str, *, is_insecure: bool) -> PlacedPlane:
    """Raises SettingsError for an invalid address, or one that strangers can reach."""
    host, port = host_and_port(address or plane.address, plane.option)
    if not (is_insecure or is_loopback(host)):
        raise SettingsError(
            f"{plane.option} on {host or 'all addresses'} would show everyone what this broker does: use a "
            "loopback address, or allow it with --insecure"
        )
    return PlacedPlane(plane, host, port)
