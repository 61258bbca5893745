"""luigid's own page in a real browser, while the workflow runs under it and afterwards."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import conftest
import psutil
import pytest
from browser import Browser, browser  # noqa: F401 - the fixture
from luigid import OurLuigid, hasty
from pictures import gif
from selenium.webdriver.remote.webelement import WebElement
from waiting import until, wait_until
from workflow import command, started, stream

pytestmark = pytest.mark.slow

STAGES = ["CombineGif", "WriteFrames", "Split", "Download"]

ELSEWHERE = ("https://fonts.googleapis.com/", "https://cdnjs.cloudflare.com/ajax/libs/", "/favicon.ico")
"""What Luigi's pages ask for and can do without: a font, and what draws the chart of a task's past."""


@pytest.fixture(scope="module")
def luigid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurLuigid]:
    folder = tmp_path_factory.mktemp("luigid")
    with OurLuigid(folder, hasty(folder / "luigi.cfg", retry_count=1)) as running:
        conftest._servers.update(psutil.Process().children())
        yield running


def arguments(luigid: OurLuigid, folder: Path, frames: int) -> list[str]:
    """The workflow on a file of so many frames, with all paths in the folder."""
    (folder / "a.img").write_bytes(stream(gif((4, 4), seed=seed % 7) for seed in range(frames)))
    paths = ["--url", str(folder / "a.img"), "--workspace", str(folder / "w")]
    return ["CombineGif", "--scheduler-port", str(luigid.port), *paths, "--dask-threads", "1"]


def run(luigid: OurLuigid, folder: Path, frames: int = 5) -> subprocess.CompletedProcess[str]:
    return command(*arguments(luigid, folder, frames), folder=folder, LUIGI_CONFIG_PATH=str(luigid.config))


def identity(luigid: OurLuigid, family: str, folder: Path) -> str:
    """The name under which luigid knows the task of this folder's run."""
    (task,) = (
        key
        for key, task in luigid.ask("task_list", status="", upstream_status="").items()
        if task["name"] == family and str(folder) in str(task["params"])
    )
    return str(task)


def strange(browser: Browser) -> list[str]:  # noqa: F811
    """Errors of the page, but for what it can do without."""
    return [error for error in browser.errors() if not any(known in error for known in ELSEWHERE)]


def states(browser: Browser) -> dict[str, str]:  # noqa: F811
    """The stages in the graph, from top to bottom, with their states."""
    nodes = "[...document.querySelectorAll('svg a.graph-node-a')]"
    return dict(browser.run(f"return {nodes}.map(node => [node.textContent, node.dataset.taskStatus])"))


def row(family: str, folder: Path) -> str:
    """XPath of the line of a task in the list."""
    return f"//tr[td[normalize-space()='{family}'] and td[contains(., '{folder}')]]"


def find_in_list(browser: Browser, luigid: OurLuigid, path: str) -> WebElement:  # noqa: F811
    """The element of luigid's list of tasks. Its page asks for each state by itself, and as the answers come it may
    list a task twice, which makes a second page of it, or not at all: so all on one page, and again, as a user does.
    """

    def shown() -> bool:
        browser.open(luigid.url("static/visualiser/index.html#length=100"))
        return wait_until(lambda: browser.find(path), 5)

    until(shown, seconds=10, every=1)
    return browser.find(path)[0]


def test_while_frames_are_written_the_page_shows_the_graph_and_how_far_it_is(
    luigid: OurLuigid,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    main = arguments(luigid, tmp_path, frames=3000)
    with started(*main, folder=tmp_path, LUIGI_CONFIG_PATH=str(luigid.config)) as running:

        def writes() -> bool:
            task = luigid.tasks("RUNNING").get("WriteFrames", {})
            return bool(task.get("progress_percentage"))

        until(writes, every=0.01)
        running.send_signal(signal.SIGSTOP)
        try:
            browser.open(
                luigid.url(f"static/visualiser/index.html#tab=graph&taskId={identity(luigid, 'CombineGif', tmp_path)}")
            )
            until(lambda: list(states(browser)) == STAGES)
            assert list(states(browser).values()) == ["PENDING", "RUNNING", "DONE", "DONE"]
            assert browser.run("return document.querySelectorAll('svg line.link').length") == 3

            message = f"{row('WriteFrames', tmp_path)}//button[contains(@class, 'statusMessage')]"
            find_in_list(browser, luigid, message).click()
            until(lambda: browser.texts("#statusMessageModal pre") == ["256 of 3,000 frames"])
            until(lambda: browser.texts("#statusMessageModal .progress-bar") == ["8%"])
        finally:
            running.send_signal(signal.SIGCONT)
        until(lambda: browser.texts("#statusMessageModal pre") == ["3,000 of 3,000 frames"])
        until(lambda: browser.texts("#statusMessageModal .progress-bar") == ["100%"])
        _, errors = running.communicate()
    assert running.returncode == 0, errors
    assert strange(browser) == []


def test_a_failed_frame_is_shown_with_the_text_of_its_error(
    luigid: OurLuigid,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "w/frames/frame_02.gif"
    in_the_way.mkdir(parents=True)
    assert run(luigid, tmp_path).returncode == 30
    assert (in_the_way.parent / "frame_04.gif").exists()
    find_in_list(browser, luigid, f"{row('WriteFrame', tmp_path)}//button[contains(@class, 'showError')]").click()
    until(lambda: any(browser.texts("#errorModal pre")))
    error = browser.texts("#errorModal pre")[0]  # below it, what runs the task again
    assert error.startswith(f"StorageError: cannot write {in_the_way}: Is a directory")
    assert "Traceback" not in error
    browser.open(
        luigid.url(f"static/visualiser/index.html#tab=graph&taskId={identity(luigid, 'CombineGif', tmp_path)}")
    )
    until(lambda: states(browser).get("WriteFrame") in ("FAILED", "DISABLED"))
    assert strange(browser) == []


def test_the_history_lists_the_run_and_the_events_of_each_stage(
    luigid: OurLuigid,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert run(luigid, tmp_path).returncode == 0
    browser.open(luigid.url())
    until(lambda: "History" in browser.texts("nav a"))
    browser.find("//a[normalize-space()='History']")[0].click()
    until(lambda: browser.texts("h2") == ["Luigi Task History"])
    rows = [line for line in browser.texts("table.table > tbody > tr") if str(tmp_path) in line]
    assert [line.split()[0] for line in rows] == STAGES
    assert all(" DONE " in line.splitlines()[0] + " " for line in rows)
    browser.find("//a[normalize-space()='CombineGif']")[0].click()
    until(lambda: "Actions" in browser.texts("h3"))
    events = [line.split()[0] for line in browser.texts("table:last-of-type tbody tr")][-3:]
    assert events == ["DONE", "RUNNING", "PENDING"]
    assert strange(browser) == []
