"""Report the progress of a long stage to Luigi, which shows it on luigid's page."""

from __future__ import annotations

import time

import luigi

INTERVAL = 1.0
"""Least seconds between two reports; each is a request to luigid."""


class Progress:
    """Call it with what is done; it tells Luigi now and then, and nobody while Luigi does not run the task."""

    def __init__(self, task: luigi.Task, noun: str) -> None:
        self._task = task
        self._noun = noun
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Report `done` of `total`, or of nobody knows how many."""
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + INTERVAL
        if self._task.set_status_message is not None:
            self._task.set_status_message(f"{done:,}{f' of {total:,}' if total else ''} {self._noun}")
        if total and self._task.set_progress_percentage is not None:
            self._task.set_progress_percentage(min(100, 100 * done // total))
