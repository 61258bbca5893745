"""Luigi's history of tasks in a database, which goes on where it was after a restart of luigid or of the database."""

from __future__ import annotations

import contextlib
import datetime
import logging
import queue
import threading

import sqlalchemy
from luigi.db_task_history import Base, DbTaskHistory, TaskEvent, TaskRecord
from luigi.scheduler import Task
from luigi.task_history import StoredTask
from luigi.task_status import DONE, FAILED, PENDING, RUNNING
from sqlalchemy.orm import sessionmaker

from imagetl_luigi.errors import LuigidError

logger = logging.getLogger("luigi.scheduler")

MOST_WAITING = 10_000
"""Events that wait for a database which does not answer; later ones are lost."""

GRACE = 0.2
"""Seconds in which an event is usually written, so that a luigid which is killed has lost none. Those behind one that
took longer are not waited for."""

PATIENCE = 3.0
"""Seconds that the database has to take what waits when luigid ends."""


class TaskHistory(DbTaskHistory):
    """The history in the database at a URL of SQLAlchemy's. Its tables are made if they are not there.

    A thread writes, so that a database which hangs holds up neither luigid nor the runs that ask it. Luigi
    remembers every task for as long as luigid runs; the thread asks the database instead.

    Luigi's own constructor cannot be used: it knows SQLAlchemy before 2.0 only.
    """

    def __init__(self, url: str) -> None:
        """Connect. Raises LuigidError if that is not possible."""
        try:
            self.engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
            Base.metadata.create_all(self.engine)
        except ModuleNotFoundError as error:
            raise LuigidError(
                f"[task_history] db_connection needs the package {error.name}, which is not installed; "
                "for PostgreSQL: pip install 'imagetl_luigi[postgresql]'"
            ) from None
        except (sqlalchemy.exc.ArgumentError, ValueError):  # whose text can hold a part of a password
            raise LuigidError(
                "[task_history] db_connection is no address of a database. Allowed: "
                "postgresql+psycopg://user@host:port/database, sqlite:////path/of/history.db and others of SQLAlchemy's"
            ) from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            place = sqlalchemy.make_url(url).render_as_string(hide_password=True)
            raise LuigidError(
                f"the task history cannot be kept in {place}: {_reason(error)}; "
                "look at [task_history] db_connection and at the database"
            ) from None
        self.session_factory = sessionmaker(bind=self.engine, expire_on_commit=False)
        self._events: queue.Queue[tuple[StoredTask, TaskEvent] | None] = queue.Queue(MOST_WAITING)
        self._all_written = threading.Event()
        self._all_written.set()
        self._failing = False
        self._writer = threading.Thread(target=self._write_all, name="task history", daemon=True)
        self._writer.start()

    def task_scheduled(self, task: Task) -> None:
        """It waits for its turn."""
        self._put(task, PENDING)

    def task_started(self, task: Task, worker_host: str | None) -> None:
        """It runs."""
        self._put(task, RUNNING, worker_host)

    def task_finished(self, task: Task, successful: bool) -> None:
        """It has ended."""
        self._put(task, DONE if successful else FAILED)

    def close(self) -> None:
        """Write what waits, as far as the database takes it within PATIENCE seconds."""
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=PATIENCE)
            self._writer.join(PATIENCE)
        if not self._writer.is_alive():
            self.engine.dispose()

    def _put(self, task: Task, status: str, host: str | None = None) -> None:
        event = TaskEvent(event_name=status, ts=datetime.datetime.now())
        prompt = self._all_written.is_set()
        self._all_written.clear()
        try:
            self._events.put_nowait((StoredTask(task, status, host), event))
        except queue.Full:
            self._warn("the database does not answer")
        if prompt:
            self._all_written.wait(GRACE)

    def _write_all(self) -> None:
        while (waiting := self._events.get()) is not None:
            try:
                self._write(*waiting)
                self._failing = False
            except Exception as error:  # whatever it is, the next one may do better
                self._warn(_reason(error))
            if self._events.empty():
                self._all_written.set()

    def _write(self, stored: StoredTask, event: TaskEvent) -> None:
        """Add the event to the last record of its task, or to a new one."""
        with self._session() as session:
            known = session.query(TaskRecord.id).filter(TaskRecord.task_id == stored._task.id)
            stored.record_id = known.order_by(TaskRecord.id.desc()).limit(1).scalar()
        self._add_task_event(stored, event)

    def _warn(self, reason: str) -> None:
        """Once, until something was written again."""
        if not self._failing:
            logger.warning("The history of tasks has a gap from here on: %s", reason)
        self._failing = True


def _reason(error: Exception) -> str:
    """What the database says, in one line, without the statement and its parameters."""
    return " ".join(str(getattr(error, "orig", error)).split())
