"""A Luigi scheduler whose state survives also a kill -9: it is saved before each answer that rests on it.

Luigi's own is saved when luigid ends in order, and only then; a worker that comes back to a luigid which has
forgotten its tasks ends with "not run".
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from luigi.scheduler import RPC_METHODS, Scheduler, SimpleTaskState, Task
from luigi.task_status import BATCH_RUNNING, PENDING, RUNNING

logger = logging.getLogger("luigi.scheduler")

SHARE = 0.1
"""Most of luigid's time that goes into saving, if saving takes long. Measured: 0.4 ms with 5 tasks, 1 ms with 30,
0.16 s with 10,000, twice what Luigi needs there to choose the next one."""

ADVANCE = 1.0
"""Seconds of saving that a luigid which had little to do may spend at once. Until they are used up, which takes
hundreds of tasks, every change is saved before it is answered; then up to ten times as long as one saving takes
may be lost."""

READING = {
    *("ping", "prune", "count_pending", "has_task_history", "is_pause_enabled", "is_paused", "fetch_error"),
    *("graph", "dep_graph", "inverse_dep_graph", "task_list", "worker_list", "resource_list", "task_search"),
    *(name for name in RPC_METHODS if name.startswith("get_") and name != "get_work"),
}
"""Requests that change nothing, or only what is found out again: who was heard of when, and what is too old."""

PASSING = {"set_task_status_message", "set_task_progress_percentage"}
"""Requests whose effect is worth no saving of its own."""


class _State(SimpleTaskState):
    """Luigi's tables, and whether the scheduler is paused; written whole or not at all.

    Not synced: what a crash of the whole machine takes from it, it takes from the runs as well.
    """

    def __init__(self, path: str, scheduler: Scheduler) -> None:
        super().__init__(path)
        self._scheduler = scheduler
        self._metrics_collector = scheduler._state._metrics_collector
        self._failing = False

    def get_state(self) -> tuple[Any, ...]:
        return (*super().get_state(), self._scheduler._paused)

    def set_state(self, state: tuple[Any, ...]) -> None:
        if not all(isinstance(table, dict) for table in state[:3]):
            raise TypeError("it holds no tables of Luigi's")
        super().set_state(state)
        if len(state) > 3:  # else it is plain Luigi's
            self._scheduler._paused = state[3]

    def load(self) -> None:
        """Load what was saved; what cannot be understood is put aside. Raises OSError if it cannot be read."""
        try:
            with open(self._state_path, "rb") as file:
                self.set_state(pickle.load(file))
            for task in self._tasks.values():
                self._status_tasks[task.status][task.id] = task
            for worker in self._active_workers.values():
                worker.last_active = time.time()  # it had no luigid to talk to, so it gets the usual time
        except FileNotFoundError:
            pass
        except OSError:
            raise
        except Exception as error:  # a pickle can raise anything
            aside = f"{self._state_path}.broken"
            os.replace(self._state_path, aside)
            logger.warning("The saved state is put aside as %s, and nothing is known of earlier runs: %r", aside, error)
            super().set_state(({}, {}, {}))
            self._status_tasks = defaultdict(dict)

    def fail_dead_worker_task(self, task: Task, config: Any, assistants: set[str]) -> None:
        """Give a task whose worker is gone to the next that asks. Luigi would have it fail, and with `retry_count` 1 be
        tried by nobody for a while; but a run that was stopped says nothing against its task. One that kills whoever
        runs it does so to each run once, and no more runs begin than people or cron start.
        """
        running = task.status in (BATCH_RUNNING, RUNNING) and task.worker_running
        if running and task.worker_running not in task.stakeholders | assistants:
            logger.info("The worker %s is gone, so another one may run %s", task.worker_running, task.id)
            task.worker_running = None
            self.set_status(task, PENDING, config)

    def dump(self) -> None:
        """Write it beside the old one, and put it in that one's place."""
        temporary = f"{self._state_path}.tmp"
        try:
            with open(temporary, "wb") as file:
                pickle.dump(self.get_state(), file, pickle.HIGHEST_PROTOCOL)
            os.replace(temporary, self._state_path)
        except (OSError, pickle.PicklingError, RecursionError) as error:
            if not self._failing:  # once, or a full disk would fill the log as well
                logger.warning("The state cannot be saved, so a restart would lose it: %s", error)
            self._failing = True
        else:
            self._failing = False


class DurableScheduler(Scheduler):
    """Luigi's scheduler; takes the same options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._state = _State(self._config.state_path, self)
        self._unsaved = False
        self._allowance, self._counted = ADVANCE, time.monotonic()

    def save(self) -> None:
        """Save what has changed, unless saving has taken too much of the time lately; `dump` saves in any case."""
        now = time.monotonic()
        self._allowance = min(ADVANCE, self._allowance + SHARE * (now - self._counted))
        self._counted = now
        if self._unsaved and self._allowance > 0:
            self._state.dump()
            self._unsaved = False
            self._allowance -= time.monotonic() - now


def _saving(name: str) -> Callable[..., Any]:
    """The scheduler's method for a request, which saves what it has changed."""
    method = getattr(Scheduler, name)

    @functools.wraps(method)
    def saving(self: DurableScheduler, *args: Any, **options: Any) -> Any:
        answer = method(self, *args, **options)
        self._unsaved = True
        if name not in PASSING:
            self.save()
        return answer

    return saving


for _name in RPC_METHODS.keys() - READING:
    setattr(DurableScheduler, _name, _saving(_name))
