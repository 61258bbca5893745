"""What Dask runs: a chunk of Luigi tasks, one after the other, and what comes of it."""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass

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


def run_chunk(chunk: Chunk, stop: threading.Event | None = None) -> dict[int, Failure]:
    """Run tasks one after the other, wherever this is called; return the failures by position."""
    failures = {}
    for position, task in enumerate(chunk):
        if stop is not None and stop.is_set():
            break
        try:
            if task.run() is not None:
                raise TypeError(f"{task} yields from run(); DaskWorker runs tasks without dynamic dependencies")
        except BaseException as error:  # a task that calls sys.exit() fails alone, too
            failures[position] = Failure(task, error, traceback.format_exc())
    return failures
