"""Run chunks of Luigi tasks on a Dask cluster: one of this machine, or a running one.

What dies, and what then:
- A worker: Dask runs its chunks elsewhere, as often as the scheduler's `allowed-failures` says.
- Worker after worker: Dask gives up on the chunks it found at each death (KilledWorker), the guilty
  and the innocent. They wait until all else is done, then run again one at a time, with nothing
  beside them. One that kills even then is taken apart, and the task that kills when alone is blamed.
- All workers, or the scheduler: an error, after `wait_for_workers` seconds without any.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from traceback import format_exception_only
from typing import Any, TypeVar

import dask
import distributed
from distributed.protocol.pickle import dumps
from distributed.utils import silence_logging_cmgr

from imagetl_luigi.dask_chunk import Chunk, Failure, WorkerKilled, run_chunk
from imagetl_luigi.dask_connect import await_worker, connect, inspect, threads_of_workers
from imagetl_luigi.errors import DaskWorkerError
from imagetl_luigi.settings import DaskSettings

T = TypeVar("T")
Future = distributed.Future[Any]

Packed = tuple[int, tuple[bytes, str], str]
"""A failure on its way: position in the chunk, exception, traceback."""

POLL = 1.0
"""Seconds between looks whether scheduler and workers are still there."""

LONGEST = 4000
"""Letters of a traceback that are sent: those of stores fill pages, and a whole chunk may fail of one cause."""

WAITING = 16
"""Chunks that wait at a scheduler which is not ours; one that scales workers by the work that waits would not else."""

LOCAL = {
    # At the first death already, a chunk is ours to try, see above: workers take a second to start.
    "distributed.scheduler.allowed-failures": 0,
}


_LEAVE_CTRL_C_TO_THE_DRIVER = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""Run in each worker of ours as it starts. A terminal sends Ctrl-C to all processes of a command; the driver ends the
workers then, and one that ends by itself prints a traceback."""


class ClusterBackend:
    """A Dask scheduler and its workers; those of "cluster" are started here and ended by `close`."""

    def __init__(self, settings: DaskSettings, check: Callable[[], None] | None = None) -> None:
        self._settings = settings
        self._check = check
        self._known: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._run = uuid.uuid4().hex[:8]
        self._serial = 0
        self._cluster: distributed.LocalCluster | None = None
        self._deserted_since: float | None = None
        self._replaced = 0.0
        with contextlib.ExitStack() as stack:
            self._client = self._connect(stack)
            self.address = self._client.scheduler_info()["address"]
            self.threads()
            self._stack = stack.pop_all()
        self.dashboard = self._find_dashboard()

    def _connect(self, stack: contextlib.ExitStack) -> distributed.Client:
        address = self._settings.scheduler
        patience = self._settings.wait_for_workers
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what it would say of what died, we say
        if address == "cluster":
            self._cluster = self._start_cluster(stack)
            address = self._cluster.scheduler_address
        client: distributed.Client = stack.enter_context(connect(address, self._settings))
        try:
            there = await_worker(client, patience)
        except (distributed.CancelledError, OSError) as error:  # TimeoutError is one of them
            raise self._lost(address) from error
        if not there:
            raise self._deserted(address)
        return client

    def _start_cluster(self, stack: contextlib.ExitStack) -> distributed.LocalCluster:
        stack.enter_context(dask.config.set(LOCAL))
        try:
            cluster: distributed.LocalCluster = stack.enter_context(local_cluster(self._settings))
        except Exception as error:  # of Dask, of the system, of the main script that the workers import
            raise DaskWorkerError(
                f"no Dask cluster can be started here: {error}; "
                "correct [dask], or do without it: [dask] scheduler = threads"
            ) from error
        return cluster

    def threads(self) -> int:
        """How many chunks can run at a time now."""
        return max(1, sum(self._workers().values()))

    def _room(self) -> int:
        """How many chunks may be under way: two for each thread, and so many that a cluster sees reason to grow."""
        return 2 * self.threads() + (WAITING if self._cluster is None else 0)

    def map(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run the chunks, a bounded number under way."""
        suspects: deque[Chunk] = deque()
        flying: dict[Future, Chunk] = {}
        room = self._room()
        while True:
            while len(flying) < room and (chunk := next(chunks, None)):
                flying[self._submit(chunk)] = chunk
            if not flying:
                break
            for future in self._first_done(flying):
                chunk = flying.pop(future)
                failures = self._failures(future, chunk)
                if failures is None:
                    suspects.append(chunk)
                else:
                    yield chunk, failures
            room = self._room()
        yield from self._try_alone(suspects)

    def _try_alone(self, suspects: deque[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run chunks one at a time, and those that kill task by task, so that only the guilty is blamed.

        Task by task, and not half by half: messages take milliseconds, a new worker takes a second.
        """
        while suspects:
            chunk = suspects.popleft()
            failures = self._failures(self._submit(chunk), chunk)
            if failures is not None:
                yield chunk, failures
            elif len(chunk) > 1:
                suspects.extendleft([task] for task in reversed(chunk))
            else:
                error = WorkerKilled(
                    f"every Dask worker that ran {chunk[0]} died; see the workers' logs at {self.address}"
                )
                yield chunk, {0: Failure(chunk[0], error, f"{type(error).__name__}: {error}\n")}

    def _submit(self, chunk: Chunk) -> Future:
        """Send a chunk under a key that no other attempt has, so that no old result is taken for it."""
        self._serial += 1
        key = f"run_chunk-{self._run}-{self._serial}"
        try:
            packed = dumps(_Run(chunk, self._settings.at_once or 1))
        except Exception as error:  # tasks of any make may fail in any way
            raise DaskWorkerError(f"{chunk[0]}, or a task that follows it, cannot be pickled: {error}") from error
        return self._client.submit(pickle.loads, packed, key=key, pure=False)

    def _first_done(self, flying: Iterable[Future]) -> set[Future]:
        with self._client.as_current():  # wait() asks no future for its client, but the surroundings
            futures = list(flying)
            return set(self._patiently(lambda _: distributed.wait(futures, POLL, "FIRST_COMPLETED")).done)

    def _failures(self, future: Future, chunk: Chunk) -> dict[int, Failure] | None:
        """The failures of a chunk, or None if workers died of it."""
        try:
            # Asked for, and not raised: an OSError of their own would pass for one of the connection.
            error = self._patiently(lambda timeout: future.exception(timeout=timeout))
            packed: list[Packed] = [] if error else self._patiently(lambda timeout: future.result(timeout=timeout))
        except distributed.KilledWorker as killed:  # when the result was lost, and made again
            error = killed
        finally:
            future.release()
        if isinstance(error, distributed.KilledWorker):
            return None
        if error is not None:
            self._workers()  # if it is one that has just come, this says which, and why
            raise DaskWorkerError(
                f"the Dask workers at {self.address} cannot take {chunk[0]}: {type(error).__name__}: {error}; "
                f"install the package of {type(chunk[0]).__module__} there, in the version used here"
            ) from error
        return {position: Failure(chunk[position], _unpack(*error), trace) for position, error, trace in packed}

    def _patiently(self, look: Callable[[float], T]) -> T:
        """What `look` returns, which is given seconds after which to give up; see that somebody is there meanwhile.

        It is given more each time: a result that takes long to come begins anew.
        """
        timeout = POLL
        while True:
            try:
                seen = look(timeout)
            except TimeoutError:
                self._check_workers()
                timeout *= 2
            except (distributed.CancelledError, OSError) as error:
                raise self._lost(self.address) from error
            else:
                self._deserted_since = None
                return seen

    def _check_workers(self) -> None:
        if self._workers():
            self._deserted_since = None
            return
        now = time.monotonic()
        if self._deserted_since is None:
            self._deserted_since = self._replaced = now
        patience = self._settings.wait_for_workers
        if now - self._deserted_since > patience:
            raise self._deserted(self.address)
        if self._cluster is not None and now - self._replaced > patience / 3:
            # Dask restarts its workers, but for one that dies between its first task and its report to be ready
            self._replaced = now
            self._cluster.scale(0)
            self._cluster.scale(self._settings.cluster_workers)

    def _workers(self) -> dict[str, int]:
        """Threads of each worker, by address. New ones are looked at, and those that were gone meanwhile."""
        patience = self._settings.wait_for_workers
        if self._client.status != "running":
            raise self._lost(self.address)
        try:
            workers = threads_of_workers(self._client, patience)
            self._known &= workers.keys()
            if new := workers.keys() - self._known:
                inspect(self._client, new, self._check, patience)
        except OSError as error:  # TimeoutError is one of them
            raise self._lost(self.address) from error
        self._known |= workers.keys()
        return workers

    def _deserted(self, address: str) -> DaskWorkerError:
        return DaskWorkerError(
            f"the Dask scheduler at {address} has had no worker for {self._settings.wait_for_workers:g} s; "
            f"start some with `dask worker {address}`, or raise [dask] wait_for_workers"
        )

    def _lost(self, address: str) -> DaskWorkerError:
        return DaskWorkerError(
            f"the Dask scheduler at {address} is gone; what was done is kept, so start it and run again"
        )

    def _find_dashboard(self) -> str | None:
        if "://127.0.0.1:" in self.address and find_spec("bokeh") is None:
            return None  # Dask serves a page there that says so
        port = self._client.scheduler_info().get("services", {}).get("dashboard")
        return str(self._client.dashboard_link) if port else None

    def close(self) -> None:
        """Leave the scheduler, and end it if it was started here."""
        self._stack.close()


def local_cluster(settings: DaskSettings) -> distributed.LocalCluster:
    """The cluster of [dask] scheduler = cluster."""
    return distributed.LocalCluster(
        n_workers=settings.cluster_workers,
        threads_per_worker=settings.cluster_threads,
        processes=True,
        host="127.0.0.1",
        dashboard_address=settings.dashboard,
        silence_logs=logging.CRITICAL,
        preload=[_LEAVE_CTRL_C_TO_THE_DRIVER],
    )


class _Run:
    """A chunk that runs where it is unpickled, and becomes its failures.

    All that Dask itself sees is bytes and `pickle.loads`. So a scheduler needs neither our package nor the modules of
    the tasks, and in a worker that lacks them the chunk fails and says so; it would else take its connection with it.
    """

    def __init__(self, chunk: Chunk, at_once: int) -> None:
        self._chunk = chunk
        self._at_once = at_once

    def __reduce__(self) -> tuple[Callable[..., list[Packed]], tuple[Chunk, int]]:
        return _run_remotely, (self._chunk, self._at_once)


def _run_remotely(chunk: Chunk, at_once: int) -> list[Packed]:
    """`run_chunk` in a worker."""
    failures = run_chunk(chunk, at_once)
    return [(at, _pack(failure.exception), failure.traceback[-LONGEST:]) for at, failure in failures.items()]


def _pack(exception: BaseException) -> tuple[bytes, str]:
    """The exception, pickled if it can be, and its text."""
    text = "".join(format_exception_only(exception)).strip()
    try:
        return pickle.dumps(exception), text
    except Exception:  # exceptions of any make may fail in any way
        return b"", text


def _unpack(pickled: bytes, text: str) -> BaseException:
    """The exception itself, or one with its text if it could not travel."""
    with contextlib.suppress(Exception):
        exception = pickle.loads(pickled)
        if isinstance(exception, BaseException):
            return exception
    return RuntimeError(text)
