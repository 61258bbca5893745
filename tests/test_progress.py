"""progress: percentages for luigid, and bars at a terminal."""

from __future__ import annotations

import logging
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luigi.rpc import RemoteScheduler
from luigi.worker import TaskStatusReporter
from pictures import gif
from server import Server, cut, drip
from terminal import Terminal
from workflow import CONFIG, LUIGI, command, stream

from imagetl_luigi import progress
from imagetl_luigi.progress import INTERVAL, Progress


class Stage(luigi.Task):
    """A task that keeps what it is told, as a Luigi worker would pass it on."""

    def __init__(self) -> None:
        super().__init__()
        self.percentages: list[int] = []
        self.messages: list[str] = []
        self.set_progress_percentage = self.percentages.append
        self.set_status_message = self.messages.append


@pytest.fixture
def stage() -> Stage:
    return fresh_stage()


def fresh_stage() -> Stage:
    luigi.Task.clear_instance_cache()  # Luigi would give the one of the last test
    return Stage()


@pytest.mark.parametrize(
    ("done", "total", "message", "percentages"),
    [
        (0, 10, "0 of 10 frames", [0]),
        (1, 3, "1 of 3 frames", [33]),
        (10, 10, "10 of 10 frames", [100]),
        (1234567, 2000000, "1,234,567 of 2,000,000 frames", [61]),
        (11, 10, "11 of 10 frames", [100]),
        (5000, None, "5,000 frames", []),
        (0, 0, "0 frames", []),
    ],
)
def test_it_says_how_much_is_done(
    stage: Stage, done: int, total: int | None, message: str, percentages: list[int]
) -> None:
    Progress(stage, "frames")(done, total)
    assert stage.messages == [message]
    assert stage.percentages == percentages


@given(st.integers(1, 10**12).flatmap(lambda total: st.tuples(st.lists(st.integers(0, total)), st.just(total))))
def test_percentages_stay_in_bounds_and_the_end_is_always_told(steps: tuple[list[int], int]) -> None:
    stage = fresh_stage()
    report = Progress(stage, "bytes")
    counts, total = steps
    for done in [*sorted(counts), total]:
        report(done, total)
    assert stage.percentages == sorted(stage.percentages)
    assert stage.percentages[0] >= 0
    assert stage.percentages[-1] == 100
    assert stage.messages[-1] == f"{total:,} of {total:,} bytes"


def test_it_does_not_tell_every_step(stage: Stage) -> None:
    report = Progress(stage, "frames")
    start = time.monotonic()
    for done in range(10_000):
        report(done, None)
    assert len(stage.messages) <= 1 + (time.monotonic() - start) / INTERVAL


def test_it_tells_nobody_while_luigi_does_not_run_the_task(stage: Stage) -> None:
    stage.set_status_message = stage.set_progress_percentage = None
    Progress(stage, "frames")(10, 10)
    assert stage.messages == stage.percentages == []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal in which bars come at once."""
    with Terminal() as screen:
        monkeypatch.setattr(progress, "BAR_AFTER", 0.0)
        yield screen


@pytest.fixture
def handler(terminal: Terminal) -> Iterator[logging.Handler]:
    """A handler as Luigi has one, but of a higher level than its logger's, with a logger of a library."""
    logger = logging.getLogger("somebody.else")
    writing = logging.StreamHandler(terminal.file)
    writing.setLevel(logging.WARNING)
    writing.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(writing)
    logger.setLevel(logging.DEBUG)
    yield writing
    logger.removeHandler(writing)


@pytest.mark.parametrize(
    ("noun", "total", "bar"),
    [
        ("bytes", 5 << 20, r"Stage: +20%\|.+\| 1\.00M/5\.00M \[00:00<\?, \?B/s\]"),
        ("bytes", None, r"Stage: 1\.00MB \[00:00, \?B/s\]"),
        ("frames", 2 << 20, r"Stage: +50%\|.+\| 1048576/2097152 \[00:00<\?, \? frames/s\]"),
    ],
)
def test_a_bar_says_how_much_is_done_and_is_gone_when_the_stage_ends(
    terminal: Terminal, stage: Stage, noun: str, total: int | None, bar: str
) -> None:
    with redirect_stderr(terminal.file), Progress(stage, noun) as report:
        report(1 << 20, total)
    assert terminal.lines() == [""]
    assert [line for line in terminal.seen if re.fullmatch(bar, line)], terminal.seen


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_is_gone_when_the_stage_breaks_off_and_log_lines_stand_above_it(
    terminal: Terminal, handler: logging.Handler, stage: Stage, error: type[BaseException]
) -> None:
    logger = logging.getLogger("somebody.else")
    with pytest.raises(error), redirect_stderr(terminal.file), Progress(stage, "frames") as report:
        report(1, 10)
        logger.warning("one")
        logger.info("not to be shown")
        report(2, 10)
        logger.error("two")
        raise error
    logger.warning("three")
    assert logger.handlers == [handler]
    assert terminal.lines() == ["WARNING: one", "ERROR: two", "WARNING: three", ""]
    assert any(line.startswith("Stage:  20%") for line in terminal.seen)


def test_what_others_write_stands_above_it_in_whole_lines(terminal: Terminal, stage: Stage) -> None:
    with redirect_stderr(terminal.file), Progress(stage, "frames") as report:
        report(1, 10)
        print("one", "two", file=sys.stderr)
        logging.lastResort.handle(logging.makeLogRecord({"msg": "three", "levelno": logging.WARNING}))  # type: ignore[union-attr]
        report(2, 10)
        sys.stderr.write("begun")
    assert terminal.lines() == ["one two", "three", "begun"]
    assert any(line.startswith("Stage:  10%") for line in terminal.seen)


def test_a_terminal_that_can_only_write_lines_has_none(
    terminal: Terminal, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(terminal.file), Progress(stage, "frames") as report:
        report(1, 10)
    assert terminal.lines() == [""]
    assert terminal.seen == {""}


def test_a_download_that_starts_anew_and_learns_its_length_is_shown_so(
    terminal: Terminal, handler: logging.Handler, stage: Stage
) -> None:
    with redirect_stderr(terminal.file), Progress(stage, "bytes") as report:
        report(4096, None)
        report(1024, 8192)
        logging.getLogger("somebody.else").warning("after it the bar is drawn anew")
    assert terminal.lines()[1:] == [""]
    assert any(re.match(r"Stage: +12%.* 1\.00k/8\.00k ", line) for line in terminal.seen)


def test_a_short_stage_has_none(terminal: Terminal, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BAR_AFTER", 60.0)
    with redirect_stderr(terminal.file), Progress(stage, "frames") as report:
        report(1, 10)
    assert terminal.lines() == [""]
    assert terminal.seen == {""}


FRAMES = [gif(seed=seed) for seed in range(3)]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LUIGI_CONFIG_PATH": str(CONFIG)}
MAIN = ["CombineGif", "--local-scheduler", "--workspace", "w", "--download-retry-wait", "0"]


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+", "0", line).rstrip() for line in lines]


@pytest.mark.slow
def test_the_plain_command_shows_a_bar_at_a_terminal_and_the_same_lines_as_without(
    server: Server, tmp_path: Path
) -> None:
    arguments = [*MAIN, "--url", server.put("/a", stream(FRAMES), etag='"1"')]
    for where in ("terminal", "pipe"):
        (tmp_path / where).mkdir()
        server.once(drip(0.003), cut(250))  # a bar comes, and then a warning
        server.once()
    with Terminal() as screen:
        environment = {**ENVIRONMENT, "TMPDIR": tempfile.gettempdir()}
        lines = screen.run([LUIGI, "--module", "imagetl_luigi", *arguments], tmp_path / "terminal", environment)
    piped = command(*arguments, folder=tmp_path / "pipe").stderr
    assert without_numbers(lines) == without_numbers(piped.split("\n"))
    assert any("broke off" in line for line in lines)
    bars = [line for line in screen.seen if line.startswith("Download: ")]
    assert bars
    assert all(re.fullmatch(r"Download: +\d+%\|.*\| \d+\.?\d*/\d+ \[00:\d\d<.*B/s\]", line) for line in bars), bars
    assert "\r" not in piped


AT_ONCE = (
    "from imagetl_luigi import progress\nprogress.BAR_AFTER = 0\nfrom luigi.cmdline import luigi_run\nluigi_run()\n"
)
"""The luigi command, which shows bars at once."""


@pytest.mark.parametrize("workers", ["1", "3"])
def test_each_stage_has_a_bar_unless_stages_run_in_processes_of_their_own(
    server: Server, tmp_path: Path, workers: str
) -> None:
    url = server.put("/a", stream(FRAMES))
    environment = {**ENVIRONMENT, "TMPDIR": tempfile.gettempdir()}
    arguments = ["-c", AT_ONCE, "--module", "imagetl_luigi", *MAIN, "--url", url, "--workers", workers]
    with Terminal() as screen:
        lines = screen.run([sys.executable, *arguments], tmp_path, environment)
    assert (tmp_path / "w/clip.gif").exists(), lines
    bar = re.compile(r"(\w+): +\d+%\|.*(B|frames)/s\]")
    shown = {match.groups() for match in map(bar.fullmatch, screen.seen) if match}
    stages = {("Download", "B"), ("Split", "B"), ("WriteFrames", "frames"), ("CombineGif", "frames")}
    assert shown == (stages if workers == "1" else set())
    assert not any(bar.search(line) for line in lines)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of one that is stopped, or hangs: it accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def away() -> str:
    """The URL where none listens."""
    return "http://127.0.0.1:9"


@pytest.fixture
def login(server: Server) -> str:
    """The URL of a proxy that answers with a page of its own."""
    return server.put("/api/set_task_status_message", b"<h1>Who are you?</h1>").removesuffix(
        "/api/set_task_status_message"
    )


@pytest.mark.parametrize("luigid", ["away", "silent", "login"])
def test_a_luigid_that_does_not_answer_is_said_once_and_keeps_no_stage_from_its_work(
    stage: Stage,
    luigid: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.4)
    monkeypatch.setattr(progress, "PAUSE", 0.4)  # as long as such a request, which must not count
    url = request.getfixturevalue(luigid)
    scheduler = RemoteScheduler(url)
    scheduler._rpc_retry_attempts, scheduler._rpc_retry_wait = 36, 5
    asked: list[str] = []
    fetch = scheduler._fetcher.fetch

    def noting(url: str, *rest: object) -> object:
        asked.append(url)
        return fetch(url, *rest)

    monkeypatch.setattr(scheduler._fetcher, "fetch", noting)
    reporter = TaskStatusReporter(scheduler, "task", "worker", None)
    stage.set_status_message, stage.set_progress_percentage = (
        reporter.update_status_message,
        reporter.update_progress_percentage,
    )
    report = Progress(stage, "frames")
    for done in range(1000):
        report(done, 1000)
    report(1000, 1000)
    assert asked == 2 * [f"{url}/api/set_task_status_message"]  # the first, and the last
    assert [record.message.partition(": ")[0] for record in caplog.records] == [
        "Stage goes on, but luigid does not hear how far it is"
    ]
    assert (scheduler._rpc_retry_attempts, scheduler._connect_timeout, reporter._scheduler) == (36, 10, scheduler)
    scheduler.close()
