"""Run many independent Luigi tasks on Dask.

Luigi's own scheduler wants some milliseconds for each task, and more the more there are. A
`DaskWorker` takes them in chunks to Dask's threads, to a cluster on this machine, or to a running
Dask scheduler, and fires Luigi's events for each one here, in the process that asked.

It knows Luigi and Dask and no workflow. A task must be importable where it runs, must not depend on
the others or yield, and must do no harm when it runs twice, as Dask may run it again after a worker died.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn, Protocol

import luigi
from luigi.event import Event

from imagetl_luigi.dask_chunk import Chunk, Failure
from imagetl_luigi.progress import Progress
from imagetl_luigi.settings import DaskSettings


class Backend(Protocol):
    """Where chunks run."""

    dashboard: str | None

    def threads(self) -> int:
        """How many chunks can run at a time now."""

    def map(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, dict[int, Failure]]]:
        """Run the chunks, a bounded number at a time; yield each with its failures by position."""

    def close(self) -> None:
        """Stop what was started."""


class DaskWorker:
    """Runs lists of independent Luigi tasks on Dask; a context manager.

        with DaskWorker(settings, report_to=self) as worker:
            failures = worker.run(tasks, total=len(tasks))

    A class of tasks may have a static method `prepare(tasks)`. It is called where they will run, with those
    that came in one message, to do once what each would do for itself.

    Args:
        settings: which Dask, and how.
        report_to: the Luigi task on whose page progress and the Dask dashboard are shown.
        check: called once in each worker process, before it is given tasks; it raises if it finds that they
            cannot be done there. It must be picklable.

    Raises:
        DaskWorkerError: there is no scheduler at the address, no worker within the time-out, or one that does not
            have what is installed here or does not pass the check.
    """

    def __init__(
        self,
        settings: DaskSettings,
        report_to: luigi.Task | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._report_to = report_to
        self._check = check
        self._signals: list[int] = []
        self._stack = contextlib.ExitStack()
        self._backend: Backend

    def __enter__(self) -> DaskWorker:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_interruptible(self._signals))
            self._backend = stack.enter_context(contextlib.closing(_backend(self._settings, self._check)))
            self._stack = stack.pop_all()
        url = self._backend.dashboard
        if url and self._report_to is not None and self._report_to.set_tracking_url is not None:
            self._report_to.set_tracking_url(url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's dashboard, if there is one."""
        return self._backend.dashboard

    def run(self, tasks: Iterable[luigi.Task], total: int, noun: str = "tasks") -> list[Failure]:
        """Run `tasks`, of which there are `total`, and return those that failed.

        They are taken from the iterable as there is room for them, so it may be long. Luigi's
        START, SUCCESS and FAILURE events fire in this thread. Progress is shown as a number of `noun`.

        Raises:
            DaskWorkerError: the scheduler or all workers are gone. Tasks that were done stay done.
        """
        failures: list[Failure] = []
        done = 0
        self._signals.clear()
        with Progress(self._report_to, noun) if self._report_to is not None else contextlib.nullcontext() as report:
            for chunk, failed in self._backend.map(self._started(tasks, total)):
                failures += _fired(chunk, failed)
                done += len(chunk)
                if report:
                    report(done, total)
                if self._signals:
                    raise KeyboardInterrupt(f"signal {self._signals[0]}")
        return failures

    def _started(self, tasks: Iterable[luigi.Task], total: int) -> Iterator[Chunk]:
        """The tasks in chunks: four or more for each thread, so that all end at about the same time, but not so small
        that a thread could not run as many at a time as it may.
        """
        threads = self._backend.threads()
        fair = max(total // (4 * threads), min(self._settings.at_once, -(-total // threads)), 1)
        size = min(self._settings.chunk_size, fair)
        chunk: Chunk = []
        for task in tasks:
            chunk.append(task)
            if len(chunk) == size:
                yield _start(chunk)
                chunk = []
        if chunk:
            yield _start(chunk)


def _start(chunk: Chunk) -> Chunk:
    for task in chunk:
        task.trigger_event(Event.START, task)
    return chunk


def _fired(chunk: Chunk, failed: dict[int, Failure]) -> list[Failure]:
    """Fire the events of tasks that ended; the failures in their order."""
    for position, task in enumerate(chunk):
        failure = failed.get(position)
        if failure is None:
            task.trigger_event(Event.SUCCESS, task)
        else:
            task.trigger_event(Event.FAILURE, task, failure.exception)
    return [failed[position] for position in sorted(failed)]


def _backend(settings: DaskSettings, check: Callable[[], None] | None) -> Backend:
    """The module of each backend is imported when it is wanted: distributed takes most of a second."""
    if settings.scheduler == "threads":
        from imagetl_luigi.dask_threads import ThreadsBackend

        return ThreadsBackend(settings)
    from imagetl_luigi.dask_cluster import ClusterBackend

    return ClusterBackend(settings, check)


@contextlib.contextmanager
def _interruptible(signals: list[int]) -> Iterator[None]:
    """Let SIGTERM stop us as Ctrl-C does, so that threads, workers and clusters are ended too; note both in `signals`.

    Luigi takes any other exception for a failed task and goes on. Python drops one that is raised while an object is
    deleted, as Dask's futures are all the time; hence the note. Signals reach the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        signals.append(number)
        raise KeyboardInterrupt(f"signal {number}")

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if handlers[signal.SIGINT] is not signal.default_int_handler:  # somebody has it handled, or ignored, on purpose
        del handlers[signal.SIGINT]
    for number in handlers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
