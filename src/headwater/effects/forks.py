"""Descriptors that a forked child must not keep.

A child that `os.fork` makes (multiprocessing on Linux, a web server with workers) has a copy of each of its parent's
descriptors. As long as the child lives, a copy of a lock keeps a directory locked, a copy of a listening socket keeps a port
in use, and a copy of a pipe hides the end of the pipe from its reader, even if the parent has ended.

So in the child each such descriptor is replaced by one of /dev/null. It is not closed: the child also has copies of the
objects that know its number, and they would later close whatever else had got that number.
"""

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Owner(Protocol):
    """An object with descriptors that only this process may have."""

    def own_descriptors(self) -> Iterable[int]:
        """The descriptors that are open. A negative number is ignored."""
        ...


owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()


def keep_from_children(owner: Owner) -> None:
    """Makes sure that children forked from now on do not keep this owner's descriptors."""
    owners.add(owner)


def let_go() -> None:
    """Replaces the descriptors. Runs in the child, after the fork."""
    if not owners:
        return
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for owner in list(owners):
        for descriptor in owner.own_descriptors():
            with contextlib.suppress(OSError):  # it is closed already
                if descriptor >= 0:
                    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    owners.clear()


os.register_at_fork(after_in_child=let_go)
