"""Run Luigi's server in this process, as it should be run: what it keeps lies in one folder.

luigi.cfg comes first: what it says in [scheduler], [task_history] and [core] about state, history, metrics and
logging is done; the defaults here are for what it leaves open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import pwd
import signal
import stat
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import Any, NoReturn

import luigi
from luigi import server
from luigi.configuration import get_config
from luigi.metrics import MetricsCollectors
from luigi.scheduler import scheduler as scheduler_settings
from luigi.setup_logging import DaemonLogging
from luigi.task_history import NopHistory
from tornado.ioloop import PeriodicCallback

from imagetl_luigi import luigid_guard
from imagetl_luigi.errors import LuigidError
from imagetl_luigi.luigid_state import DurableScheduler
from imagetl_luigi.pid_file import PidFile
from imagetl_luigi.settings import MiB

LOG_BYTES = 10 * MiB
"""Size at which a log file is put aside."""

LOGS_KEPT = 5
"""Log files put aside that are kept, of each kind."""

SAVE_EVERY = 1000
"""Milliseconds between two looks at whether there is something to save."""

ALLOWED = {
    luigi.BoolParameter: "true or false",
    luigi.IntParameter: "a whole number",
    luigi.FloatParameter: "a number",
    luigi.EnumParameter: "default, none, custom, datadog or prometheus",
}
"""What settings of Luigi's scheduler may be."""

PRUNE_EVERY = 60_000
"""Milliseconds between two looks at what is too old; as in Luigi's own luigid."""


@dataclass(frozen=True)
class Place:
    """The files of a luigid, in a folder that only its owner can read: its state is a pickle."""

    folder: str

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(os.path.abspath(self.folder), name)

    @property
    def pid_file(self) -> PidFile:
        """Says who runs."""
        return PidFile(self.file("luigid.pid"))

    @property
    def address_file(self) -> str:
        """Holds the URL while luigid answers there."""
        return self.file("luigid.url")

    def make(self) -> None:
        """Make the folder. Raises LuigidError if that is not possible, or if others could put a state into it."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            found = os.stat(self.folder)
            if found.st_uid != os.geteuid():
                raise LuigidError(f"{self.folder} belongs to {_name(found.st_uid)}; choose another --folder")
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise LuigidError(f"others may write into {self.folder}: chmod 700 it, or choose another --folder")
            with open(self.pid_file.path, "a"):
                pass
        except OSError as error:
            raise LuigidError(
                f"{self.folder} cannot be luigid's folder: {error.strerror}; choose another --folder"
            ) from None


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user with the number {user}"


def serve(place: Place, address: str, port: int) -> None:
    """Be luigid, until SIGTERM, SIGINT or SIGQUIT. Raises LuigidError if that is not possible.

    The pid file stays locked until this process is gone, and its state is saved by then.
    """
    os.umask(0o077)
    place.make()
    if not place.pid_file.hold():
        raise LuigidError(f"a luigid runs in {place.folder} already; stop it first, or choose another --folder")
    with contextlib.suppress(FileNotFoundError):
        os.remove(place.address_file)
    _set_up_logging(place)
    scheduler = _scheduler(place)
    try:
        scheduler.load()
        asyncio.run(_serve(scheduler, place, address, port))
        scheduler.dump()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(place.address_file)
        if not isinstance(scheduler.task_history, NopHistory):
            scheduler.task_history.close()


async def _serve(scheduler: DurableScheduler, place: Place, address: str, port: int) -> None:
    """Luigi's `server.run`, but that a signal ends it between two requests: Luigi's own handlers save a half-changed
    state from the middle of one.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        luigid_guard.guarded(server.app(scheduler), address).listen(port, address)
    except OSError as error:
        _cannot_listen(address, port, error)
    PeriodicCallback(scheduler.save, SAVE_EVERY).start()
    PeriodicCallback(scheduler.prune, PRUNE_EVERY).start()
    logging.getLogger("luigi.server").info("Listening at %s", url_of(address, port))
    with open(f"{place.address_file}.tmp", "w", encoding="utf-8") as file:
        file.write(f"{url_of(address, port)}\n")
    os.replace(f"{place.address_file}.tmp", place.address_file)
    await ended.wait()


def _scheduler(place: Place) -> DurableScheduler:
    defaults = {
        "state_path": place.file("state.pickle"),
        "record_task_history": True,
        "metrics_collector": MetricsCollectors.prometheus,
    }
    settings = _settings()
    options = {name: value for name, value in defaults.items() if name not in settings}
    wanted = settings.get("record_task_history", True)
    _check_state_path(settings.get("state_path", defaults["state_path"]))
    try:
        return DurableScheduler(**options, task_history_impl=_history(place) if wanted else NopHistory())
    except ModuleNotFoundError as error:
        _missing(error)


def _settings() -> dict[str, Any]:
    """What luigi.cfg says in [scheduler]. Raises LuigidError if it cannot be right."""
    settings = {}
    for name, parameter in scheduler_settings.get_params():
        try:
            if get_config().has_option("scheduler", name):
                settings[name] = parameter.task_value("scheduler", name)
        except ValueError as error:
            allowed = ALLOWED.get(type(parameter), "what Luigi's manual says")
            raise LuigidError(f"[scheduler] {name} of luigi.cfg cannot be right: {error}. Allowed: {allowed}") from None
    return settings


def _check_state_path(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if not path or os.path.isdir(path):
        raise LuigidError(f"[scheduler] state_path: {path!r} is no file; name one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LuigidError(f"[scheduler] state_path: no file can be written in {folder}; make it, or name another")


def _history(place: Place) -> Any:
    try:
        from imagetl_luigi.luigid_history import TaskHistory  # needs SQLAlchemy, an extra
    except ModuleNotFoundError as error:
        _missing(error)
    return TaskHistory(get_config().get("task_history", "db_connection", f"sqlite:///{place.file('history.db')}"))


def _missing(error: ModuleNotFoundError) -> NoReturn:
    raise LuigidError(
        f"luigid needs the package {error.name}, which is not installed: pip install 'imagetl_luigi[luigid]'"
    ) from None


def _cannot_listen(address: str, port: int, error: OSError) -> NoReturn:
    remedy = {
        errno.EADDRINUSE: "another program does; end it, or choose another --port",
        errno.EACCES: "only root may use ports below 1024; choose another --port",
    }.get(error.errno or 0, "choose an --address of this machine")
    raise LuigidError(f"luigid cannot listen at {url_of(address, port)} ({error.strerror}): {remedy}") from None


def url_of(address: str, port: int) -> str:
    """Where it is asked."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/"


def _set_up_logging(place: Place) -> None:
    _Logging.place = place
    try:
        _Logging.setup()
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise LuigidError(
            f"there can be no log: {error}; look into {place.folder}, and at [core] logging_conf_file of luigi.cfg"
        ) from None


class _Logging(DaemonLogging):
    """Luigi's ways to be told how to log; if it is told nothing, two files that do not grow without end."""

    place: Place

    @classmethod
    def _default(cls, opts: object) -> bool:
        requests = logging.getLogger("tornado.access")  # many, which would push all else out of the log
        requests.propagate = False
        for logger, name in ((logging.getLogger(), "luigid.log"), (requests, "access.log")):
            handler = RotatingFileHandler(
                cls.place.file(name), maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8"
            )
            handler.setFormatter(logging.Formatter(cls._log_format))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        return True
