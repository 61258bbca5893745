"""The workflow under a real luigid."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from luigid import Luigid, hasty
from pictures import gif
from server import Server
from workflow import command, stream

from imagetl_luigi import Download
from imagetl_luigi.report import ELSEWHERE, GIVEN_UP

FRAMES = [gif(seed=seed) for seed in range(5)]


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[Luigid]:
    with Luigid(tmp_path) as running:
        yield running


def run(luigid: Luigid, folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    main = ("CombineGif", "--scheduler-port", str(luigid.port), "--url", url, "--workspace", "w")
    return command(*main, "--download-retry-wait", "0", *options, folder=folder)


def test_every_stage_is_shown_as_done_also_when_processes_of_their_own_run_them(
    luigid: Luigid, server: Server, tmp_path: Path
) -> None:
    result = run(luigid, tmp_path, server.put("/a", stream(FRAMES)), "--workers", "3")
    assert result.returncode == 0, result.stderr
    assert luigid.tasks("DONE").keys() == {"Download", "Split", "WriteFrames", "CombineGif"}
    assert (tmp_path / "w/clip.gif").exists()


def test_what_is_missing_again_is_made_again_at_once(luigid: Luigid, server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    assert run(luigid, tmp_path, url).returncode == 0
    (tmp_path / "w/clip.gif").unlink()
    assert run(luigid, tmp_path, url).returncode == 0
    assert (tmp_path / "w/clip.gif").exists()


def test_progress_is_shown(luigid: Luigid, server: Server, tmp_path: Path) -> None:
    data = stream(FRAMES)
    run(luigid, tmp_path, server.put("/a", data))
    shown = {
        name: luigid.ask("get_task_status_message", task_id=task["id"])["statusMessage"]
        for name, task in luigid.tasks("DONE").items()
    }
    assert shown["Download"] == f"{len(data):,} of {len(data):,} bytes"
    assert shown["Split"] == f"{len(data):,} of {len(data):,} bytes"
    assert shown["WriteFrames"] == "5 of 5 frames"
    assert shown["CombineGif"] == "5 of 5 frames"
    for task in ("Download", "Split", "WriteFrames", "CombineGif"):
        identity = luigid.tasks("DONE")[task]["id"]
        assert luigid.ask("get_task_progress_percentage", task_id=identity)["progressPercentage"] == 100


def test_what_luigid_gave_up_a_moment_ago_is_said_with_what_to_do(
    luigid: Luigid, server: Server, tmp_path: Path
) -> None:
    url = server.put("/a", b"no picture")
    assert run(luigid, tmp_path, url).returncode == 30
    again = run(luigid, tmp_path, url)
    assert again.returncode == 25
    assert again.stderr.count(GIVEN_UP) == 1


def test_what_another_run_has_is_said(luigid: Luigid, server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    task = Download(url=url, workspace="w")
    luigid.ask("add_task", worker="other", task_id=task.task_id, family="Download")
    luigid.ask("get_work", worker="other", host="h", current_tasks=[])
    main = ("Download", "--scheduler-port", str(luigid.port), "--url", url, "--workspace", "w")
    result = command(*main, folder=tmp_path)
    assert result.returncode == 10
    assert f"{ELSEWHERE}\n" in result.stderr
    assert GIVEN_UP not in result.stderr


@pytest.mark.slow
def test_the_dashboard_of_a_cluster_is_linked(luigid: Luigid, server: Server, tmp_path: Path) -> None:
    cluster = ("--dask-scheduler", "cluster", "--dask-cluster-workers", "1", "--dask-dashboard", "127.0.0.1:0")
    assert run(luigid, tmp_path, server.put("/a", stream(FRAMES)), *cluster).returncode == 0
    assert luigid.tasks("DONE")["WriteFrames"]["tracking_url"].startswith("http://127.0.0.1:")


def test_no_luigid_is_one_message_with_what_to_do_and_an_exit_code(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    settings = {"LUIGI_CONFIG_PATH": str(hasty(tmp_path / "luigi.cfg", attempts=2, wait=0))}
    result = command("CombineGif", "--scheduler-port", "9", "--url", url, folder=tmp_path, **settings)
    assert result.returncode == 40
    assert "RPCError: Errors (2 attempts) when connecting to remote scheduler 'http://localhost:9'; start luigid" in (
        result.stderr
    )
    assert "Traceback" not in result.stderr
    assert "NoneType" not in result.stderr
    assert "not consumed" not in result.stderr
    assert server.requests == []
