"""A Luigi task and all that it needs, as a plain graph to draw: what is complete, and which parameters flow in where.

What a task needs is not all in its requires(). A task may have two methods more, which are asked here:

    def yields(self) -> list[luigi.Task]:  # what its run() will yield: dynamic dependencies
    def mapped(self) -> Mapped | None:     # the many tasks of one family that its run() has done on Dask

Both look at what is there and do nothing. Nothing is run here either; whether a task is complete is its own complete().
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from typing import Any

import luigi
from luigi.task import flatten

from imagetl_luigi.errors import ParameterError

MOST_ALIKE = 6
"""Tasks of a family in the same place that are shown one by one; more are one node with a count."""


@dataclass(frozen=True)
class Mapped:
    """The tasks that a stage has done on Dask.

    Attributes:
        family: of each task.
        count: how many there are; None as long as nobody can know.
        complete: how many of them are.
    """

    family: str
    count: int | None
    complete: int


class Need(Enum):
    """Why a task needs another."""

    REQUIRED = "required"
    YIELDED = "yielded by run()"
    MAPPED = "mapped on Dask"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A task, or many that are drawn as one.

    Attributes:
        count: how many tasks; None as long as nobody can know.
        complete: how many of them are.
        stacked: they are many by their nature, even if it is one at the moment.
        parameters: values as text, by name, of those that do not come from what the task needs.
        outputs: their paths, of one task.
        needs: indexes of nodes in the graph, and why.
    """

    family: str
    count: int | None
    complete: int
    stacked: bool
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    needs: dict[int, Need] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether all of it is complete."""
        return self.complete == self.count


def task_graph(root: luigi.Task) -> list[Node]:
    """The task and all that it needs; the first node is the task itself.

    Raises:
        ParameterError: tasks need each other in a circle.
        Exception: whatever complete(), requires() and the like raise, as a StorageError for a store that is away.
    """
    needs = _reached(root)
    groups = _groups(needs)
    place = {task: number for number, tasks in enumerate(groups) for task in tasks}
    nodes: list[Node] = []
    mapped: list[Node] = []
    for tasks in groups:
        found = {place[other]: why for task in tasks for other, why in needs[task].items()}
        for node in _mapped(tasks):
            found[len(groups) + len(mapped)] = Need.MAPPED
            mapped.append(node)
        nodes.append(
            Node(
                family=tasks[0].task_family,
                count=len(tasks),
                complete=sum(map(_is_complete, tasks)),
                stacked=len(tasks) > 1,
                parameters=_flowing_in(tasks, needs),
                outputs=[_shown(target) for target in flatten(tasks[0].output())] if len(tasks) == 1 else [],
                needs=found,
            )
        )
    return nodes + mapped


def _reached(root: luigi.Task) -> dict[luigi.Task, dict[luigi.Task, Need]]:
    """What each task needs; yielded tasks that are required as well are required."""
    needs: dict[luigi.Task, dict[luigi.Task, Need]] = {}
    waiting = deque([root])
    while waiting:
        task = waiting.popleft()
        if task not in needs:
            yielded = _asked(task, "yields") or []
            needs[task] = dict.fromkeys(yielded, Need.YIELDED) | dict.fromkeys(flatten(task.requires()), Need.REQUIRED)
            waiting += needs[task]
    return needs


def _asked(task: luigi.Task, method: str) -> Any:
    """What the task answers, if it has this method."""
    answer = getattr(task, method, None)
    return answer() if callable(answer) else None


def _groups(needs: dict[luigi.Task, dict[luigi.Task, Need]]) -> list[list[luigi.Task]]:
    """The tasks, from the one that needs all to those that need none; many in the same place are a group.

    The same place: of the same family, needed by the same groups, needing the same families. All tasks that are
    needed by the same groups are equally far from the first one, so they come up together.
    """
    needed_by: dict[luigi.Task, list[luigi.Task]] = {task: [] for task in needs}
    for task, others in needs.items():
        for other in others:
            needed_by[other].append(task)
    sorter = TopologicalSorter(needed_by)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " needs ".join(task.task_family for task in error.args[1])
        raise ParameterError(f"these tasks can never run, since {circle}") from None
    groups: list[list[luigi.Task]] = []
    group_of: dict[luigi.Task, int] = {}
    while sorter.is_active():
        places: dict[object, list[luigi.Task]] = defaultdict(list)
        for task in (ready := sorter.get_ready()):
            above = frozenset(group_of[other] for other in needed_by[task])
            places[task.task_family, above, frozenset(other.task_family for other in needs[task])].append(task)
        for tasks in places.values():
            for alike in [tasks] if len(tasks) > MOST_ALIKE else [[task] for task in tasks]:
                group_of.update(dict.fromkeys(alike, len(groups)))
                groups.append(alike)
        sorter.done(*ready)
    return groups


def _is_complete(task: luigi.Task) -> bool:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Task .* without outputs has no custom complete")
        return bool(task.complete())


def _mapped(tasks: Iterable[luigi.Task]) -> list[Node]:
    """What a stage, or many alike, have done on Dask: a node for each family."""
    families: dict[str, list[Mapped]] = defaultdict(list)
    for task in tasks:
        if mapped := _asked(task, "mapped"):
            families[mapped.family].append(mapped)
    return [
        Node(
            family=family,
            count=None if any(one.count is None for one in parts) else sum(one.count or 0 for one in parts),
            complete=sum(one.complete for one in parts),
            stacked=True,
        )
        for family, parts in families.items()
    ]


def _flowing_in(tasks: Iterable[luigi.Task], needs: dict[luigi.Task, dict[luigi.Task, Need]]) -> dict[str, str]:
    """The parameters that are not merely passed on to, or inherited from, what the task needs; empty ones are none."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for task in tasks:
        below = [_parameters(other) for other in needs[task]]
        for name, value in _parameters(task).items():
            if value and not any(others.get(name) == value for others in below):
                values[name][value] = None
    return {name: next(iter(all)) if len(all) == 1 else f"{len(all):,} values" for name, all in values.items()}


def _parameters(task: luigi.Task) -> dict[str, str]:
    """As Luigi would log them, so without the secrets that a parameter leaves out; only what Luigi shows to all."""
    parameters: dict[str, str] = task.to_str_params(only_significant=True, only_public=True)
    return parameters


def _shown(target: luigi.Target) -> str:
    """The path of a target, or what it is if it cannot say more."""
    return str(target) if type(target).__str__ is not object.__str__ else type(target).__name__
