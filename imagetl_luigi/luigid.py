"""Start, look at and stop a central scheduler: scripts/luigid, or python -m imagetl_luigi.luigid.

Exit codes: 0 it is as was asked for; 1 it could not be done, with the reason; 2 a wrong flag; and as the Linux
Standard Base has it for `status`: 3 it does not run; 4 it runs and does not answer. 70 is a fault of luigid's own.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import TextIO

import requests

from imagetl_luigi.errors import LuigidError
from imagetl_luigi.luigid_guard import is_of_this_machine
from imagetl_luigi.luigid_server import Place, serve, url_of

PATIENCE = 60
"""Seconds in which luigid must have started, or ended."""

EVERY = 0.05
"""Seconds between two looks at whether it has."""


def start(place: Place, address: str, port: int) -> int:
    """Start it in the background, and come back when it answers. Raises LuigidError if it listens elsewhere."""
    place.make()
    with (
        open(place.file(".luigid.start"), "w") as lock,
        open(place.file("luigid.out"), "a+", encoding="utf-8", errors="replace") as out,
    ):
        _await_turn(lock, place)
        before = out.seek(0, os.SEEK_END)
        child = None if place.pid_file.holder() else _spawn(place, address, port, out)
        try:
            url = _await(place, child)
        except BaseException:
            if child is not None:
                child.terminate()
            raise
        if child is not None and (not url or place.pid_file.holder() == child.pid):
            out.seek(before)
            sys.stderr.write(out.read())
    if not url:
        if child is None:
            raise LuigidError(f"the luigid in {place.folder} has just ended; start it again")
        return 1
    if url != url_of(address, port):
        raise LuigidError(f"a luigid runs in {place.folder} already, at {url}; stop it first")
    return status(place)


def _await_turn(lock: TextIO, place: Place) -> None:
    """Hold the lock: of two starts at a time the second finds what the first has started. Raises LuigidError if that
    does not end.
    """
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.monotonic() > until:
            raise LuigidError(f"another start of the luigid in {place.folder} does not end; end it, and start it again")
        time.sleep(EVERY)


def _spawn(place: Place, address: str, port: int, out: TextIO) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "imagetl_luigi.luigid", "run", "--folder", place.folder]
    return subprocess.Popen(  # noqa: S603 - ourselves
        [*command, "--address", address, "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _await(place: Place, child: subprocess.Popen[bytes] | None) -> str:
    """The URL at which it listens, the child or one that is run by hand at the same time; empty if none does
    and the child has ended. Raises LuigidError if none of this happens.
    """
    until = time.monotonic() + PATIENCE
    while True:
        ended = child is None or child.poll() is not None
        running = place.pid_file.holder() is not None
        url = _url(place)
        if running and url:
            return url
        if ended and not running:
            return ""
        if time.monotonic() > until:
            raise LuigidError(f"luigid does not listen after {PATIENCE} s; look into {place.file('luigid.log')}")
        time.sleep(EVERY)


def status(place: Place) -> int:
    """Say whether it runs, and where."""
    pid = place.pid_file.holder()
    if pid is None:
        print(f"luigid does not run in {place.folder}")
        return 3
    url = _url(place)
    if not url or not _answers(url):
        where = f" at {url}" if url else ""
        print(f"luigid runs (pid {pid}), but does not answer{where}; look into {place.folder}, or stop it")
        return 4
    print(f"luigid listens at {url} (pid {pid}); log, state and history: {place.folder}")
    return 0


def stop(place: Place) -> int:
    """End it in order, and come back when it is gone. Raises LuigidError if it does not go."""
    pid = place.pid_file.holder()
    if pid is None:
        print(f"luigid does not run in {place.folder}")
        return 0
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise LuigidError(f"luigid (pid {pid}) is another user's, who alone may stop it") from None
    until = time.monotonic() + PATIENCE
    while place.pid_file.holder() == pid:
        if time.monotonic() > until:
            raise LuigidError(f"luigid (pid {pid}) does not end after {PATIENCE} s; look into {place.folder}")
        time.sleep(EVERY)
    print("luigid has stopped")
    return 0


def _url(place: Place) -> str:
    with contextlib.suppress(OSError), open(place.address_file, encoding="utf-8") as file:
        return file.read().strip()
    return ""


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands before this machine
        try:
            return session.head(url, timeout=10).ok
        except requests.RequestException:
            return False


def _address(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} would be every address. Allowed: one of this machine, or 0.0.0.0")
    return text


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port. Allowed: 1 to 65535")
    return int(text)


def _arguments() -> argparse.Namespace:
    summary, _, codes = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="luigid", description=summary, epilog=codes)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--folder", default="data/luigid", help="of state, history, logs and pid file (%(default)s)")
    listening = argparse.ArgumentParser(add_help=False)
    listening.add_argument("--address", type=_address, default="127.0.0.1", help="address to listen at (%(default)s)")
    listening.add_argument("--port", type=_port, default=8082, help="port to listen at (%(default)s)")
    for name, text, parents in (
        ("start", "start it in the background; back when it answers", [shared, listening]),
        ("run", "the same in the foreground, for systemd", [shared, listening]),
        ("status", "say whether it runs, and where", [shared]),
        ("stop", "end it; back when it is gone", [shared]),
    ):
        commands.add_parser(name, help=text, description=text, parents=parents)
    return parser.parse_args()


def _warn_of(address: str) -> None:
    if not is_of_this_machine(address):
        print(
            f"luigid: warning: it has no password, and whoever reaches {address} can change what is run and see "
            "all parameters; a reverse proxy in front of 127.0.0.1 can ask for one, see README.md",
            file=sys.stderr,
            flush=True,
        )


def _do(arguments: argparse.Namespace) -> int:
    place = Place(arguments.folder)
    if arguments.command == "start":
        return start(place, arguments.address, arguments.port)
    if arguments.command == "run":
        _warn_of(arguments.address)
        serve(place, arguments.address, arguments.port)
        return 0
    return status(place) if arguments.command == "status" else stop(place)


def main() -> int:
    """What the command line asks for, and its exit code."""
    arguments = _arguments()
    try:
        return _do(arguments)
    except configparser.InterpolationError as error:  # whose text has the value, which may be a password
        message = (
            f"[{error.section}] {error.option} of luigi.cfg cannot be read: write % as %%, and ${{NAME}} only for an "
            "environment variable that is set"
        )
    except LuigidError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except Exception:  # not 1: systemd starts it again
        traceback.print_exc()
        return 70
    print(f"luigid: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
