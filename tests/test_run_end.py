"""run_end: functions that are called when a run is over."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest
from luigi.execution_summary import LuigiStatusCode
from luigi.rpc import RemoteScheduler, RPCError
from workflow import CONFIG, LUIGI, build

from imagetl_luigi import run_end
from imagetl_luigi.run_end import Run


class Written(luigi.Task):
    """A task that is done once it ran, or does what its name says."""

    name = luigi.Parameter()
    folder = luigi.Parameter()
    needs = luigi.ListParameter(default=())
    retry_count = 1

    def requires(self) -> list[luigi.Task]:
        if self.name == "does not know what it needs":
            raise ValueError("needs what?")
        return [Written(name=name, folder=self.folder) for name in self.needs]

    def complete(self) -> bool:
        if self.name == "cannot be looked at":
            raise ValueError("not readable")
        return (Path(self.folder) / self.name).exists()

    def run(self) -> Iterator[luigi.Task] | None:
        match self.name:
            case "fails":
                raise ValueError("bad")
            case "stopped":
                raise KeyboardInterrupt
            case "builds":
                build(Written(name="inner", folder=self.folder))
            case "dies":
                os._exit(3)
        (Path(self.folder) / self.name).touch()
        return None


class Yields(Written):
    """A task that finds out what it needs while it runs."""

    def run(self) -> Iterator[luigi.Task]:
        yield Written(name="fails", folder=self.folder)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Those that ended, as they were told to a function."""
    told: list[Run] = []
    monkeypatch.setattr(run_end, "_functions", [])
    run_end.call(told.append)
    return told


@pytest.mark.parametrize("workers", [1, 3])
def test_a_function_is_called_once_a_run_and_in_this_process(runs: list[Run], tmp_path: Path, workers: int) -> None:
    task = Written(name="a", folder=str(tmp_path), needs=["b", "c"])
    assert build(task, workers=workers).scheduling_succeeded
    (run,) = runs
    assert run.tasks == [task]
    assert run.worker is not None
    assert 0 < run.seconds < 60
    assert (run.error, run.failures) == (None, {})
    assert run.needs[task.task_id] == [Written(name=name, folder=str(tmp_path)).task_id for name in "bc"]


@pytest.mark.parametrize(
    ("name", "workers", "text"),
    [
        ("fails", 1, "ValueError: bad\n"),
        ("fails", 2, "ValueError: bad\n"),
        ("dies", 2, "died unexpectedly with exit code 3"),
        ("cannot be looked at", 1, "ValueError: not readable\n"),
        ("does not know what it needs", 1, "ValueError: needs what?\n"),
    ],
)
def test_it_knows_why_a_task_failed(runs: list[Run], tmp_path: Path, name: str, workers: int, text: str) -> None:
    tasks = [Written(name=which, folder=str(tmp_path)) for which in (name, "well")]
    luigi.build(tasks, local_scheduler=True, workers=workers)
    assert runs[0].failures.keys() == {tasks[0].task_id}
    assert runs[0].failures[tasks[0].task_id].endswith(text)


def test_what_a_task_yields_is_among_what_it_needs(runs: list[Run], tmp_path: Path) -> None:
    task = Yields(name="a", folder=str(tmp_path))
    build(task)
    failed = Written(name="fails", folder=str(tmp_path)).task_id
    assert runs[0].needs[task.task_id] == [failed]
    assert runs[0].failures.keys() == {failed}


def test_a_task_that_succeeds_in_a_retry_is_no_failure(runs: list[Run], tmp_path: Path) -> None:
    class Second(Written):
        """Fails at the first time."""

        retry_count = 3

        def run(self) -> None:
            if not (tmp_path / "tried").exists():
                (tmp_path / "tried").touch()
                raise ValueError("not yet")
            super().run()

    def patient(**named: object) -> luigi.worker.Worker:
        return luigi.worker.Worker(**named, keep_alive=True, wait_interval=0.01, wait_jitter=0)

    factory = luigi.interface._WorkerSchedulerFactory()
    factory.create_worker = patient
    factory.create_local_scheduler = lambda: luigi.scheduler.Scheduler(prune_on_get_work=True, retry_delay=0)
    result = build(Second(name="a", folder=str(tmp_path)), worker_scheduler_factory=factory)
    assert result.status == LuigiStatusCode.SUCCESS_WITH_RETRY
    assert runs[0].failures == {}


def test_a_run_that_is_stopped_ends_too(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(Written(name="stopped", folder=str(tmp_path)))
    assert isinstance(runs[0].error, KeyboardInterrupt)
    assert runs[0].worker is not None


def test_a_build_in_a_task_is_a_part_of_the_run(runs: list[Run], tmp_path: Path) -> None:
    build(Written(name="builds", folder=str(tmp_path)))
    assert (tmp_path / "inner").exists()
    assert [[task.name for task in run.tasks] for run in runs] == [["builds"]]


def test_a_run_without_its_luigid_ends_too(runs: list[Run], tmp_path: Path) -> None:
    class Impatient(luigi.interface._WorkerSchedulerFactory):
        def create_remote_scheduler(self, url: str) -> RemoteScheduler:
            scheduler = super().create_remote_scheduler(url)
            scheduler._rpc_retry_attempts = 1
            return scheduler

    with pytest.raises(RPCError):
        luigi.build([Written(name="a", folder=str(tmp_path))], Impatient(), scheduler_port=9)
    assert isinstance(runs[0].error, RPCError)


def test_what_a_function_raises_is_a_warning_and_the_next_is_called(
    runs: list[Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run: Run) -> None:
        raise ValueError("no")

    run_end._functions.insert(0, broken)
    assert build(Written(name="a", folder=str(tmp_path))).scheduling_succeeded
    assert "at the end of the run, broken failed: ValueError: no" in caplog.messages
    assert len(runs) == 1


def test_ctrl_c_in_a_function_does_not_keep_the_next_from_being_called(runs: list[Run], tmp_path: Path) -> None:
    def slow(run: Run) -> None:
        raise KeyboardInterrupt

    run_end._functions.insert(0, slow)
    with pytest.raises(KeyboardInterrupt):
        build(Written(name="a", folder=str(tmp_path)))
    assert len(runs) == 1


def test_registered_twice_it_is_called_once(runs: list[Run], tmp_path: Path) -> None:
    run_end.call(runs.append)
    run_end.call(run_end._functions[0])
    build(Written(name="a", folder=str(tmp_path)))
    assert len(runs) == 1


def test_a_spawned_process_gets_the_scheduler_itself() -> None:
    heard = run_end._Scheduler(RemoteScheduler("http://127.0.0.1:9"), Run([]))
    assert type(pickle.loads(pickle.dumps(heard))) is RemoteScheduler
    nobody = pickle.loads(pickle.dumps(run_end._Scheduler(luigi.scheduler.Scheduler(batch_emails=True), Run([]))))
    assert nobody.set_task_status_message("task", "message") is None


PLAIN = """
import os
from test_run_end import Written
from imagetl_luigi import run_end
run_end.call(lambda run: print(os.getpid(), run.tasks, run.error))
"""


def test_it_works_for_the_plain_command_with_several_workers(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    arguments = ["--module", "plain", "Written", "--local-scheduler", "--workers", "3", "--name", "fails"]
    with subprocess.Popen(
        [LUIGI, *arguments, "--folder", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "LUIGI_CONFIG_PATH": str(CONFIG)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        said = process.stdout.read()
    assert process.returncode == 30
    assert said.startswith(f"{process.pid} [Written(name=fails,")
    assert said.count("\n") == 1
