"""Run chunks of Luigi tasks on a Dask cluster: one of this machine, or a running one.

What dies, and what then:
- A worker: Dask runs its chunks elsewhere.
- Worker after worker: Dask gives up on the chunks it found at each death (KilledWorker), the guilty
  and the innocent. They wait until all else is done, then run again one at a time, with nothing
  beside them. One that kills even then is halved, until the task that kills is alone and is blamed.
- All workers, or the scheduler: an error, after `wait_for_workers` seconds without any.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any

import dask
import distributed

from imagetl_luigi.dask_worker import Chunk, Failure, WorkerKilled, run_chunk
from imagetl_luigi.errors import DaskWorkerError
from imagetl_luigi.settings import DaskSettings

Future = distributed.Future[Any]

POLL = 1.0
"""Seconds between looks whether scheduler and workers are still there."""

_LOCAL = {
    # A chunk that lost its worker gets one more chance in company; the rest is ours, see above.
    "distributed.scheduler.allowed-failures": 1,
}


class ClusterBackend:
    """A Dask scheduler and its workers; those of "cluster" are started here and ended by `close`."""

    def __init__(self, settings: DaskSettings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._run = uuid.uuid4().hex[:8]
        self._serial = 0
        self._deserted_since: float | None = None
        with contextlib.ExitStack() as stack:
            self._client = self._connect(stack)
            self._stack = stack.pop_all()
        self.address = self._client.scheduler_info()["address"]
        self.dashboard = self._find_dashboard()

    def _connect(self, stack: contextlib.ExitStack) -> distributed.Client:
        address = self._settings.scheduler
        patience = self._settings.wait_for_workers
        try:
            if address == "cluster":
                stack.enter_context(dask.config.set(_LOCAL))
                address = stack.enter_context(_local_cluster(self._settings)).scheduler_address
            client: distributed.Client = stack.enter_context(
                distributed.Client(address, timeout=patience, set_as_default=False)
            )
        except (OSError, ValueError) as error:
            raise DaskWorkerError(
                f"no Dask scheduler answers at {address} within {patience:g} s: {error}; "
                "start one with `dask scheduler`, or correct [dask] scheduler"
            ) from error
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            raise self._deserted(address) from None
        return client

    def threads(self) -> int:
        """How many chunks can run at a time now."""
        return max(1, sum(self._workers().values()))

    def map(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run the chunks, two for each thread in flight."""
        suspects: deque[Chunk] = deque()
        flying: dict[Future, Chunk] = {}
        room = 2 * self.threads()
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
            room = 2 * self.threads()
        yield from self._try_alone(suspects)

    def _try_alone(self, suspects: deque[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run chunks one at a time, and halve those that kill, until the guilty task stands alone."""
        while suspects:
            chunk = suspects.popleft()
            future = self._submit(chunk)
            self._first_done({future: chunk})
            failures = self._failures(future, chunk)
            if failures is not None:
                yield chunk, failures
            elif len(chunk) == 1:
                error = WorkerKilled(
                    f"every Dask worker that ran {chunk[0]} died; see the workers' logs at {self.address}"
                )
                yield chunk, {0: Failure(chunk[0], error, f"{type(error).__name__}: {error}\n")}
            else:
                middle = len(chunk) // 2
                suspects.extendleft((chunk[middle:], chunk[:middle]))

    def _submit(self, chunk: Chunk) -> Future:
        """Send a chunk under a key that no other attempt has, so that no old result is taken for it."""
        self._serial += 1
        key = f"run_chunk-{self._run}-{self._serial}"
        return self._client.submit(_run_remotely, chunk, key=key, pure=False, retries=0)

    def _first_done(self, flying: dict[Future, Chunk]) -> set[Future]:
        """Wait until some are done, and see to it that somebody is there to do them."""
        while True:
            try:
                done = distributed.wait(list(flying), timeout=POLL, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                self._check_workers()
            except (distributed.CancelledError, OSError) as error:
                raise self._lost() from error
            else:
                self._deserted_since = None
                return set(done)

    def _failures(self, future: Future, chunk: Chunk) -> dict[int, Failure] | None:
        """The failures of a chunk, or None if workers died of it."""
        try:
            packed = future.result()
        except distributed.KilledWorker:
            return None
        except (distributed.CancelledError, OSError) as error:
            raise self._lost() from error
        except Exception as error:
            raise DaskWorkerError(
                f"the Dask workers at {self.address} cannot take {chunk[0]}: {type(error).__name__}: {error}; "
                f"install the package of {type(chunk[0]).__module__} there, in the version used here"
            ) from error
        finally:
            future.release()
        return {position: Failure(chunk[position], _exception(error), trace) for position, error, trace in packed}

    def _check_workers(self) -> None:
        if self._workers():
            self._deserted_since = None
            return
        now = time.monotonic()
        self._deserted_since = self._deserted_since or now
        if now - self._deserted_since > self._settings.wait_for_workers:
            raise self._deserted(self.address)

    def _workers(self) -> dict[str, int]:
        """Threads of each worker, by address."""
        if self._client.status != "running":
            raise self._lost()
        try:
            return dict(self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise self._lost() from error

    def _deserted(self, address: str) -> DaskWorkerError:
        return DaskWorkerError(
            f"the Dask scheduler at {address} has had no worker for {self._settings.wait_for_workers:g} s; "
            f"start some with `dask worker {address}`, or raise [dask] wait_for_workers"
        )

    def _lost(self) -> DaskWorkerError:
        return DaskWorkerError(
            f"the Dask scheduler at {self.address} is gone; what was done is kept, so start it and run again"
        )

    def _find_dashboard(self) -> str | None:
        port = self._client.scheduler_info().get("services", {}).get("dashboard")
        return str(self._client.dashboard_link) if port else None

    def close(self) -> None:
        """Leave the scheduler, and end it if it was started here."""
        self._stack.close()


@contextlib.contextmanager
def _local_cluster(settings: DaskSettings) -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(
        n_workers=settings.cluster_workers,
        threads_per_worker=settings.cluster_threads,
        processes=True,
        host="127.0.0.1",
        dashboard_address=settings.dashboard,
        silence_logs=logging.ERROR,
    ) as cluster:
        yield cluster


def _run_remotely(chunk: Chunk) -> list[tuple[int, bytes | str, str]]:
    """`run_chunk` in a worker: position, pickled exception or its text, and traceback of each failure."""
    packed: list[tuple[int, bytes | str, str]] = []
    for position, failure in run_chunk(chunk).items():
        error: bytes | str
        try:
            error = pickle.dumps(failure.exception)
            pickle.loads(error)
        except Exception:  # exceptions of any make may fail in any way
            error = f"{type(failure.exception).__name__}: {failure.exception}"
        packed.append((position, error, failure.traceback))
    return packed


def _exception(error: bytes | str) -> BaseException:
    """The exception itself, or one with its text if it cannot travel."""
    if isinstance(error, str):
        return RuntimeError(error)
    exception = pickle.loads(error)
    assert isinstance(exception, BaseException)
    return exception
