"""luigid_history: the history of tasks in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import requests
from conftest import missing
from luigi.scheduler import Task
from luigid import OurLuigid, free_port, hasty
from sqlalchemy import text
from waiting import until

from imagetl_luigi import luigid_history
from imagetl_luigi.luigid_history import TaskHistory

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.Base20DeprecationWarning")  # Luigi's


class PostgreSQL:
    """A cluster of its own in `folder`, on a port of 127.0.0.1: PostgreSQL refuses to be root's."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.port = free_port()
        self.address = f"postgresql+psycopg://{self._user}@127.0.0.1:{self.port}/postgres"
        folder.mkdir()
        if os.getuid() == 0:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale")

    def _run(self, program: str, *arguments: str) -> None:
        as_user = {"user": self._user} if os.getuid() == 0 else {}
        command = [self._programs / program, "--pgdata", self._folder / "data", *arguments]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **as_user)

    def control(self, verb: str) -> None:
        """start, restart or stop it, at once."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off"
        given = [] if verb == "stop" else ["--options", options, "--log", str(self._folder / "log")]
        self._run("pg_ctl", verb, "--wait", *([] if verb == "start" else ["--mode=fast"]), *given)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What it answers."""
        address = self.address.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            return connection.execute(query).fetchall()


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Let other users reach the folder: pytest's are root's alone."""
    closed = [folder for folder in (path, *path.parents) if not folder.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in closed}
    for folder in closed:
        folder.chmod(modes[folder] | 0o011)
    yield path
    for folder in closed:
        folder.chmod(modes[folder])


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[PostgreSQL]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        missing("PostgreSQL is not installed")
    with opened(tmp_path):
        cluster = PostgreSQL(tmp_path / "postgresql", programs[-1])
        cluster.control("start")
        yield cluster
        cluster.control("stop")


@pytest.mark.slow
def test_one_setting_keeps_it_in_postgresql_and_it_goes_on_when_that_was_restarted(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    config = hasty(tmp_path / "luigi.cfg")
    with config.open("a") as file:
        file.write(f"[task_history]\ndb_connection = {postgresql.address}\n")
    query = (
        "select tasks.name, event_name, p.value from tasks join task_events e on e.task_id = tasks.id "
        "join task_parameters p on p.task_id = tasks.id order by e.id"
    )
    with OurLuigid(tmp_path, config) as luigid:
        task = {"worker": "w", "task_id": "Night_1", "family": "Night", "params": {"of": "é 日 " + 300 * "x"}}
        luigid.ask("add_task", **task)
        luigid.ask("get_work", worker="w", host="h", current_tasks=[])
        until(lambda: len(postgresql.rows(query)) == 2)
        postgresql.control("restart")
        with psycopg.connect(postgresql.address.replace("+psycopg", "")) as busy:
            busy.execute("lock table tasks in access exclusive mode")
            luigid.ask("add_task", **task, status="DONE")  # is answered though the database is not
        until(lambda: len(postgresql.rows(query)) == 3)
        assert postgresql.rows(query) == [
            ("Night", event, task["params"]["of"]) for event in ("PENDING", "RUNNING", "DONE")
        ]
        assert ">Night</a>" in requests.get(luigid.url("history"), timeout=10).text
    assert not (tmp_path / "luigid/history.db").exists()


@pytest.fixture
def history(tmp_path: Path) -> Callable[[], TaskHistory]:
    return lambda: TaskHistory(f"sqlite:///{tmp_path / 'history.db'}")


def events(history: TaskHistory) -> list[str]:
    """Those of the one task in it, the first one first; the history is closed."""
    (record,) = history.find_all_runs()
    with history._session() as session:
        found = [event.event_name for event in history.find_task_by_id(record.id, session).events]
        assert session.execute(text("pragma integrity_check")).scalar() == "ok"
    history.close()
    return found[::-1]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those that were logged; Luigi logs more where a test before this one had it do so."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


TASK = Task("a", "PENDING", [], family="A", params={"x": "1"})


def test_after_a_restart_a_task_has_one_record_and_all_its_events(history: Callable[[], TaskHistory]) -> None:
    for _ in range(2):  # a luigid, and the next
        kept = history()
        kept.task_scheduled(TASK)
        kept.task_started(TASK, "host")
        kept.task_finished(TASK, successful=False)
        kept.close()
    assert events(history()) == 2 * ["PENDING", "RUNNING", "FAILED"]


def test_a_database_that_hangs_holds_up_nothing_and_what_it_misses_is_said_once(
    history: Callable[[], TaskHistory],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(luigid_history, "MOST_WAITING", 2)
    monkeypatch.setattr(luigid_history, "PATIENCE", 0.1)
    kept = history()
    with closing(sqlite3.connect(tmp_path / "history.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        kept.task_scheduled(TASK)
        until(kept._events.empty)  # it is being written
        kept.task_started(TASK, "host")
        for _ in range(3):
            kept.task_finished(TASK, successful=True)
        kept.close()
    assert warnings(caplog) == ["The history of tasks has a gap from here on: the database does not answer"]
    until(kept._events.empty)
    kept.close()
    assert events(history()) == ["PENDING", "RUNNING", "DONE"]


def test_an_error_of_the_database_is_one_line_and_leaves_one_record(
    history: Callable[[], TaskHistory], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = history()
    with closing(sqlite3.connect(tmp_path / "history.db")) as other:
        kept.task_scheduled(TASK)
        until(lambda: other.execute("select * from task_events").fetchall())
        other.execute("alter table task_events rename to elsewhere")
        kept.task_started(TASK, "host")
        kept.task_started(TASK, "host")
        kept.close()
        other.execute("alter table elsewhere rename to task_events")
    kept = history()
    kept.task_finished(TASK, successful=True)
    kept.close()
    assert warnings(caplog) == ["The history of tasks has a gap from here on: no such table: task_events"]
    assert events(history()) == ["PENDING", "DONE"]
