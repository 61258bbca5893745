"""Report the progress of a long stage: to Luigi, which shows it on luigid's page, and as a bar at a terminal."""

from __future__ import annotations

import contextlib
import copy
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import luigi
from luigi.rpc import RPCError

from imagetl_luigi.logs import logger

if TYPE_CHECKING:
    from imagetl_luigi.bar import Bar

INTERVAL = 1.0
"""Least seconds between two reports; each is a request to luigid."""

BAR_AFTER = 0.5
"""Seconds of a stage before there is a bar, so that none flashes up for nothing."""

PAUSE = 10.0
"""Seconds without a report after one that failed: luigid is away, and the work does not need it."""

PATIENCE = 2.0
"""Seconds that luigid has to answer a report; the work waits meanwhile."""


class Progress:
    """Call it with what is done; it tells Luigi now and then, and nobody while Luigi does not run the task.

    As a context manager it shows a bar, if standard error is a terminal, until the block ends. With `--workers` stages
    run in processes of their own, and at the same time; their bars would overwrite each other, so they have none.
    """

    def __init__(self, task: luigi.Task, noun: str) -> None:
        self._task = task
        self._noun = noun
        self._next = 0.0
        self._warned = False
        self._bar: Bar | None = None
        self._bar_at = math.inf
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if terminal and multiprocessing.parent_process() is None:
            self._bar_at = time.monotonic() + BAR_AFTER
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar, self._bar_at = None, math.inf
        self._stack.close()

    def __call__(self, done: int, total: int | None) -> None:
        """Report `done` of `total`, or of nobody knows how many."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.show(done, total)
        elif now >= self._bar_at:
            from imagetl_luigi.bar import shown  # imports tqdm, which cron does without

            self._bar = self._stack.enter_context(shown(self._task.task_family, self._noun, done, total))
        if now < self._next and done != total:
            return
        self._next = now + INTERVAL
        self._tell(done, total)

    def _tell(self, done: int, total: int | None) -> None:
        """Tell luigid."""
        try:
            if self._task.set_status_message is not None:
                _once(self._task.set_status_message)(f"{done:,}{f' of {total:,}' if total else ''} {self._noun}")
            if total and self._task.set_progress_percentage is not None:
                _once(self._task.set_progress_percentage)(min(100, 100 * done // total))
        except (RPCError, ValueError) as error:  # the second: a proxy answered, and not with JSON
            if not self._warned:
                logger.warning("%s goes on, but luigid does not hear how far it is: %s", self._task.task_family, error)
            self._warned = True
            self._next = time.monotonic() + PAUSE


def _once(report: Callable[[Any], None]) -> Callable[[Any], None]:
    """The report with one request to luigid: Luigi would ask for minutes, and the work would wait."""
    reporter: Any = getattr(report, "__self__", None)
    scheduler = getattr(reporter, "_scheduler", None)
    if not hasattr(scheduler, "_rpc_retry_attempts"):
        return report  # to a scheduler in this process, or to a test
    hasty: Any = copy.copy(reporter)
    hasty._scheduler = copy.copy(scheduler)
    hasty._scheduler._rpc_retry_attempts, hasty._scheduler._rpc_log_retries = 1, False
    hasty._scheduler._connect_timeout = PATIENCE
    once: Callable[[Any], None] = getattr(hasty, report.__name__)
    return once
