"""Luigi's history of tasks in a database, which goes on where it was after a restart of luigid or of the database."""

from __future__ import annotations

import sqlalchemy
from luigi.db_task_history import Base, DbTaskHistory, TaskRecord
from luigi.scheduler import Task
from luigi.task_history import StoredTask
from sqlalchemy.orm import sessionmaker

from imagetl_luigi.errors import LuigidError


class TaskHistory(DbTaskHistory):
    """The history in the database at a URL of SQLAlchemy's. Its tables are made if they are not there.

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
        except sqlalchemy.exc.ArgumentError as error:
            raise LuigidError(
                f"[task_history] db_connection is no address of a database ({error}). Allowed: "
                "postgresql+psycopg://user@host/database, sqlite:////path/of/history.db and others of SQLAlchemy's"
            ) from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            place = sqlalchemy.make_url(url).render_as_string(hide_password=True)
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise LuigidError(
                f"the task history cannot be kept in {place}: {reason}; "
                "look at [task_history] db_connection and at the database"
            ) from None
        self.session_factory = sessionmaker(bind=self.engine, expire_on_commit=False)
        self.tasks: dict[str, StoredTask] = {}

    def _get_task(self, task: Task, status: str, host: str | None = None) -> StoredTask:
        """Luigi's record of the task; of one that this process has not seen, the last one in the database."""
        new = task.id not in self.tasks
        stored: StoredTask = super()._get_task(task, status, host)
        if new:
            with self._session() as session:
                known = session.query(TaskRecord.id).filter(TaskRecord.task_id == task.id)
                stored.record_id = known.order_by(TaskRecord.id.desc()).limit(1).scalar()
        return stored
