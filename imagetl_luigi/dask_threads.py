"""Run chunks of Luigi tasks on Dask's threaded scheduler: no cluster, no socket, no distributed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import dask.threaded
from dask.system import CPU_COUNT

from imagetl_luigi.dask_chunk import Chunk, Failure, run_chunk
from imagetl_luigi.settings import DaskSettings


class ThreadsBackend:
    """Threads of this process, one for each CPU unless the settings say otherwise."""

    dashboard: str | None = None

    def __init__(self, settings: DaskSettings) -> None:
        self._count = settings.threads or CPU_COUNT
        self._at_once = settings.at_once or 1
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="dask-worker")

    def threads(self) -> int:
        """How many chunks can run at a time."""
        return self._count

    def map(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run the chunks, four for each thread in one graph."""
        while window := list(islice(chunks, 4 * self._count)):
            # partial, since Dask would look through a list of tasks for keys
            graph = {
                index: (partial(run_chunk, chunk, self._at_once, self._stop),) for index, chunk in enumerate(window)
            }
            yield from zip(window, dask.threaded.get(graph, list(graph), pool=self._pool), strict=True)

    def close(self) -> None:
        """End the threads; each one finishes the task that it is at."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
