"""`headwater up`: runs the broker until Ctrl-C.

Parsed with argparse, not typer: this command must be ready in a few hundred milliseconds, and typer alone takes 80 of
them (docs/decisions/0003-argparse-for-up.md).
"""

import argparse
import errno
import logging
import os
import selectors
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from headwater.broker import descriptors
from headwater.broker.cluster import PLAINTEXT
from headwater.broker.configs.settings import (
    Settings,
    SettingsError,
    assignment_pairs,
    environment_pairs,
    environment_variable,
    is_secret,
)
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import (
    Listener,
    ListenError,
    read_configuration,
)
from headwater.broker.shell.ready import STANDARD_OUTPUT, Ready, ReadyError, address_text, check_descriptor, write_line
from headwater.broker.shell.run import Stop, open_core, run_broker
from headwater.broker.shell.server import Server
from headwater.planes.table import PlacedPlane, Plane, choose
from headwater.storage.errors import StorageError

STOP_TIMEOUT_S = 100.0
# All planes. None of them runs unless it is asked for.
PLANES = (
    Plane(
        "metrics",
        "headwater.observability.metrics_api:application",
        "127.0.0.1:9464",
        option="--metrics",
        is_default=False,
    ),
)
LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """Errors are one line, and exit with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"headwater up: {message} (see headwater up --help)\n")


def parser() -> Parser:
    up = Parser(prog="headwater up", description="Runs the broker until Ctrl-C.")
    up.add_argument("--data", metavar="DIR", help="the data directory (default: ./headwater-data)")
    address = "[PROTOCOL://]HOST:PORT"
    up.add_argument(
        "--listen",
        metavar=address,
        action="append",
        help="the address to listen on (default: 127.0.0.1:9092); repeatable",
    )
    up.add_argument("--advertise", metavar=address, action="append", help="the address that clients connect to")
    up.add_argument("--insecure", action="store_true", help="listen beyond the loopback without TLS and authentication")
    up.add_argument("--nodes", metavar="N", type=int, help="show clients a cluster of N virtual nodes (for tests)")
    up.add_argument(
        "--durability",
        choices=("journal", "page-cache"),
        help="journal: with acks=all, records are on disk when they are acknowledged (default); page-cache: Kafka's own default",
    )
    up.add_argument("--config", metavar="FILE", help="a Kafka server.properties file")
    up.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one of Kafka's settings; repeatable; not for secrets",
    )
    up.add_argument("--check-config", action="store_true", help="check the settings, report every error, and exit")
    up.add_argument("--metrics", metavar="HOST:PORT", help="serve /metrics and /healthz at this address (default: off)")
    up.add_argument(
        "--planes",
        metavar="NAME[=HOST:PORT],…",
        help=f"serve these over HTTP, in a separate process: {', '.join(plane.name for plane in PLANES)}; or none",
    )
    up.add_argument("--log-level", choices=LOG_LEVELS, default="warning")
    up.add_argument(
        "--ready-fd",
        metavar="N",
        type=int,
        help="when ready, write one line of JSON with the addresses to this descriptor; 1 is standard output, and replaces "
        "the line for people",
    )
    up.add_argument("--end-with-stdin", action="store_true", help="stop when standard input is closed")
    up.add_argument("--without-environment", action="store_true", help="ignore HEADWATER_ variables")
    return up


def read_file(path: str) -> dict[str, str]:
    """The settings in a properties file. Raises SettingsError."""
    from headwater.broker.configs.properties_file import read_properties

    try:
        return read_properties(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"cannot read {path}: {reason}") from error


def read_assignment(words: str) -> dict[str, str]:
    """The setting in one `--set`. Raises SettingsError for a secret: every user of the machine can read a command line."""
    pairs = assignment_pairs([words])
    for key in pairs:
        if is_secret(key):
            raise SettingsError(
                f"--set {key}=… shows a secret to every user of this machine; put it in a file (--config FILE) or "
                f"in the variable {environment_variable(key)}"
            )
    return pairs


def read_pairs(arguments: argparse.Namespace, found: list[str]) -> dict[str, str]:
    """Settings from the file, the environment and the options; later ones win. Adds problems to `found`."""
    pairs: dict[str, str] = {}
    try:
        pairs.update(read_file(arguments.config) if arguments.config else {})
    except SettingsError as error:
        found += error.problems
    if not arguments.without_environment:
        pairs.update(environment_pairs(os.environ))
    for words in arguments.set:
        try:
            pairs.update(read_assignment(words))
        except SettingsError as error:
            found += error.problems
    if arguments.data:
        pairs["log.dirs"] = arguments.data
    if arguments.durability:
        pairs["headwater.durability"] = arguments.durability
    if arguments.listen:
        pairs["listeners"] = ",".join(arguments.listen)
    if arguments.advertise:
        pairs["advertised.listeners"] = ",".join(arguments.advertise)
    if arguments.insecure:
        pairs["headwater.insecure"] = "true"
    if arguments.nodes is not None:
        pairs["headwater.nodes"] = str(arguments.nodes)
    return pairs


def configure(arguments: argparse.Namespace) -> tuple[Settings, list[Listener], list[PlacedPlane]]:
    """The configuration from all sources. Raises SettingsError with all problems."""
    found: list[str] = []
    if arguments.ready_fd is not None:
        try:
            check_descriptor(arguments.ready_fd)
        except SettingsError as error:
            found += error.problems
    if arguments.end_with_stdin:
        try:
            check_standard_input()
        except SettingsError as error:
            found += error.problems
    pairs = read_pairs(arguments, found)
    try:
        planes = choose_planes(arguments, is_insecure=is_insecure(pairs))
    except SettingsError as error:
        found += error.problems
    try:
        configuration = read_configuration(pairs)
    except SettingsError as error:
        found += error.problems
    if found:
        raise SettingsError(*found)
    return *configuration, planes


def check_standard_input() -> None:
    """Raises SettingsError if standard input is not what `--end-with-stdin` can wait for: /dev/null and files have ended already."""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    except (OSError, AttributeError) as error:  # sys.stdin is None if it is closed
        raise SettingsError(
            "--end-with-stdin needs a standard input that stays open until the broker should stop: a pipe, a socket or a "
            "terminal, not /dev/null or a file"
        ) from error


def choose_planes(arguments: argparse.Namespace, *, is_insecure: bool) -> list[PlacedPlane]:
    """The planes to run. Raises SettingsError."""
    addresses = {} if arguments.metrics is None else {"metrics": arguments.metrics}
    return choose(PLANES, arguments.planes, addresses, is_insecure=is_insecure)


def is_insecure(pairs: dict[str, str]) -> bool:
    return pairs.get("headwater.insecure", "").strip().lower() == "true"


def milliseconds_since_start() -> int:
    """Milliseconds since this process was started, as far as the system knows."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        started_s = ticks / os.sysconf("SC_CLK_TCK")
        return round((time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1000)
    except (OSError, ValueError, IndexError, AttributeError):
        return round(time.process_time() * 1000)


def line_for_people(ready: Ready, log_dirs: str) -> str:
    """Where clients find each listener, with its name unless that is PLAINTEXT."""
    named = [(each.address, "" if each.name == PLAINTEXT else f"{each.name}://") for each in ready.listeners]
    where = ", ".join(f"{name}{address}" for address, name in named)
    metrics = f", metrics on {address_text(*ready.metrics)}" if ready.metrics is not None else ""
    return f"Headwater is ready on {where}, data in {log_dirs}{metrics}, {ready.start_ms} ms. Ctrl-C stops it."


def say_ready(ready: Ready, settings: Settings, arguments: argparse.Namespace) -> None:
    """Reports where the broker is, to people and programs. Raises ReadyError."""
    ready = ready._replace(start_ms=milliseconds_since_start())  # the time includes the interpreter and the imports
    if arguments.ready_fd != STANDARD_OUTPUT:
        print(line_for_people(ready, settings.log_dirs), flush=True)
    if arguments.ready_fd is not None:
        write_line(arguments.ready_fd, ready.line())


def serve(
    settings: Settings, listeners: list[Listener], placed: list[PlacedPlane], arguments: argparse.Namespace
) -> None:
    """Runs the broker until a signal, or the end of standard input. Raises StorageError, ListenError, ReadyError and OSError."""
    planes = None
    if placed:
        from headwater.cli.up_planes import UpPlanes  # most brokers do not need it

        planes = UpPlanes(placed, listeners, arguments.log_level)

    def make_server(core: BrokerCore) -> Server:
        if planes is not None:
            planes.count(core)
        return Server(core, inline=False)

    def became_ready(server: Server, ready: Ready) -> None:
        say_ready(
            ready._replace(metrics=None if planes is None else planes.beside.address("metrics")), settings, arguments
        )
        if planes is not None:
            planes.start(server)

    def stop_planes() -> None:
        watchdog.start()
        if planes is not None:
            planes.beside.stop()

    # A disk that hangs may block this very thread.
    watchdog = threading.Timer(STOP_TIMEOUT_S, end_at_once)
    watchdog.daemon = True
    descriptor = sys.stdin.fileno() if arguments.end_with_stdin else None
    try:
        run_broker(
            partial(open_core, settings, settings.log_dirs.split(",")[0]),
            make_server,
            listeners if planes is None else [*listeners, *planes.listeners],
            stop=Stop(signals=(signal.SIGINT, signal.SIGTERM), descriptor=descriptor),
            on_ready=became_ready,
            on_stopping=stop_planes,
            on_stopped=None if planes is None else planes.beside.stopped,
        )
    finally:
        watchdog.cancel()


def end_at_once() -> None:
    """Ends the process without waiting: threads that hang on the disk would block an orderly end."""
    sys.stderr.write(f"headwater up: no clean stop after {STOP_TIMEOUT_S:.0f} s: the disk does not respond\n")
    sys.stderr.flush()
    os._exit(1)


def main(words: list[str]) -> int:
    """Runs the command; returns the exit status."""
    arguments = parser().parse_args(words)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )

    try:
        settings, listeners, planes = configure(arguments)
        if arguments.check_config:
            print("The settings are valid.")
            return 0
        descriptors.raise_limit()
        serve(settings, listeners, planes, arguments)
    except SettingsError as error:
        for problem in error.problems:
            print(f"headwater up: {problem}", file=sys.stderr)
        return 2
    except (StorageError, ListenError, ReadyError) as error:
        print(f"headwater up: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"headwater up: {error.strerror or error}{where}; check the data directory", file=sys.stderr)
        if error.errno == errno.ETIMEDOUT:
            sys.stderr.flush()
            os._exit(1)  # threads that hang on the disk would block an orderly end
        return 1
    return 0
