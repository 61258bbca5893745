"""The plain `luigi` command, as users type it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pictures import gif
from server import Server, cut, hold, pause, status
from waiting import until, wait_until
from workflow import CONFIG, LUIGI, build, changed, command, contents, started, stream, versions

from imagetl_luigi import CombineGif

FRAMES = [gif(seed=seed) for seed in range(3)]
MAIN = ("CombineGif", "--local-scheduler", "--workspace", "w", "--download-retry-wait", "0")


def test_it_works_from_any_folder_and_without_any_luigi_cfg(server: Server, tmp_path: Path) -> None:
    url = server.put("/all images.img", stream(FRAMES))
    run = command("CombineGif", "--local-scheduler", "--url", url, folder=tmp_path, config=False)
    assert run.returncode == 0, run.stderr
    (workspace,) = (tmp_path / "data").iterdir()
    assert workspace.name.startswith("all-20images-") or workspace.name.startswith("all-images-")
    assert (workspace / "clip.gif").exists()


def test_help_shows_every_parameter_with_its_text(tmp_path: Path) -> None:
    text = command("CombineGif", "--help", folder=tmp_path).stdout
    for flag in ("url", "workspace", "data-file", "gif", "delimiter", "delay", "loop", "verify"):
        assert f"--{flag} " in text
    assert "a multiple of 10" in text


FAILURES = {
    "no such file": (lambda server: server.url("/none"), "answered 404", 30),
    "server error": (lambda server: server.always(status(500)) or server.put("/a", b"x"), "answered 500", 30),
    "refused": (lambda server: "http://127.0.0.1:9/a.img", "Connection refused", 30),
    "cut off": (lambda server: server.always(cut(9)) or server.put("/a", stream(FRAMES)), "broke off", 30),
    "empty": (lambda server: server.put("/a", b""), "is empty", 30),
    "web page": (lambda server: server.put("/a", b"<!DOCTYPE html><html></html>"), "is a web page", 30),
    "no frame": (lambda server: server.put("/a", b"\n\n\n\n"), "holds no frame", 30),
    "truncated": (lambda server: server.put("/a", FRAMES[0][:-5]), "frame 0 at offset 0 breaks off", 30),
    "scheme": (lambda server: "gopher://127.0.0.1/a.img", "is of no known store. Allowed: ", 40),
    "missing path": (lambda server: "/no/such.img", "there is no file", 30),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_each_failure_has_one_clear_message_and_an_exit_code(server: Server, tmp_path: Path, failure: str) -> None:
    url, message, code = FAILURES[failure]
    run = command(*MAIN, "--url", url(server), folder=tmp_path)
    assert run.returncode == code
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "w/clip.gif").exists()
    assert not (tmp_path / "w/manifest.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--delay", "33"], "delay = 33 is not possible"),
        (["--delay", "fast"], "delay = 'fast' is not a whole number"),
        (["--loop", "-1"], "loop = -1 is not possible"),
        (["--gif", "../clip.gif"], "gif = '../clip.gif' is not possible"),
        (["--url", ""], "--url is empty"),
        (["--delimiter", ""], "--delimiter is empty"),
        (["--delimiter", "\\x"], "delimiter = '\\\\x' cannot be read"),
        (["--workspace", "http://host/w"], "'http://host/w' is no place in a store"),
        (["--dask-scheduler", "dusk"], "[dask] scheduler = 'dusk' is not known"),
        (["--limits-frames", "0"], "[limits] frames = 0 is too small"),
        (["--download-retries", "many"], "retries = 'many' is not a whole number"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_done(
    server: Server, tmp_path: Path, flags: list[str], message: str
) -> None:
    run = command(*MAIN, "--url", server.put("/a", stream(FRAMES)), *flags, folder=tmp_path)
    assert run.returncode == 40
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_with_the_defaults_a_source_that_is_down_for_15_seconds_is_survived(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a"
    with started("CombineGif", "--local-scheduler", "--workspace", "w", "--url", url, folder=tmp_path) as run:
        assert not wait_until(lambda: run.poll() is not None, 15, every=0.5)
        with Server(at=port) as server:
            server.put("/a", stream(FRAMES))
            _, errors = run.communicate()
    assert run.returncode == 0, errors
    assert errors.count("Connection refused; trying again in 10 s") == 2
    assert (tmp_path / "w/clip.gif").exists()


def test_neither_imageio_nor_distributed_is_imported_for_gif_frames(server: Server, tmp_path: Path) -> None:
    script = (
        "import sys, luigi, imagetl_luigi\n"
        "assert luigi.build([imagetl_luigi.CombineGif(url=sys.argv[1], workspace='w')], local_scheduler=True)\n"
        "assert not {'imageio', 'distributed', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    run = [sys.executable, "-c", script, server.put("/a", stream(FRAMES))]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "w/clip.gif").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle_of_the_download_it_goes_on_from_there(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    data = stream(FRAMES)
    url = server.put("/a", data, etag='"1"')
    server.once(hold(100))
    arguments = [LUIGI, "--module", "imagetl_luigi", *MAIN, "--url", url]
    part = tmp_path / "w/image-data.img.part"
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: part.exists() and part.stat().st_size == 100, 30)
        process.send_signal(number)
    assert process.returncode != 0
    assert not (tmp_path / "w/image-data.img").exists()
    assert command(*MAIN, "--url", url, folder=tmp_path).returncode == 0
    assert server.requests[-1].sent == len(data) - 100


@pytest.mark.slow
def test_two_runs_at_once_make_everything_once(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    second_waits = threading.Event()
    server.once(pause(100, until=second_waits))
    with started(*MAIN, "--url", url, "--gif", "other.gif", folder=tmp_path) as first:
        until(lambda: server.requests)
        with started(*MAIN, "--url", url, folder=tmp_path) as second:
            assert second.stderr
            assert any("Download waits for another run in w" in line for line in second.stderr)
            second_waits.set()
            errors = second.stderr.read()
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert len(server.requests) == 1
    assert (tmp_path / "w/clip.gif").exists()
    assert (tmp_path / "w/other.gif").exists()


KILLER = """
import os, signal, sys
from luigi.cmdline import luigi_run
moment, replace = int(os.environ["MOMENT"]), os.replace
def counting(*arguments):
    global moment
    moment -= 1
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments)
    moment -= 1
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = counting
luigi_run(sys.argv[1:])
"""
"""The luigi command, killed before or after one of the moments in which a file appears."""


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 22))
def test_killed_at_any_moment_and_run_again_it_ends_right_and_repeats_nothing(
    server: Server, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = server.put("/a", stream(FRAMES), etag='"1"')
    arguments = ["--module", "imagetl_luigi", *MAIN, "--dask-threads", "1", "--url", url]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments],
        cwd=tmp_path,
        env={**os.environ, "MOMENT": str(moment), "LUIGI_CONFIG_PATH": str(CONFIG)},
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert killed.returncode == (-signal.SIGKILL if moment <= 18 else 0)
    finished = versions(tmp_path)
    assert build(CombineGif(url=url, workspace="w")).scheduling_succeeded
    assert {name for name in changed(finished, versions(tmp_path)) & finished.keys() if "part" not in name} <= {
        name for name in finished if name.endswith(".tmp") or name.endswith(".source.json")
    }
    if moment > 2:  # before, the body was under way
        assert sum(request.sent for request in server.requests) == len(stream(FRAMES))
    assert contents(tmp_path).keys() == {
        "w/.lock",
        "w/.image-data.img.source.json",
        "w/image-data.img",
        "w/manifest.json",
        "w/frames/.manifest-digest",
        *(f"w/frames/frame_0{number}.gif" for number in range(3)),
        "w/clip.gif",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hog", "made"), [(220_000, set()), (150_000, {"image-data.img"}), (90_000, {"manifest.json"})]
)
def test_a_full_disk_fails_with_one_message_and_the_next_run_ends_right(
    server: Server, tmp_path: Path, small_disk: Path, hog: int, made: set[str]
) -> None:
    frames = [gif((80, 80), seed=seed, colours=256) for seed in range(6)]
    main = (*MAIN, "--url", server.put("/a", stream(frames), etag='"1"'), "--workspace", small_disk / "w")
    (small_disk / "hog").write_bytes(bytes(hog))
    run = command(*main, folder=tmp_path)
    assert run.returncode == 30
    assert "o space" in run.stderr
    assert "Traceback" not in run.stderr
    assert made <= contents(small_disk / "w").keys()
    assert not (small_disk / "w/clip.gif").exists()
    assert all(path.read_bytes() in frames for path in small_disk.glob("w/frames/frame_*"))
    (small_disk / "hog").unlink()
    assert command(*main, folder=tmp_path).returncode == 0
    assert stream(path.read_bytes() for path in sorted(small_disk.glob("w/frames/frame_*"))) == stream(frames)
    assert sum(request.sent for request in server.requests) < 2 * len(stream(frames))
