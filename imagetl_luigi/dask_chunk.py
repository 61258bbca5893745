"""What Dask runs: a chunk of Luigi tasks, one after the other or some at a time, and what comes of it."""

from __future__ import annotations

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import luigi

from imagetl_luigi.errors import DaskWorkerError

Chunk = list[luigi.Task]


class WorkerKilled(DaskWorkerError):
    """Every Dask worker that ran this task died of it."""


@dataclass(frozen=True)
class Failure:
    """A task that failed: its exception, and the traceback as text, from wherever it ran."""

    task: luigi.Task
    exception: BaseException
    traceback: str


def run_chunk(chunk: Chunk, at_once: int = 1, stop: threading.Event | None = None) -> dict[int, Failure]:
    """Run tasks wherever this is called, `at_once` at a time; return the failures by position.

    A class of them that has a `prepare` is given its own before, to do once what each would do for itself.
    """
    unprepared = _prepare(chunk)
    run = partial(_run, unprepared=unprepared, stop=stop)
    if at_once == 1:
        results = list(map(run, chunk))
    else:
        with ThreadPoolExecutor(min(at_once, len(chunk)), thread_name_prefix="dask-chunk") as pool:
            results = list(pool.map(run, chunk))
    return {position: failure for position, failure in enumerate(results) if failure is not None}


def _prepare(chunk: Chunk) -> dict[type, tuple[BaseException, str]]:
    """Prepare the tasks of each class; return the classes that could not be, each with exception and traceback."""
    failed: dict[type, tuple[BaseException, str]] = {}
    for kind in dict.fromkeys(map(type, chunk)):
        if hasattr(kind, "prepare"):
            try:
                kind.prepare([task for task in chunk if type(task) is kind])
            except BaseException as error:
                failed[kind] = error, traceback.format_exc()
    return failed


def _run(
    task: luigi.Task, unprepared: dict[type, tuple[BaseException, str]], stop: threading.Event | None
) -> Failure | None:
    if stop is not None and stop.is_set():
        return None
    if type(task) in unprepared:
        return Failure(task, *unprepared[type(task)])
    try:
        if task.run() is not None:
            raise TypeError(f"{task} yields from run(); DaskWorker runs tasks without dynamic dependencies")
    except BaseException as error:  # a task that calls sys.exit() fails alone, too
        return Failure(task, error, traceback.format_exc())
    return None
