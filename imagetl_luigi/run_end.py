"""Call functions when a run of Luigi is over, once and in the process that it was started in.

Luigi has events of tasks only, and with `--workers` they fire in forked processes. The plain `luigi` command and
`luigi.build` both go through `luigi.interface._schedule_and_run`, so this is what is wrapped here; it sees
the runs, too, that end by Ctrl-C or because luigid is gone. One killed by a signal that nobody handles calls nobody.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import luigi.interface
from luigi.rpc import RemoteScheduler
from luigi.task_status import DONE, FAILED, UNKNOWN
from luigi.worker import Worker

from imagetl_luigi import logs
from imagetl_luigi.logs import logger


@dataclass
class Run:
    """A run that is over.

    Attributes:
        tasks: those that were asked for.
        worker: Luigi's, or None if the run ended before there was one.
        seconds: how long it took.
        error: what ended it early, such as KeyboardInterrupt, or RPCError when luigid is gone; else None.
        failures: why tasks failed or could not be scheduled, by id: what Luigi's worker told its scheduler.
        needs: ids of the tasks that each one needs, by its own id; those that it yielded, too.
    """

    tasks: list[luigi.Task]
    worker: Worker | None = None
    seconds: float = 0.0
    error: BaseException | None = None
    failures: dict[str, str] = field(default_factory=dict)
    needs: dict[str, list[str]] = field(default_factory=dict)


_functions: list[Callable[[Run], None]] = []
_under_way: list[Run] = []


def call(function: Callable[[Run], None]) -> None:
    """Have `function` called when a run is over, after those that are registered; a second time changes nothing.

    What it raises is logged as a warning, and changes neither the run nor its exit code.
    """
    if not getattr(luigi.interface._schedule_and_run, "calls_run_end", False):
        luigi.interface._schedule_and_run = _calling(luigi.interface._schedule_and_run)
    if function not in _functions:
        _functions.append(function)


def _calling(schedule_and_run: Callable[..., Any]) -> Callable[..., Any]:
    """Luigi's function, with ours called behind it."""

    @functools.wraps(schedule_and_run)
    def wrapped(
        tasks: Iterable[luigi.Task], worker_scheduler_factory: Any = None, override_defaults: Any = None
    ) -> Any:
        """As Luigi's; then call what is registered, whatever ended the run."""
        start = time.monotonic()
        run = Run(list(tasks))
        _under_way.append(run)
        factory = _Factory(worker_scheduler_factory or luigi.interface._WorkerSchedulerFactory(), run)
        try:
            return schedule_and_run(run.tasks, factory, override_defaults)
        except BaseException as error:
            run.error = error
            raise
        finally:
            run.seconds = time.monotonic() - start
            _under_way.pop()
            # luigi.build in a task is no run of its own
            functions = [] if _under_way else _functions
            with contextlib.ExitStack() as stack:  # Ctrl-C in one of them does not keep the next from being called
                for function in reversed(functions):
                    stack.callback(_call, function, run)

    wrapped.calls_run_end = True  # type: ignore[attr-defined]
    return wrapped


def _call(function: Callable[[Run], None], run: Run) -> None:
    try:
        function(run)
    except Exception as error:
        logger.warning("at the end of the run, %s failed: %s", function.__name__, logs.explain(error))


class _Factory:
    """What makes Luigi's worker and scheduler, noting for the run what it is to know."""

    def __init__(self, factory: Any, run: Run) -> None:
        self._factory = factory
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> Worker:
        """Luigi's worker, which talks to the scheduler through us."""
        self._run.worker = self._factory.create_worker(
            scheduler=_Scheduler(scheduler, self._run), worker_processes=worker_processes, assistant=assistant
        )
        return self._run.worker


class _Scheduler:
    """Luigi's scheduler as its worker sees it; notes what it is told of failures and needs, and passes all on.

    The other ways to know are no better: luigid would have to be asked once more, when it may be gone, and
    does not keep what failed while tasks were scheduled.
    """

    def __init__(self, scheduler: Any, run: Run) -> None:
        self._scheduler = scheduler
        self._run = run
        self._announced = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def __copy__(self) -> Any:
        return copy.copy(self._scheduler)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """In a process that is spawned: luigid; or nobody, if the scheduler is here, which would not hear it anyway."""
        return (_itself, (self._scheduler,)) if isinstance(self._scheduler, RemoteScheduler) else (_Nobody, ())

    def announce_scheduling_failure(self, *arguments: Any, **named: Any) -> Any:
        """The error of complete() or requires() of the task that is added next."""
        self._announced = named["expl"]
        return self._scheduler.announce_scheduling_failure(*arguments, **named)

    def add_task(self, *arguments: Any, **named: Any) -> Any:
        """The state of a task, and what it needs."""
        identity, status = named["task_id"], named["status"]
        self._run.needs.setdefault(identity, []).extend([*(named.get("deps") or ()), *(named.get("new_deps") or ())])
        if status == FAILED:
            self._run.failures[identity] = _text(named.get("expl"))
        elif status == UNKNOWN:
            self._run.failures[identity], self._announced = self._announced, ""
        elif status == DONE:
            self._run.failures.pop(identity, None)
        return self._scheduler.add_task(*arguments, **named)


def _itself(scheduler: Any) -> Any:
    return scheduler


class _Nobody:
    """Takes what a task reports."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def _text(explanation: Any) -> str:
    """What a worker explains a failure with: JSON of a text, or the text."""
    try:
        return str(json.loads(explanation))
    except (ValueError, TypeError):
        return str(explanation or "")
