from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask_tasks
import luigi
import psutil
import pytest
from dask_processes import Dask, process
from dask_tasks import (
    ArriveDenied,
    ArriveLate,
    Exit,
    Fail,
    FailAtLength,
    FailClumsily,
    FailLocked,
    Kill,
    KillNumber,
    KillOnce,
    KillWith,
    Message,
    Note,
    Slow,
    StopNumber,
    Yield,
)
from luigi.event import Event
from pictures import gif
from relay import Relay
from waiting import until
from workflow import command, started, stream

from imagetl_luigi import dask_cluster, storage
from imagetl_luigi.dask_chunk import Failure, WorkerKilled
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.errors import DaskWorkerError
from imagetl_luigi.settings import DaskSettings

MODES = ["threads", "cluster", "remote"]


def settings(scheduler: str, **options: Any) -> DaskSettings:
    defaults = {"threads": 2, "cluster_workers": 2, "dashboard": "127.0.0.1:0", "wait_for_workers": 20.0}
    return DaskSettings(scheduler=scheduler, **{**defaults, **options})


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    with contextlib.ExitStack() as stack:
        yield Dask(stack, tmp_path)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DaskWorker]]:
    """A cluster and a scheduler with two workers, for all tests that do them no harm."""
    folder = tmp_path_factory.mktemp("dask")
    with contextlib.ExitStack() as stack:
        remote = Dask(stack, folder, "--dashboard", "--dashboard-address=127.0.0.1:0")
        for _ in range(2):
            remote.worker("--no-nanny")
        workers = {
            "cluster": stack.enter_context(DaskWorker(settings("cluster", chunk_size=8))),
            "remote": stack.enter_context(DaskWorker(settings(remote.address, chunk_size=8))),
        }
        for worker in workers.values():  # so that Dask has the threads and connections that it keeps
            worker.run((Note(log=str(folder / "log"), number=number) for number in range(50)), 50)
        yield workers


@pytest.fixture
def remote(lasting: dict[str, DaskWorker]) -> str:
    """Address of a scheduler with two workers."""
    return lasting["remote"]._settings.scheduler


@pytest.fixture(params=MODES)
def worker(request: pytest.FixtureRequest, lasting: dict[str, DaskWorker]) -> Iterator[DaskWorker]:
    if request.param == "threads":
        with DaskWorker(settings("threads", chunk_size=8)) as worker:
            yield worker
    else:
        yield lasting[request.param]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def notes(log: str) -> list[tuple[int, str]]:
    """Which task noted what."""
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    return [(int(number), text) for number, text in (line.split(" ", 1) for line in lines)]


def runs(log: str) -> dict[int, int]:
    """How often each task ran."""
    return Counter(number for number, _ in notes(log))


Told = list[tuple[str, int, bool, str]]


@pytest.fixture
def told() -> Iterator[Told]:
    """The events that Luigi fired: which, for which task, whether in the main thread, with which exception."""
    fired: Told = []

    def listen(event: str) -> Callable[..., None]:
        def hear(task: Note, error: BaseException | None = None) -> None:
            here = threading.current_thread() is threading.main_thread()
            fired.append((event.split(".")[-1].lower(), task.number, here, type(error).__name__))

        return hear

    listeners = {event: listen(event) for event in (Event.START, Event.SUCCESS, Event.FAILURE)}
    for event, hear in listeners.items():
        luigi.Task.event_handler(event)(hear)
    yield fired
    for event, hear in listeners.items():
        luigi.Task.remove_event_handler(event, hear)


def test_every_task_runs_once(worker: DaskWorker, log: str) -> None:
    assert worker.run([Note(log=log, number=number) for number in range(100)], 100) == []
    assert runs(log) == dict.fromkeys(range(100), 1)


def test_nothing_to_do_is_done(worker: DaskWorker) -> None:
    assert worker.run(iter(()), 0) == []


def test_a_second_run_of_the_same_tasks_runs_them_again(worker: DaskWorker, log: str) -> None:
    tasks = [Note(log=log, number=number) for number in range(20)]
    worker.run(tasks, 20)
    worker.run(tasks, 20)
    assert runs(log) == dict.fromkeys(range(20), 2)


def test_tasks_are_taken_only_when_there_is_room(worker: DaskWorker, log: str, told: Told) -> None:
    ahead = []

    def endless() -> Iterator[Note]:
        for number in range(1000):
            ahead.append(number - len([event for event in told if event[0] == "success"]))
            yield Note(log=log, number=number)

    worker.run(endless(), 1000)
    assert len(ahead) == 1000
    assert max(ahead) <= 8 * (4 * 2 + 16), "chunks of 8: four for each of two threads, and those that wait remotely"


def test_a_wrong_total_runs_all_the_same(worker: DaskWorker, log: str) -> None:
    worker.run((Note(log=log, number=number) for number in range(30)), 3)
    assert runs(log) == dict.fromkeys(range(30), 1)


@pytest.mark.parametrize(
    ("kind", "exception", "text"),
    [
        (Fail, ValueError, "number 7"),
        (Exit, SystemExit, "3"),
        (Yield, TypeError, "dynamic dependencies"),
    ],
)
def test_a_task_that_fails_fails_alone(
    worker: DaskWorker, log: str, kind: type[Note], exception: type[BaseException], text: str
) -> None:
    tasks = [(kind if number == 7 else Note)(log=log, number=number) for number in range(20)]
    [failure] = worker.run(tasks, 20)
    assert failure.task == tasks[7]
    assert type(failure.exception) is exception
    assert text in str(failure.exception)
    assert "Traceback" in failure.traceback
    assert exception.__name__ in failure.traceback
    assert runs(log) == {number: 1 for number in range(20) if number != 7}


@pytest.mark.parametrize(("kind", "text"), [(FailClumsily, "number 7"), (FailLocked, "Locked")])
def test_an_exception_that_cannot_travel_arrives_as_its_text(
    worker: DaskWorker, log: str, kind: type[Note], text: str
) -> None:
    [failure] = worker.run([Note(log=log, number=1), kind(log=log, number=7)], 2)
    assert text in "".join([repr(failure.exception), failure.traceback])
    assert runs(log) == {1: 1}


def test_each_event_fires_once_for_each_task_in_the_main_thread_here(worker: DaskWorker, log: str, told: Told) -> None:
    worker.run([(Fail if number % 3 == 0 else Note)(log=log, number=number) for number in range(30)], 30)
    expected = [("start", number, True, "NoneType") for number in range(30)]
    expected += [("failure", number, True, "ValueError") for number in range(0, 30, 3)]
    expected += [("success", number, True, "NoneType") for number in range(30) if number % 3]
    assert Counter(told) == Counter(expected)


def test_an_iterable_that_breaks_off_ends_the_run_and_not_the_worker(worker: DaskWorker, log: str) -> None:
    def broken() -> Iterator[Note]:
        yield from (Note(log=log, number=number) for number in range(40))
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        worker.run(broken(), 100)
    until(lambda: worker.run([Note(log=log, number=99)], 1) == [])
    assert runs(log)[99] == 1


@pytest.mark.parametrize("mode", ["cluster", "remote"])
def test_many_tasks_go_in_one_message_under_a_name_of_its_own(
    mode: str, lasting: dict[str, DaskWorker], log: str
) -> None:
    tasks = [Message(log=log, number=number) for number in range(160)]
    for _ in range(2):
        lasting[mode].run(tasks, 160)
    messages = Counter(key for _, key in notes(log))
    assert set(messages.values()) == {8}
    assert len(messages) == 2 * 160 / 8


@pytest.mark.parametrize("mode", ["cluster", "remote"])
def test_a_task_that_cannot_be_pickled_is_named(mode: str, lasting: dict[str, DaskWorker], log: str) -> None:
    with pytest.raises(DaskWorkerError, match=r"Unpicklable\(.*cannot be pickled: it holds a socket"):
        lasting[mode].run([dask_tasks.Unpicklable(log=log, number=1)], 1)


def test_a_failure_of_a_class_unknown_here_arrives_as_its_text() -> None:
    from imagetl_luigi.dask_cluster import _unpack

    elsewhere = pickle.dumps(ValueError("lost")).replace(b"ValueError", b"ValueTerror")
    assert repr(_unpack(elsewhere, "ValueTerror: lost")) == "RuntimeError('ValueTerror: lost')"


def test_a_cluster_listens_on_this_machine_only(lasting: dict[str, DaskWorker]) -> None:
    this = psutil.Process()
    listening = [
        connection.laddr.ip
        for member in [this, *this.children(recursive=True)]
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}


def test_the_dashboard_is_served_where_the_tracking_url_points(lasting: dict[str, DaskWorker]) -> None:
    address = lasting["cluster"].dashboard
    assert address
    with urllib.request.urlopen(address, timeout=30) as page:
        assert page.status == 200


class Reporter:
    """What a Luigi worker gives to the task that it runs."""

    def __init__(self, task: luigi.Task) -> None:
        self.urls: list[str] = []
        self.percentages: list[int] = []
        self.messages: list[str] = []
        task.set_tracking_url = self.urls.append
        task.set_progress_percentage = self.percentages.append
        task.set_status_message = self.messages.append


@pytest.mark.parametrize("mode", ["threads", "remote"])
def test_progress_reaches_the_reporting_task(mode: str, remote: str, log: str) -> None:
    task = Note(log=log, number=-1)
    reporter = Reporter(task)
    address = remote if mode == "remote" else mode
    with DaskWorker(settings(address), report_to=task) as worker:
        worker.run((Note(log=log, number=number) for number in range(100)), 100)
    assert reporter.percentages[-1] == 100
    assert reporter.messages[-1] == "100 of 100 tasks"
    assert len(reporter.messages) < 100
    assert reporter.urls == ([worker.dashboard] if mode == "remote" else [])
    assert bool(worker.dashboard) == (mode == "remote")


def test_a_thread_that_is_not_the_main_one_may_use_it(log: str) -> None:
    failures: list[list[Failure]] = []

    def use() -> None:
        with DaskWorker(settings("threads")) as worker:
            failures.append(worker.run([Note(log=log, number=1)], 1))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert failures == [[]]
    assert runs(log) == {1: 1}


def test_two_at_a_time_do_not_mix(remote: str, tmp_path: Path) -> None:
    logs = [str(tmp_path / name) for name in ("one", "other")]

    def use(log: str) -> None:
        with DaskWorker(settings(remote)) as worker:
            worker.run([Note(log=log, number=number) for number in range(50)], 50)

    threads = [threading.Thread(target=use, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [runs(log) for log in logs] == 2 * [dict.fromkeys(range(50), 1)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_handler_of_a_signal_is_given_back(number: signal.Signals) -> None:
    mine = signal.signal(number, signal.default_int_handler)
    try:
        with DaskWorker(settings("threads")):
            assert signal.getsignal(number) is not signal.default_int_handler
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, mine)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_not_lost_that_comes_while_an_object_is_deleted(
    number: signal.Signals, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def tasks() -> Iterator[Note]:
        Unlucky()
        yield from (Note(log=log, number=number) for number in range(5000))

    mine = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with DaskWorker(settings("threads")) as worker:
            with pytest.raises(KeyboardInterrupt):
                worker.run(tasks(), 5000)
            assert len(notes(log)) < 5000
            assert worker.run([Note(log=log, number=9999)], 1) == [], "it was told once"
    finally:
        signal.signal(signal.SIGINT, mine)


def test_sigterm_stops_like_ctrl_c(log: str) -> None:
    with pytest.raises(KeyboardInterrupt), DaskWorker(settings("threads")) as worker:
        worker.run([KillWith(log=log, number=signal.SIGTERM), *(Note(log=log, number=n) for n in range(5000))], 5001)
    assert sum(runs(log).values()) < 5000


def test_threads_do_without_distributed(log: str) -> None:
    script = """
import sys, luigi
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.settings import DaskSettings
class Nothing(luigi.Task):
    def run(self): pass
with DaskWorker(DaskSettings()) as worker:
    assert worker.run([Nothing()], 1) == []
sys.exit("distributed" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "tcp://no.such.host.invalid:8786",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:x",
        "foo://bar:1",
        ":",
    ],
)
def test_an_address_without_a_scheduler_is_an_error(address: str) -> None:
    with pytest.raises(DaskWorkerError, match=r"no Dask scheduler answers at .*`dask scheduler`") as error:
        DaskWorker(settings(address, wait_for_workers=0.3)).__enter__()
    assert address in str(error.value)


def test_a_server_that_says_nothing_is_no_scheduler() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(DaskWorkerError, match=f"no Dask scheduler answers at {address}"):
            DaskWorker(settings(address, wait_for_workers=0.3)).__enter__()


@pytest.mark.slow
def test_a_scheduler_without_workers_is_an_error(dask: Dask) -> None:
    with pytest.raises(DaskWorkerError, match=rf"{dask.address} has had no worker for 0.3 s; .*dask worker"):
        DaskWorker(settings(dask.address, wait_for_workers=0.3)).__enter__()


@pytest.mark.slow
def test_a_worker_that_lacks_the_tasks_is_an_error(dask: Dask, log: str) -> None:
    dask.worker("--no-nanny", path="")
    with DaskWorker(settings(dask.address)) as worker, pytest.raises(DaskWorkerError) as error:
        worker.run([Note(log=log, number=1)], 1)
    assert "No module named 'dask_tasks'" in str(error.value)
    assert "install the package of dask_tasks there" in str(error.value)


@pytest.mark.parametrize("kind", [ArriveDenied, ArriveLate])
def test_a_task_that_cannot_be_unpacked_there_is_not_taken_for_a_lost_connection(
    kind: type[Note], remote: str, log: str
) -> None:
    with (
        DaskWorker(settings(remote)) as worker,
        pytest.raises(
            DaskWorkerError, match=r"cannot take Arrive.*: of the package .*; install the package of dask_tasks"
        ),
    ):
        worker.run([kind(log=log, number=1)], 1)


@pytest.mark.slow
def test_failures_that_take_long_to_arrive_do_arrive(remote: str, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "POLL", 0.01)
    with (
        Relay(remote.removeprefix("tcp://"), most=4_000_000) as slow,
        DaskWorker(settings(f"tcp://{slow.address}")) as worker,
    ):
        failures = worker.run([FailAtLength(log=log, number=number) for number in range(20)], 20)
    assert [len(str(failure.exception)) for failure in failures] == [100_000] * 20
    assert all(len(failure.traceback) <= dask_cluster.LONGEST for failure in failures)


@pytest.mark.slow
def test_a_scheduler_that_falls_silent_is_an_error(dask: Dask, log: str) -> None:
    dask.worker("--no-nanny")
    until(lambda: "Registered to:" in dask.log.read_text())
    tasks = [StopNumber(log=log, number=dask.scheduler.pid), *(Slow(log=log, number=number) for number in range(500))]
    with (
        DaskWorker(settings(dask.address, chunk_size=1, wait_for_workers=2.0)) as worker,
        pytest.raises(DaskWorkerError, match="is gone"),
    ):
        worker.run(tasks, 501)


@pytest.mark.slow
def test_workers_that_die_of_anything_are_an_error(dask: Dask) -> None:
    die = "import distributed, os; distributed.Worker.execute = lambda *_, **__: os._exit(1)"
    for _ in range(5):
        dask.worker("--no-nanny", f"--preload={die}")
    with pytest.raises(DaskWorkerError, match="die as soon as they are given work; look at their logs"):
        DaskWorker(settings(dask.address)).__enter__()


@pytest.mark.slow
def test_the_tasks_of_a_worker_that_died_run_elsewhere(dask: Dask, log: str) -> None:
    for _ in range(2):
        dask.worker("--no-nanny")
    tasks = [(KillOnce if number == 7 else Note)(log=log, number=number) for number in range(100)]
    with DaskWorker(settings(dask.address)) as worker:
        assert worker.run(tasks, 100) == []
    assert set(runs(log)) == set(range(100))


@pytest.mark.slow
def test_when_all_workers_are_gone_the_address_and_the_remedy_are_named(dask: Dask, log: str) -> None:
    dask.worker("--no-nanny")
    with DaskWorker(settings(dask.address, wait_for_workers=5.0)) as worker, pytest.raises(DaskWorkerError) as error:
        worker.run([Kill(log=log, number=1)], 1)
    assert not isinstance(error.value, WorkerKilled)
    assert f"no worker for 5 s; start some with `dask worker {dask.address}`" in str(error.value)


@pytest.mark.slow
def test_when_the_scheduler_is_gone_the_run_ends(dask: Dask, log: str) -> None:
    dask.worker("--no-nanny")
    tasks = [*(Note(log=log, number=number) for number in range(5)), KillNumber(log=log, number=dask.scheduler.pid)]
    with DaskWorker(settings(dask.address, chunk_size=1)) as worker, pytest.raises(DaskWorkerError, match="is gone"):
        worker.run(tasks, 6)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "deadly"), [("cluster", [17]), ("cluster", [3, 4, 150]), ("remote", [17])])
def test_only_a_task_that_kills_its_workers_is_blamed(
    mode: str, deadly: list[int], tmp_path: Path, log: str, told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [(Kill if number in deadly else Note)(log=log, number=number) for number in range(200)]
    with contextlib.ExitStack() as stack:
        address = mode
        if mode == "remote":
            dask = Dask(stack, tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
            address = dask.address
            for _ in range(4):
                dask.worker("--no-nanny")
        worker = stack.enter_context(DaskWorker(settings(address)))
        failures = worker.run(tasks, 200)
    assert sorted(failure.task.number for failure in failures) == deadly
    assert {type(failure.exception) for failure in failures} == {WorkerKilled}
    assert set(runs(log)) == set(range(200))
    assert Counter(event for event, *_ in told) == {
        "start": 200,
        "failure": len(deadly),
        "success": 200 - len(deadly),
    }
    assert len(capfd.readouterr().err.splitlines()) <= 2, "Dask does not flood the terminal"


@pytest.mark.slow
def test_without_bokeh_there_is_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with DaskWorker(settings("cluster", cluster_workers=1)) as worker:
        assert worker.dashboard is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_a_dashboard_whose_port_is_taken_gets_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with DaskWorker(settings("cluster", cluster_workers=1, dashboard=address)) as worker:
            assert worker.dashboard
            assert address not in worker.dashboard
            with urllib.request.urlopen(worker.dashboard, timeout=30) as page:
                assert page.status == 200


@pytest.mark.slow
def test_a_cluster_that_cannot_start_is_an_error() -> None:
    script = """
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.settings import DaskSettings
DaskWorker(DaskSettings(scheduler="cluster", dashboard="127.0.0.1:x")).__enter__()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "DaskWorkerError: no Dask cluster can be started here: " in ended.stderr


def luigi_command(scheduler: str, log: str, *options: str) -> list[str]:
    return [
        "luigi",
        "--module=dask_tasks",
        "Batch",
        "--local-scheduler",
        f"--place={scheduler}",
        f"--Batch-log={log}",
        *options,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_luigi_forked_may_use_it(mode: str, remote: str, log: str) -> None:
    address = remote if mode == "remote" else mode
    with process(*luigi_command(address, log, "--workers=2", "--no-lock")) as driver:
        assert driver.wait() == 0
    assert runs(log) == dict.fromkeys(range(50), 1)
    assert Path(f"{log}.done").read_text() == "0 failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "send"), [("threads", "SIGINT"), *((mode, send) for mode in MODES for send in ("SIGTERM", "Ctrl-C"))]
)
def test_a_signal_ends_the_driver_and_all_that_it_started(mode: str, send: str, remote: str, log: str) -> None:
    address = remote if mode == "remote" else mode
    command = luigi_command(address, log, "--kind=Slow", "--count=5000", "--no-lock")
    with process(*command, start_new_session=True, stderr=subprocess.PIPE) as driver:
        until(lambda: notes(log))
        family = psutil.Process(driver.pid).children(recursive=True)
        if send == "Ctrl-C":  # the terminal sends it to the whole group
            os.killpg(driver.pid, signal.SIGINT)
        else:
            driver.send_signal(getattr(signal, send))
        _, errors = driver.communicate()
    assert driver.returncode != 0
    assert errors.count(b"Traceback") <= 2, errors.decode()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert len(notes(log)) < 5000


@pytest.mark.slow
def test_a_signal_while_a_store_is_written_to_ends_the_driver_and_the_next_run_completes(
    s3: str, tmp_path: Path
) -> None:
    (tmp_path / "a.img").write_bytes(stream([gif(seed=seed) for seed in range(1500)]))
    store = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    arguments = ("CombineGif", "--local-scheduler", "--url", "a.img", "--workspace", s3, "--dask-at-once", "4")
    with started(*arguments, folder=tmp_path, **store) as driver:
        until(lambda: len(storage.sizes(f"{s3}/frames")) > 10)
        driver.terminate()
        _, errors = driver.communicate()
    assert driver.returncode != 0
    assert errors.count("Traceback") <= 2, errors
    written = storage.sizes(f"{s3}/frames")
    assert len(written) < 1500
    assert command(*arguments, folder=tmp_path, **store).returncode == 0
    assert len(storage.sizes(f"{s3}/frames")) == 1501, "each frame and the mark, and nothing that was left half-way"
