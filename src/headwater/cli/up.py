"""`headwater up`: runs the broker until Ctrl-C.

Parsed with argparse, not typer: this command must be ready in a few hundred milliseconds, and typer alone takes 80 of
them (docs/decisions/0003-argparse-for-up.md).
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from headwater.broker.running import Listener, ListenError, event_loop, open_core
from headwater.broker.server import Server
from headwater.broker.settings import Settings, SettingsError, assignment_pairs, environment_pairs
from headwater.storage.checkpoints import read_properties
from headwater.storage.errors import StorageError

WILDCARDS = ("", "0.0.0.0", "::", "[::]")
LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """Errors are one line, and exit with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"headwater up: {message} (see headwater up --help)\n")


def parser() -> Parser:
    up = Parser(prog="headwater up", description="Runs the broker until Ctrl-C.")
    up.add_argument("--data", metavar="DIR", help="where the data lives (default: ./headwater-data)")
    up.add_argument("--listen", metavar="HOST:PORT", help="where clients connect (default: 127.0.0.1:9092)")
    up.add_argument("--advertise", metavar="HOST:PORT", help="what clients are told to connect to")
    up.add_argument(
        "--durability",
        choices=("journal", "page-cache"),
        help="journal: acks=all is on disk when answered (default); page-cache: as Kafka's own default",
    )
    up.add_argument("--config", metavar="FILE", help="a server.properties of Kafka's")
    up.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="one of Kafka's settings")
    up.add_argument("--metrics", metavar="HOST:PORT", help="serves /metrics and /healthz there (default: off)")
    up.add_argument("--log-level", choices=LOG_LEVELS, default="warning")
    up.add_argument("--end-with-stdin", action="store_true", help="ends when standard input is closed")
    return up


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Settings from file, environment and options, later ones first. Raises SettingsError."""
    pairs: dict[str, str] = {}
    if arguments.config:
        try:
            pairs.update(read_properties(Path(arguments.config).read_text()))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"cannot read {arguments.config}: {reason}") from error
    pairs.update(environment_pairs(os.environ))
    pairs.update(assignment_pairs(arguments.set))
    if arguments.data:
        pairs["log.dirs"] = arguments.data
    if arguments.durability:
        pairs["headwater.durability"] = arguments.durability
    if arguments.listen:
        pairs["listeners"] = f"PLAINTEXT://{arguments.listen}"
    if arguments.advertise:
        pairs["advertised.listeners"] = f"PLAINTEXT://{arguments.advertise}"
    return Settings.from_pairs(pairs)


def host_and_port(text: str, what: str) -> tuple[str, int]:
    """`host:port` or `PLAINTEXT://host:port`. Raises SettingsError."""
    protocol, separator, rest = text.strip().rpartition("://")
    if separator and protocol.upper() not in ("PLAINTEXT",):
        raise SettingsError(f"{what}: {protocol} listeners are not served yet, only PLAINTEXT")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{what}: {text!r} is not of the form HOST:PORT")
    return host.strip("[]"), int(port)


def read_listener(settings: Settings) -> Listener:
    """Raises SettingsError."""
    listeners = [part for part in settings.listeners.split(",") if not part.strip().upper().startswith("CONTROLLER")]
    if len(listeners) != 1:
        raise SettingsError("listeners: exactly one PLAINTEXT listener is served")
    host, port = host_and_port(listeners[0], "listeners")
    advertised = None
    if settings.advertised_listeners:
        first = settings.advertised_listeners.split(",")[0]
        advertised = host_and_port(first, "advertised.listeners")
    elif host in WILDCARDS:
        raise SettingsError(
            f"listening on all addresses ({host or '*'}) needs --advertise HOST:PORT, which clients can reach"
        )
    return Listener(host or "0.0.0.0", port, advertised)


def milliseconds_since_start() -> int:
    """Since this process was started, as far as the system tells."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        started_s = ticks / os.sysconf("SC_CLK_TCK")
        return round((time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1000)
    except (OSError, ValueError, IndexError, AttributeError):
        return round(time.process_time() * 1000)


def stop_at_end(descriptor: int, stopping: asyncio.Event) -> None:
    if not os.read(descriptor, 4096):
        stopping.set()


async def serve(settings: Settings, listener: Listener, arguments: argparse.Namespace) -> None:
    """Runs the broker until a signal, or the end of standard input. Raises StorageError, ListenError and OSError."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    if arguments.end_with_stdin:
        loop.add_reader(sys.stdin.fileno(), stop_at_end, sys.stdin.fileno(), stopping)
    core = open_core(settings, settings.log_dirs.split(",")[0])
    server = Server(core, inline=False)
    metrics = None
    try:
        port = await listener.start(server)
        if arguments.metrics:
            from headwater.broker.metrics import MetricsServer

            metrics = MetricsServer(core, *host_and_port(arguments.metrics, "--metrics"))
        where = f"{core.host}:{core.port}" if listener.advertised else f"{listener.host}:{port}"
        extra = f", metrics on {metrics.address}" if metrics else ""
        print(
            f"Headwater is ready on {where}, data in {settings.log_dirs}{extra}, {milliseconds_since_start()} ms. "
            "Ctrl-C stops it.",
            flush=True,
        )
        await server.run_until(stopping)
    finally:
        if metrics is not None:
            metrics.stop()
        await server.stop()


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = parser().parse_args(words)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )

    try:
        settings = read_settings(arguments)
        listener = read_listener(settings)
        with event_loop() as loop:
            loop.run_until_complete(serve(settings, listener, arguments))
    except SettingsError as error:
        print(f"headwater up: {error}", file=sys.stderr)
        return 2
    except (StorageError, ListenError) as error:
        print(f"headwater up: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"headwater up: {error.strerror or error}{where}; check the data directory", file=sys.stderr)
        return 1
    return 0
