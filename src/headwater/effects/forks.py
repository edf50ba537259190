"""Descriptors that a forked child must not keep.

A child that `os.fork` makes (multiprocessing on Linux, a web server with workers) has a copy of each of its parent's. A copy
of a lock keeps a directory locked, one of a listening socket keeps a port, one of a pipe keeps whoever waits for its end:
as long as the child lives, whatever becomes of the parent. So in the child each is replaced by /dev/null: its number
stays taken, since objects that know it are there too and would close what came to have that number.
"""

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Owner(Protocol):
    """What has descriptors of this process alone."""

    def own_descriptors(self) -> Iterable[int]:
        """Those that are open; a number below 0 stands for none."""
        ...


owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()


def keep_from_children(owner: Owner) -> None:
    """From now on no forked child keeps this owner's descriptors."""
    owners.add(owner)


def let_go() -> None:
    """In the child."""
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
