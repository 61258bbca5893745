"""What a run came to, for people who were not there: from Luigi's record of it to a text."""

from __future__ import annotations

import posixpath
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

import luigi
from luigi.execution_summary import _summary_dict

from imagetl_luigi import logs, nights
from imagetl_luigi.errors import ImagetlError
from imagetl_luigi.frame_tasks import ImagetlTask
from imagetl_luigi.manifest import read_manifest
from imagetl_luigi.page import plural
from imagetl_luigi.run_end import Run
from imagetl_luigi.targets import GifTarget, WatchTarget

DONE, NOTHING, FAILED, INTERRUPTED = "done", "nothing to do", "failed", "interrupted"
MADE, THERE, MISSING = "made", "there already", "not made"

MOST_ERRORS = 5
"""Errors that a report has; of the others it says how many there are."""

MOST_LINES = 20
"""Animations of a kind that are named in a text."""

LONGEST = 1000
"""Characters of an error. A chat takes some thousands in all."""

ELSEWHERE = "another run has it, or something that it needs"
GIVEN_UP = (
    "luigid did not let it run: it gave it up, or something that it needs, less than [scheduler] disable_persist "
    "seconds ago, or is paused; run again after that, or re-enable it on luigid's page"
)
"""Why a task was not run that did not fail."""

_FRAMES = re.compile(r"^ {2}.*\n", re.MULTILINE)
"""Lines of a traceback; what is behind the last one is the error."""


@dataclass(frozen=True, kw_only=True)
class Animation:
    """One of the animations that a run was to make.

    Attributes:
        name: of its workspace.
        gif, manifest: where it lies, and where its frames are listed: absolute, or URLs.
        page: where the page to watch it on lies, if one was asked for and is there; absolute, or a URL.
        state: MADE, THERE already before the run, or MISSING.
        frames: how many it has; None if that is not known.
        error: why it is missing, if that is known.
    """

    name: str
    gif: str
    manifest: str
    state: str
    page: str = ""
    frames: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Error:
    """Why a task failed; its kind, the task with its parameters, and the message in one line."""

    kind: str
    task: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        state: DONE, NOTHING to do, FAILED or INTERRUPTED.
        tasks: names of those that were asked for.
        seconds: how long it took.
        animations: all that it was to make.
        errors, more_errors: the first, and how many more there are.
    """

    state: str
    tasks: tuple[str, ...]
    seconds: float
    animations: tuple[Animation, ...]
    errors: tuple[Error, ...]
    more_errors: int

    @property
    def missing(self) -> list[Animation]:
        """The animations that are not there."""
        return [animation for animation in self.animations if animation.state == MISSING]

    @property
    def frames(self) -> int:
        """Frames of all animations that are there, as far as they are known."""
        return sum(animation.frames or 0 for animation in self.animations)

    @property
    def headline(self) -> str:
        """It in one line, such as the subject of a mail."""
        count = len(self.animations)
        if not count:
            what = ", ".join(self.tasks)
        elif count == 1:
            what = self.animations[0].name
        else:
            what = f"{len(self.missing)} of {count} animations not made" if self.missing else f"{count} animations"
        frames = f", {plural(self.frames, 'frame')}" if self.frames else ""
        return f"imagetl_luigi: {self.state}: {what}{frames}"

    @property
    def text(self) -> str:
        """It in some lines."""
        lines = [self.headline, f"{duration(self.seconds)} on {socket.gethostname()}"]
        errors = self.errors
        if len(self.animations) > 1:
            told = {animation.error for animation in self.missing}
            errors = tuple(error for error in errors if error.message not in told)
            lines += _some([f"{MISSING}: {_told(animation)}" for animation in self.missing])
        lines += [f"{error.kind}: {error.message}" for error in errors]
        lines += [f"… and {self.more_errors} more errors"] if errors and self.more_errors else []
        for state in (MADE, THERE):
            lines += _some([f"{state}: {_place(one)}" for one in self.animations if one.state == state])
        return "\n".join(lines)

    @property
    def failed_streams(self) -> str:
        """Which streams failed, and why, in one line; empty if none did or there was only one."""
        failed = [_told(animation) for animation in self.missing if animation.error]
        if not failed or len(self.animations) == 1:
            return ""
        return f"{len(failed)} of {len(self.animations)} animations failed: {'; '.join(_some(failed))}"

    @property
    def not_run(self) -> str:
        """Which of the tasks asked for were not run though nothing failed, and why; empty if there are none."""
        return "; ".join(f"{one.task}: {one.message}" for one in self.errors if one.message in (ELSEWHERE, GIVEN_UP))


def summarise(run: Run) -> Report | None:
    """What Luigi knows of a run, or None if none of its tasks is ours. For the frames see `count_frames`."""
    scheduled = run.worker._scheduled_tasks if run.worker else {}
    if not any(isinstance(task, ImagetlTask) for task in [*scheduled.values(), *run.tasks]) or run.worker is None:
        return None
    history = run.worker._add_task_history
    waited = {task.task_id for task, status, _ in history if status == luigi.task_status.PENDING}
    done = {task.task_id: status == luigi.task_status.DONE for task, status, _ in history}
    animations: list[Animation] = []
    for target, identity, page in _targets(scheduled, done):
        state = MISSING if not done.get(identity) else MADE if identity in waited else THERE
        animations.append(_animation(target, page, state, _cause(run, identity)))
    errors = list(_errors(run, scheduled, done))
    return Report(
        state=_state(run, done, waited),
        tasks=tuple(one_line(task.task_family) for task in run.tasks),
        seconds=run.seconds,
        animations=tuple(animations),
        errors=tuple(errors[:MOST_ERRORS]),
        more_errors=len(errors[MOST_ERRORS:]),
    )


def _targets(scheduled: dict[str, luigi.Task], done: dict[str, bool]) -> Iterator[tuple[GifTarget, str, str]]:
    """Each animation, the task that makes it, and the path of its page. A page that is there needs none of them."""
    targets = [(task.output(), identity) for identity, task in scheduled.items() if isinstance(task, ImagetlTask)]
    watched = [(target, identity) for target, identity in targets if isinstance(target, WatchTarget)]
    pages = {target.animation.path: target.path for target, identity in watched if done.get(identity)}
    gifs = [(target, identity) for target, identity in targets if isinstance(target, GifTarget)]
    gifs += [(target.animation, identity) for target, identity in watched]
    seen: set[str] = set()
    for target, identity in gifs:
        if target.path not in seen:
            seen.add(target.path)
            yield target, identity, pages.get(target.path, "")


def count_frames(report: Report) -> Report:
    """The report with the frames of each animation that is there: one short read each."""
    return replace(
        report,
        animations=tuple(
            one if one.state == MISSING else replace(one, frames=_count(one.manifest)) for one in report.animations
        ),
    )


def _count(path: str) -> int | None:
    try:
        manifest = read_manifest(path)
    except ImagetlError:
        return None
    return manifest.count if manifest else None


def _state(run: Run, done: dict[str, bool], waited: set[str]) -> str:
    if isinstance(run.error, KeyboardInterrupt):
        return INTERRUPTED
    if run.error is not None or not all(done.get(task.task_id) for task in run.tasks):
        return FAILED
    return DONE if any(done[identity] for identity in waited) else NOTHING


def _animation(target: GifTarget, page: str, state: str, error: str) -> Animation:
    workspace = target.workspace.absolute()
    return Animation(
        name=one_line(_name(workspace.root)),
        gif=one_line(workspace.gif),
        manifest=workspace.manifest,
        page=one_line(workspace.page) if page else "",
        state=state,
        error=error if state == MISSING else "",
    )


def _name(root: str) -> str:
    """The name of a workspace; of a night, with the stream that it is of."""
    folder, name = posixpath.split(root)
    return f"{posixpath.basename(folder)}/{name}" if nights.parse(name) else name


def _errors(run: Run, scheduled: dict[str, luigi.Task], done: dict[str, bool]) -> Iterator[Error]:
    """What ended the run, then why tasks failed; if nothing says why one that was asked for is not done, that."""
    if run.error is not None and not isinstance(run.error, KeyboardInterrupt):
        yield Error(kind="Luigi", task="", message=one_line(logs.explain(run.error)))
    for identity, text in run.failures.items():
        if identity in scheduled:
            yield _error(scheduled[identity], text)
    undone = [task for task in run.tasks if not done.get(task.task_id)]
    if run.error is None and not run.failures and undone:
        known = _summary_dict(run.worker)
        elsewhere = known["run_by_other_worker"] | known["upstream_run_by_other_worker"]
        for task in undone:
            yield _error(task, ELSEWHERE if task in elsewhere else GIVEN_UP)


def _error(task: luigi.Task, text: str) -> Error:
    return Error(kind=one_line(task.task_family), task=one_line(str(task)), message=_reason(text))


def _cause(run: Run, identity: str) -> str:
    """Why a task failed, or the first of those that it needs; empty if nothing is known."""
    waiting, seen = [identity], set()
    while waiting:
        identity = waiting.pop()
        if identity in run.failures:
            return _reason(run.failures[identity])
        seen.add(identity)
        waiting += [need for need in reversed(run.needs.get(identity, [])) if need not in seen]
    return ""


def _reason(text: str) -> str:
    """An explanation of Luigi's in one line: of a traceback, its error."""
    text = logs.without_traceback(text)
    return one_line(_FRAMES.split(text)[-1] if "Traceback (most recent call last)" in text else text)


def _told(animation: Animation) -> str:
    return f"{animation.name}: {animation.error}" if animation.error else animation.name


def _place(animation: Animation) -> str:
    frames = f", {plural(animation.frames, 'frame')}" if animation.frames is not None else ""
    return animation.gif + frames + (f"; {animation.page}" if animation.page else "")


def _some(lines: list[str]) -> list[str]:
    return lines[:MOST_LINES] + ([f"… and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])


def one_line(text: str) -> str:
    r"""The text without line breaks and what else cannot be shown, of LONGEST characters at the most.

    It comes from servers, URLs and file names, and goes into the header of a mail and into a chat.

    >>> one_line("a\r\nBcc: b\x1b[31m")
    'a Bcc: b�[31m'
    """
    shown = " ".join(logs.without_passwords(text).split())
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in shown)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def duration(seconds: float) -> str:
    """A time for people.

    >>> [duration(seconds) for seconds in (0.04, 59.94, 59.96, 3599.6, 7380)]
    ['0.0 s', '59.9 s', '1 min 0 s', '1 h 0 min', '2 h 3 min']
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
