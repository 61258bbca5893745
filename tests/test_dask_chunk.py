"""dask_chunk: what one message to Dask does where it arrives; and into which messages DaskWorker cuts the tasks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar

import luigi
import pytest
from dask_tasks import Exit, Fail, Note, Yield
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi.dask_chunk import Chunk, run_chunk
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.settings import DaskSettings

AT_ONCE = pytest.mark.parametrize("at_once", [1, 2, 16, 300])


class Counted(luigi.Task):
    """Counts what was done to it."""

    number = luigi.IntParameter()
    prepared: ClassVar[list[list[int]]]
    ran: ClassVar[list[int]]

    @staticmethod
    def prepare(tasks: list[Counted]) -> None:
        tasks[0].prepared.append([task.number for task in tasks])

    def run(self) -> None:
        self.ran.append(self.number)


class OtherCounted(Counted):
    """Of another class, and so prepared by itself."""


class Unprepared(Counted):
    """Cannot be prepared."""

    error: ClassVar[type[BaseException]] = LookupError

    @staticmethod
    def prepare(tasks: list[Unprepared]) -> None:
        raise tasks[0].error(f"no room for {len(tasks)}")


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    Counted.prepared, Counted.ran = [], []


@given(at_once=st.sampled_from([1, 2, 16, 300]), kinds=st.lists(st.sampled_from([Note, Fail, Exit, Yield]), min_size=1))
def test_each_failure_has_the_position_of_its_task(
    at_once: int, kinds: list[type[Note]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("chunk") / "log"
    chunk: Chunk = [kind(log=str(log), number=number) for number, kind in enumerate(kinds)]
    failures = run_chunk(chunk, at_once)
    expected = {Fail: ValueError, Exit: SystemExit, Yield: TypeError}
    assert {number: type(failure.exception) for number, failure in failures.items()} == {
        number: expected[kind] for number, kind in enumerate(kinds) if kind is not Note
    }
    assert all(failure.task is chunk[number] for number, failure in failures.items())
    ran = sorted(int(line.split()[0]) for line in log.read_text().splitlines()) if log.exists() else []
    assert ran == [number for number, kind in enumerate(kinds) if kind is Note]


class Meeting(luigi.Task):
    """Ends when so many of them run at a time."""

    number = luigi.IntParameter()
    barrier: ClassVar[threading.Barrier]

    def run(self) -> None:
        self.barrier.wait(60)


@pytest.mark.parametrize(("at_once", "tasks", "together"), [(5, 20, 5), (16, 4, 4)])
def test_as_many_tasks_run_at_a_time_as_are_asked_for(at_once: int, tasks: int, together: int) -> None:
    Meeting.barrier = threading.Barrier(together)
    assert run_chunk([Meeting(number=number) for number in range(tasks)], at_once) == {}


@AT_ONCE
def test_tasks_are_prepared_once_a_chunk_each_class_by_itself(at_once: int) -> None:
    chunk: Chunk = [(OtherCounted if number % 3 else Counted)(number=number) for number in range(7)]
    assert run_chunk(chunk, at_once) == {}
    assert Counted.prepared == [[0, 3, 6], [1, 2, 4, 5]]
    assert sorted(Counted.ran) == list(range(7))


@AT_ONCE
@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_tasks_that_cannot_be_prepared_fail_and_others_do_not(at_once: int, error: type[BaseException]) -> None:
    Unprepared.error = error
    chunk: Chunk = [(Unprepared if number % 2 else Counted)(number=number) for number in range(6)]
    failures = run_chunk(chunk, at_once)
    assert {number: type(failure.exception) for number, failure in failures.items()} == dict.fromkeys((1, 3, 5), error)
    assert "no room for 3" in failures[1].traceback
    assert sorted(Counted.ran) == [0, 2, 4]


class Stop(Counted):
    """Asks the others to stop."""

    event: ClassVar[threading.Event]

    def run(self) -> None:
        super().run()
        self.event.set()


@AT_ONCE
def test_what_has_not_begun_when_it_is_to_stop_does_not_run(at_once: int) -> None:
    Stop.event = threading.Event()
    chunk: Chunk = [Stop(number=number) for number in range(200)]
    assert run_chunk(chunk, at_once, Stop.event) == {}
    assert 1 <= len(Counted.ran) <= at_once


@given(
    total=st.integers(1, 3000),
    threads=st.integers(1, 64),
    chunk_size=st.integers(1, 512),
    at_once=st.sampled_from([0, 1, 16, 100]),
)
def test_chunks_are_bounded_and_leave_work_for_every_thread(
    total: int, threads: int, chunk_size: int, at_once: int
) -> None:
    task = Counted(number=0)
    with DaskWorker(DaskSettings(threads=threads, chunk_size=chunk_size, at_once=at_once)) as worker:
        sizes = [len(chunk) for chunk in worker._started([task] * total, total)]
    assert sum(sizes) == total
    assert max(sizes) <= chunk_size
    assert len(set(sizes[:-1])) <= 1, "all but the last are alike"
    assert len(sizes) >= min(threads, total) / 2, "at least every other thread has something to do"
    if total >= 4 * threads * max(at_once, 1):
        assert len(sizes) >= 4 * threads, "enough that all end at about the same time"
        assert sizes[0] >= min(at_once, chunk_size), "enough to run as many at a time as may be"


def test_tasks_of_a_chunk_run_in_order_and_in_the_thread_that_called() -> None:
    class Thread(Counted):
        def run(self) -> None:
            super().run()
            assert threading.current_thread() is threading.main_thread()

    assert run_chunk([Thread(number=number) for number in range(20)]) == {}
    assert Counted.ran == list(range(20))


def test_a_long_chunk_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    chunk: Chunk = [(Fail if number % 2 else Note)(log=str(tmp_path / "log"), number=number) for number in range(300)]
    assert len(run_chunk(chunk, 16)) == 150
    assert set(threading.enumerate()) == before
