"""The command line of scripts/nightly: one run of the workflow for cron, which prints nothing unless it fails."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

import luigi

from imagetl_luigi import nights, storage
from imagetl_luigi.errors import ImagetlError
from imagetl_luigi.local_files import explaining
from imagetl_luigi.run_lock import AlreadyRunning, held
from imagetl_luigi.run_log import RunLog
from imagetl_luigi.run_process import Passing
from imagetl_luigi.source import check_url, is_http, local_path, source_id
from imagetl_luigi.workspace import Workspace

RETCODES = {
    "already_running": 10,
    "missing_data": 20,
    "not_run": 25,
    "task_failed": 30,
    "scheduling_error": 35,
    "unhandled_exception": 40,
}
"""Exit codes where luigi.cfg has none, since Luigi's own default is 0 for a task that failed."""

_SCHEDULERS = ("scheduler_host", "scheduler_port", "scheduler_url")
_OURS = ("--module", "--url", "--catalog", "--root")

_DESCRIPTION = """\
Fetch and combine one URL, or all cameras of a catalog, below a root: the command for a line of a crontab. It works
from any folder and needs nothing in the environment. It prints nothing if all went well, and else what went wrong, so
that cron mails failures only, and exits with Luigi's code. What Luigi says is in a log file for each run. While a run
is under way, a second one in the same root ends at once with exit code 10. For a root in a store, lock and logs lie in
a folder of this machine, below ~/.local/state/imagetl_luigi or $XDG_STATE_HOME/imagetl_luigi."""

_EPILOG = """\
All other options go to Luigi as they are: those of the task NightlyGif or CombineGifs, such as --delay 40, settings,
such as --dask-scheduler cluster, and Luigi's own, such as --scheduler-host. Luigi runs with --local-scheduler unless
they, or the [core] section of luigi.cfg, name a scheduler. The luigi.cfg is that of this repository, or the one
that LUIGI_CONFIG_PATH names; as always with Luigi, one in the current folder adds to it.

a crontab (a % must be written as \\%):
  MAILTO=me@example.org
  15 3 * * *  /opt/imagetl_luigi/scripts/nightly https://example.org/cam.img /srv/nights --delay 40
  30 3 * * *  /opt/imagetl_luigi/scripts/nightly /etc/cameras.toml s3://bucket/nights --keep-logs 90"""


@dataclass(frozen=True)
class Night:
    """What one call is to do.

    Attributes:
        source: the URL, or the path of the catalog.
        root: the folder or URL below which the workspaces lie.
        home: the folder of this machine for the lock, and for the logs unless another is asked for.
        options: for Luigi.
    """

    source: str
    root: str
    date: datetime.date
    home: str
    logs: str
    keep_logs: int
    options: list[str]

    @property
    def task(self) -> str:
        """The name of the task to run."""
        return "NightlyGif" if _catalog(self.source) is None else "CombineGifs"

    def __str__(self) -> str:
        return f"{self.task} of {nights.public_url(self.source)} in {self.root} for {self.date}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the night; return Luigi's exit code, or 10 if another run holds the root, 40 if none can begin."""
    passing = Passing()
    try:
        night = parse(sys.argv[1:] if arguments is None else arguments)
        with held(os.path.join(night.home, ".nightly.lock"), night.root) as lock, RunLog(night.logs) as log:
            return _run(night, log, lock, passing)
    except AlreadyRunning as error:
        return _fail(str(error), RETCODES["already_running"])
    except ImagetlError as error:
        return _fail(f"the run did not begin: {error}", RETCODES["unhandled_exception"])


def luigi_command(night: Night) -> list[str]:
    """The command that makes this night."""
    catalog = _catalog(night.source)
    source = ["--url", night.source] if catalog is None else ["--catalog", catalog]
    program = os.path.join(os.path.dirname(sys.executable), "luigi")
    command = [sys.executable, "-P", "-u", program, "--module", "imagetl_luigi", night.task, *source]
    command += ["--root", night.root, "--date", night.date.isoformat(), "--no-lock"]
    configuration = luigi.configuration.get_config()
    named = any(configuration.has_option("core", prefix + name) for prefix in ("", "default_") for name in _SCHEDULERS)
    if not named and not any(_is_flag(option, _flag(name)) for option in night.options for name in _SCHEDULERS):
        command.append("--local-scheduler")
    for name, code in RETCODES.items():
        if not configuration.has_option("retcode", name):
            command += [_flag(f"retcode_{name}"), str(code)]
    return command + night.options


def _run(night: Night, log: RunLog, lock: int, passing: Passing) -> int:
    command = luigi_command(night)
    began = time.monotonic()
    log.note(f"{_now()} {shlex.join(map(_public, command))} (process {os.getpid()} in {_folder()})")
    try:
        log.prune(night.keep_logs)
    except ImagetlError as error:  # no reason to miss the night
        log.note(str(error))
    code = passing.run(command, log.descriptor, lock)
    seconds = time.monotonic() - began
    try:
        log.note(f"{_now()} exit code {code} after {seconds:.1f} s")
    except ImagetlError as error:  # a full disk
        return _fail(f"{night}: {error}", code or RETCODES["unhandled_exception"])
    if not code:
        return 0
    if passing.signal:
        name = signal.Signals(passing.signal).name
        return _fail(f"{night} was stopped by {name} after {seconds:.1f} s", code, f"log: {log.path}")
    return _fail(f"{night} failed after {seconds:.1f} s", code, *log.what_matters(), f"log: {log.path}")


def _fail(what: str, code: int, *more: str) -> int:
    """Say what failed, and return the code."""
    lines = [f"nightly: {what} (exit code {code})", *more]
    print("\n".join(lines), file=sys.stderr)
    return code


def parse(arguments: Sequence[str]) -> Night:
    """What the command line asks for. Raises ParameterError, and SystemExit for what argparse refuses."""
    parser = argparse.ArgumentParser(
        prog="nightly",
        usage="%(prog)s URL|CATALOG.toml ROOT [--date DATE] [--logs FOLDER] [--keep-logs N] [options for Luigi …]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="URL|CATALOG.toml", type=_given, help="what to fetch, or a catalog of URLs")
    parser.add_argument("root", metavar="ROOT", type=_given, help="folder of the nights, or a URL in a store")
    parser.add_argument("--date", type=_date, default=datetime.date.today(), help="YYYY-MM-DD; default: today")
    parser.add_argument("--logs", metavar="FOLDER", type=_given, help="folder of the logs; default: ROOT/logs")
    parser.add_argument("--keep-logs", metavar="N", type=_count, default=30, help="newest logs to keep; default: 30")
    found, options = parser.parse_known_args(arguments)
    if arguments[0].startswith("-") or arguments[1].startswith("-"):
        parser.error("URL or catalog, and ROOT, come first, and all options behind them")
    for flag in _OURS:
        if any(_is_flag(option, flag) for option in options):
            parser.error(f"{flag} cannot be given; it follows from the first two arguments")
    if _catalog(found.source) is None:
        check_url(nights.url_of(found.source, found.date))
    root = Workspace.of(found.source, found.root).absolute().root
    home = _state_folder(root) if storage.is_remote(root) else root
    logs = os.path.abspath(found.logs or os.path.join(home, "logs"))
    return Night(found.source, root, found.date, home, logs, found.keep_logs, options)


def _folder() -> str:
    """The current folder, which Luigi will be run in. Raises StorageError if it was removed."""
    with explaining("use", "the current folder"):
        return os.getcwd()


def _state_folder(root: str) -> str:
    """Where on this machine lies what cannot lie in a store (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = given if os.path.isabs(given) else os.path.expanduser("~/.local/state")
    return os.path.join(state, "imagetl_luigi", source_id(root))


def _catalog(source: str) -> str | None:
    """The catalog, if it is one and no URL to fetch: a path, or an object in a store."""
    if is_http(source) or not source.endswith(".toml"):
        return None
    return local_path(source) or source


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_flag(option: str, flag: str) -> bool:
    return option.partition("=")[0] == flag


def _public(argument: str) -> str:
    """The argument without the secrets of a URL in it."""
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{name}{equals}{nights.public_url(value)}" if "://" in value else argument


def _now() -> str:
    return f"{datetime.datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _given(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; is a variable not set?")
    return text


def _date(text: str) -> datetime.date:
    date = nights.parse(text)
    if date is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no date. Allowed: YYYY-MM-DD")
    return date


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of logs. Allowed: 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
