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
import signal
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import Any, NoReturn

from luigi import server
from luigi.configuration import get_config
from luigi.metrics import MetricsCollectors
from luigi.setup_logging import DaemonLogging
from luigi.task_history import NopHistory
from tornado.ioloop import IOLoop, PeriodicCallback

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
        """Make the folder. Raises LuigidError."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            with open(self.pid_file.path, "a"):
                pass
        except OSError as error:
            raise LuigidError(
                f"{self.folder} cannot be luigid's folder: {error.strerror}; choose another --folder"
            ) from None


def serve(place: Place, address: str, port: int) -> None:
    """Be luigid, until SIGTERM or SIGINT. Raises LuigidError if that is not possible.

    The pid file stays locked until this process is gone: Luigi saves its state at the very end.
    """
    place.make()
    if not place.pid_file.hold():
        raise LuigidError(f"a luigid runs in {place.folder} already; stop it first, or choose another --folder")
    with contextlib.suppress(FileNotFoundError):
        os.remove(place.address_file)
    _Logging.place = place
    _Logging.setup()
    scheduler = _scheduler(place)
    IOLoop.current().add_callback(_started, place.address_file, url_of(address, port))
    saver = PeriodicCallback(scheduler.save, SAVE_EVERY)
    saver.start()
    try:
        server.run(api_port=port, address=address, scheduler=scheduler)
    except OSError as error:
        _cannot_listen(address, port, error)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(place.address_file)


async def _started(address_file: str, url: str) -> None:
    """The first thing in the loop: say where luigid listens; and let signals end the loop between two requests,
    where Luigi's own handlers would save a half-changed state.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    logging.getLogger("luigi.server").info("Listening at %s", url)
    with open(f"{address_file}.tmp", "w", encoding="utf-8") as file:
        file.write(f"{url}\n")
    os.replace(f"{address_file}.tmp", address_file)


def _scheduler(place: Place) -> DurableScheduler:
    defaults = {
        "state_path": place.file("state.pickle"),
        "record_task_history": True,
        "metrics_collector": MetricsCollectors.prometheus,
    }
    config = get_config()
    options = {name: value for name, value in defaults.items() if not config.has_option("scheduler", name)}
    if options.get("record_task_history") or config.getboolean("scheduler", "record_task_history"):
        options["task_history_impl"] = _history(place)
    else:
        options["task_history_impl"] = NopHistory()
    try:
        scheduler = DurableScheduler(**options)
    except ModuleNotFoundError as error:
        _missing(error)
    except ValueError as error:
        raise LuigidError(f"[scheduler] of luigi.cfg has a setting that cannot be right: {error}") from None
    folder = os.path.dirname(os.path.abspath(scheduler._config.state_path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LuigidError(f"[scheduler] state_path: no file can be written in {folder}; make it, or name another")
    return scheduler


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
