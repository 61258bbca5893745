"""report: what a run came to, from real runs."""

from __future__ import annotations

import datetime
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luigi.rpc import RPCError
from pictures import gif
from server import Server
from workflow import stream

from imagetl_luigi import CombineGif, NightlyGif, Split, WatchPage, report, run_end
from imagetl_luigi.errors import StorageError
from imagetl_luigi.report import DONE, FAILED, INTERRUPTED, MADE, MISSING, NOTHING, THERE, Animation, Report
from imagetl_luigi.run_end import Run

FRAMES = [gif(seed=seed) for seed in range(8)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of their own for each test: retries without a pause, and a run that does not stay for them."""
    config = luigi.configuration.LuigiConfigParser()
    config.read_dict({"download": {"retry_wait": "0"}, "scheduler": {"batch_emails": "true"}})
    monkeypatch.setattr(luigi.configuration.LuigiConfigParser, "_instance", config)
    yield


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Report | None]:
    """Those of the runs that ended."""
    made: list[Report | None] = []
    monkeypatch.setattr(run_end, "_functions", [])
    run_end.call(lambda run: made.append(report.summarise(run)))
    return made


def combine(url: str, workspace: Path) -> CombineGif:
    return CombineGif(url=url, workspace=str(workspace))


def run(*tasks: luigi.Task, workers: int = 1) -> bool:
    return luigi.build(tasks, local_scheduler=True, workers=workers)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_that_ends_well(server: Server, tmp_path: Path, reports: list[Report], workers: int) -> None:
    task = combine(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    assert run(task, workers=workers)
    assert run(task, workers=workers)
    first, second = reports
    assert (first.state, second.state) == (DONE, NOTHING)
    assert first.tasks == ("CombineGif",)
    assert 0 < first.seconds < 60
    assert (first.errors, first.more_errors) == ((), 0)
    (animation,) = report.count_frames(first).animations
    place = tmp_path / "cam"
    assert animation == Animation(
        name="cam", gif=f"{place}/clip.gif", manifest=f"{place}/manifest.json", state=MADE, frames=8
    )
    assert second.animations[0].state == THERE
    assert report.count_frames(second).headline == "imagetl_luigi: nothing to do: cam, 8 frames"
    assert report.count_frames(first).text.splitlines() == [
        "imagetl_luigi: done: cam, 8 frames",
        f"{report.duration(first.seconds)} on {socket.gethostname()}",
        f"made: {place}/clip.gif, 8 frames",
    ]


def test_of_a_page_the_animation_is_told_and_where_the_page_lies(
    server: Server, tmp_path: Path, reports: list[Report]
) -> None:
    page = WatchPage(url=server.put("/a.img", stream(FRAMES)), workspace=str(tmp_path / "cam"))
    assert run(page)
    assert run(page)
    shutil.rmtree(tmp_path / "cam/frames")
    (tmp_path / "cam/contact-sheet.jpg").write_text("mine")
    assert not run(page)
    states = [(report.state, one.state, one.page) for report in reports for one in report.animations]
    there = f"{tmp_path}/cam/index.html"
    assert states == [(DONE, MADE, there), (NOTHING, THERE, there), (FAILED, THERE, "")]
    assert reports[0].text.endswith(f"made: {tmp_path}/cam/clip.gif; {there}")


def test_the_frames_of_a_workspace_that_was_emptied_are_not_known(
    server: Server, tmp_path: Path, reports: list[Report]
) -> None:
    task = combine(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    run(task)
    (tmp_path / "cam/manifest.json").unlink()
    run(task)
    second = report.count_frames(reports[1])
    assert second.animations[0].frames is None
    assert second.text.endswith(f"there already: {tmp_path}/cam/clip.gif")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_that_fails_says_why(server: Server, tmp_path: Path, reports: list[Report], workers: int) -> None:
    run(combine(server.url("/none"), tmp_path / "cam"), workers=workers)
    (failed,) = reports
    why = f"DownloadError: {server.url('/none')} answered 404 Not Found; check the URL"
    assert failed.state == FAILED
    (error,) = failed.errors
    assert (error.kind, error.message) == ("Download", why)
    assert error.task.startswith(f"Download(url={server.url('/none')}, ")
    assert (failed.animations[0].state, failed.animations[0].error) == (MISSING, why)
    assert failed.headline == "imagetl_luigi: failed: cam"
    assert failed.text.splitlines()[2:] == [f"Download: {why}"]
    assert failed.failed_streams == ""


def test_of_many_errors_the_first_are_told(server: Server, tmp_path: Path, reports: list[Report]) -> None:
    for number in range(7):
        (tmp_path / f"cam/frames/frame_0{number}.gif").mkdir(parents=True)
    run(combine(server.put("/a", stream(FRAMES)), tmp_path / "cam"))
    (failed,) = reports
    assert [error.kind for error in failed.errors] == ["WriteFrame"] * 5
    assert failed.more_errors == 2
    assert failed.text.endswith("\n… and 2 more errors")
    assert failed.animations[0].error.startswith("StorageError: cannot write ")


def test_of_many_streams_it_says_which_failed_and_why(server: Server, tmp_path: Path, reports: list[Report]) -> None:
    urls = [server.put("/a", stream(FRAMES)), server.url("/none"), server.put("/b", b""), server.put("/c", FRAMES[0])]
    tasks = [combine(url, tmp_path / name) for url, name in zip(urls, ["a", "pier", "harbour", "c"], strict=True)]
    run(tasks[3])
    run(*tasks)
    failed = report.count_frames(reports[1])
    pier = f"pier: DownloadError: {urls[1]} answered 404 Not Found; check the URL"
    harbour = f"harbour: DownloadError: {urls[2]} is empty; check the URL"
    assert failed.headline == "imagetl_luigi: failed: 2 of 4 animations not made, 9 frames"
    assert failed.failed_streams == f"2 of 4 animations failed: {pier}; {harbour}"
    assert failed.text.splitlines()[2:] == [
        f"not made: {pier}",
        f"not made: {harbour}",
        f"made: {tmp_path}/a/clip.gif, 8 frames",
        f"there already: {tmp_path}/c/clip.gif, 1 frame",
    ]


class Unreadable(CombineGif):
    """One in whose workspace we may not look."""

    def complete(self) -> bool:
        raise StorageError("cannot read clip.gif: Permission denied")


def test_a_night_is_named_with_its_stream(server: Server, tmp_path: Path, reports: list[Report]) -> None:
    date = datetime.date(2026, 11, 24)
    run(NightlyGif(url=server.url("/none"), root=str(tmp_path / "pier"), date=date))
    assert [animation.name for animation in reports[0].animations] == ["pier/2026-11-24"]


def test_what_fails_before_it_runs_is_told(tmp_path: Path, reports: list[Report]) -> None:
    run(Unreadable(url="a.img", workspace=str(tmp_path / "cam")))
    (failed,) = reports
    assert failed.state == FAILED
    (error,) = failed.errors
    assert (error.kind, error.message) == ("Unreadable", "StorageError: cannot read clip.gif: Permission denied")
    assert failed.animations[0].error == error.message


class Broken(Split):
    """One that fails in a way that nobody thought of."""

    def run(self) -> None:
        raise ZeroDivisionError("of what?\nand more")


def test_an_error_that_is_none_of_ours_is_told_in_one_line(
    server: Server, tmp_path: Path, reports: list[Report]
) -> None:
    run(Broken(url=server.put("/a", stream(FRAMES)), workspace=str(tmp_path / "cam"), delimiter="x"))
    (failed,) = reports
    assert failed.animations == ()
    assert failed.headline == "imagetl_luigi: failed: Broken"
    assert failed.errors[0].message == "ZeroDivisionError: of what? and more"


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), INTERRUPTED), (RPCError("luigid is gone"), FAILED)])
def test_a_run_that_ended_early(
    server: Server, tmp_path: Path, reports: list[Report], error: BaseException, state: str
) -> None:
    class Stopped(luigi.interface._WorkerSchedulerFactory):
        def create_local_scheduler(self) -> luigi.scheduler.Scheduler:
            scheduler = super().create_local_scheduler()
            scheduler.get_work = stop
            return scheduler

    def stop(**_: object) -> None:
        raise error

    with pytest.raises(type(error)):
        luigi.build([combine(server.url("/a"), tmp_path / "cam")], Stopped(), local_scheduler=True)
    (early,) = reports
    assert early.state == state
    assert [(one.kind, one.message) for one in early.errors] == (
        [("Luigi", "RPCError: luigid is gone")] if state == FAILED else []
    )
    assert early.headline == f"imagetl_luigi: {state}: cam"
    assert early.failed_streams == ""


def test_what_somebody_else_runs_is_not_made_here(server: Server, tmp_path: Path, reports: list[Report]) -> None:
    class Busy(luigi.interface._WorkerSchedulerFactory):
        def create_local_scheduler(self) -> luigi.scheduler.Scheduler:
            scheduler = super().create_local_scheduler()
            task = combine(server.url("/a"), tmp_path / "cam")
            named = {"family": task.task_family, "params": task.to_str_params(), "module": task.task_module}
            scheduler.add_task(worker="other", task_id=task.task_id, status="PENDING", runnable=True, **named)
            scheduler.get_work(worker="other", host="there")
            return scheduler

    luigi.build([combine(server.url("/a"), tmp_path / "cam")], Busy(), local_scheduler=True)
    assert reports[0].state == FAILED


def test_a_run_of_other_tasks_is_none_of_ours(tmp_path: Path, reports: list[Report | None]) -> None:
    class Other(luigi.Task):
        """A task that is done."""

        def complete(self) -> bool:
            return True

    run(Other())
    assert reports == [None]


def test_a_run_that_never_began_is_none_of_ours() -> None:
    assert report.summarise(Run([CombineGif(url="a.img")], error=SystemExit())) is None


def test_a_text_names_some_and_counts_the_others() -> None:
    made = [Animation(name=f"{n}", gif=f"/{n}.gif", manifest="", state=MADE, frames=1) for n in range(30)]
    missing = [Animation(name=f"cam {n}", gif="", manifest="", state=MISSING, error="E: no") for n in range(25)]
    long = Report(state=FAILED, tasks=(), seconds=1, animations=(*made, *missing), errors=(), more_errors=0)
    lines = long.text.splitlines()
    assert lines[0] == "imagetl_luigi: failed: 25 of 55 animations not made, 30 frames"
    assert lines[2] == "not made: cam 0: E: no"
    assert lines[22] == "… and 5 more"
    assert lines[23] == "made: /0.gif, 1 frame"
    assert lines[43:] == ["… and 10 more"]
    assert long.failed_streams.endswith("; cam 19: E: no; … and 5 more")


@given(st.text(st.characters()))
def test_what_comes_from_elsewhere_stays_in_its_line(text: str) -> None:
    shown = report.one_line(text)
    assert shown.isprintable()
    assert len(shown) <= report.LONGEST
    shown.encode()


def test_a_line_keeps_what_can_be_shown() -> None:
    assert report.one_line("sjø\r\nBcc: b\x1b[31m\udcff\u202e") == "sjø Bcc: b�[31m��"
    assert report.one_line("x" * 2000) == "x" * 999 + "…"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"), (7380, "2 h 3 min")],
)
def test_a_time_is_for_people(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text
