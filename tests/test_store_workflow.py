"""The workflow in a workspace of an object store: what it makes and keeps is what a local run makes and keeps."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import luigi
import pytest
import s3_requests
from pictures import encode, gif, noise, raw_gif
from PIL import Image
from s3 import S3, SECRET
from server import Server
from waiting import until
from workflow import CONFIG, DELIMITER, LUIGI, build, changed, command, stream

from imagetl_luigi import CombineGif, Split, remote, stage, storage, upload
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.errors import FrameError, StorageError
from imagetl_luigi.settings import DaskSettings, MiB

FRAMES = [gif(seed=seed, duration=70) for seed in range(5)]
MADE = {
    "image-data.img",
    ".image-data.img.source.json",
    "manifest.json",
    "frames/.manifest-digest",
    *(f"frames/frame_0{number}.gif" for number in range(5)),
    "clip.gif",
}
OF_THE_PLACE = {".lock", ".image-data.img.source.json", "manifest.json"}
"""Files that a local workspace has alone, or in which stands when a file was written."""


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Retries without a pause, and no object of another test."""
    config = luigi.configuration.get_config()
    config.set("download", "retry_wait", "0")
    yield
    config.set("download", "retry_wait", "10")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def url(server: Server) -> str:
    return server.put("/cam.img", stream(FRAMES), etag='"1"')


@pytest.fixture
def place() -> str:
    return "memory://w"


@pytest.fixture
def task(url: str, place: str) -> CombineGif:
    """The whole workflow, done once in memory."""
    task = CombineGif(url=url, workspace=place)
    assert build(task).scheduling_succeeded
    return task


def names(place: str) -> list[str]:
    """All objects below a URL, or files below a folder."""
    fs, root = fsspec.core.url_to_fs(place)
    fs.invalidate_cache()
    return sorted(filter(None, (name[len(root) + 1 :] for name in fs.find(root))))


def contents(place: str) -> dict[str, str]:
    """Digest of each."""
    return {name: hashlib.sha256(storage.read_bytes(f"{place}/{name}")).hexdigest() for name in names(place)}


def versions(place: str) -> dict[str, object]:
    """What changes when one is written again, even with the same bytes."""
    fs, root = fsspec.core.url_to_fs(place)
    fs.invalidate_cache()
    found = {name: fs.info(f"{root}/{name}") for name in names(place)}
    return {name: str(info.get("LastModified") or info.get("created")) for name, info in found.items()}


def like_local(place: str, url: str, folder: Path, **options: object) -> None:
    """Hold the workspace against one that the same run makes on this machine."""
    local = str(folder / "like")
    assert build(CombineGif(url=url, workspace=local, **options)).scheduling_succeeded
    made, same = contents(place), contents(local)
    assert made.keys() == same.keys() - {".lock"}
    for name in made.keys() - OF_THE_PLACE:
        assert made[name] == same[name], name
    listed = [json.loads(storage.read_bytes(f"{where}/manifest.json")) for where in (place, local)]
    assert listed[0]["frames"] == listed[1]["frames"]


def pictures(data: bytes) -> list[bytes]:
    """Every picture of an animation, as RGB."""
    with Image.open(io.BytesIO(data)) as animation:
        shown = []
        for number in range(getattr(animation, "n_frames", 1)):
            animation.seek(number)
            shown.append(animation.convert("RGB").tobytes())
        return shown


def pixels(frames: list[bytes]) -> list[bytes]:
    return [pictures(frame)[0] for frame in frames]


# As in a local workspace


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_a_run_leaves_what_a_local_one_leaves(url: str, store: str, s3: str, tmp_path: Path) -> None:
    place = "memory://w" if store == "memory" else s3
    assert build(CombineGif(url=url, workspace=place)).scheduling_succeeded
    assert set(names(place)) == MADE
    like_local(place, url, tmp_path)


def test_run_again_it_changes_nothing_and_asks_little(url: str, s3: str, server: Server) -> None:
    task = CombineGif(url=url, workspace=s3)
    assert build(task).scheduling_succeeded
    before = versions(s3)
    with s3_requests.listed() as requests:
        assert build(task).scheduling_succeeded
    assert versions(s3) == before
    assert len(server.requests) == 1
    assert len(requests) <= 10, requests
    assert all(request.startswith(("GET", "HEAD")) for request in requests)


def test_requests_do_not_grow_with_the_frames_but_for_one_each_that_writes_it(s3: str, server: Server) -> None:
    frames = [gif((4, 4), seed=seed) for seed in range(100)]
    task = CombineGif(url=server.put("/cam.img", stream(frames)), workspace=s3)
    with s3_requests.listed() as requests:
        assert build(task).scheduling_succeeded
    written = [request for request in requests if request.startswith("PUT") and "/frame_" in request]
    assert len(written) == len(set(written)) == 100
    assert len(requests) - len(written) < 110, requests
    with s3_requests.listed() as requests:
        assert build(task.clone(delay=40)).scheduling_succeeded
    assert len(requests) < 40, requests


def test_exactly_what_was_deleted_comes_back(task: CombineGif, place: str, server: Server) -> None:
    before, whole = versions(place), contents(place)
    deleted = {"frames/frame_00.gif", "frames/frame_02.gif", "frames/frame_04.gif", "clip.gif"}
    storage.remove_all(f"{place}/{name}" for name in sorted(deleted))
    assert build(task).scheduling_succeeded
    assert contents(place) == whole
    assert changed(before, versions(place)) == deleted
    assert len(server.requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"delay": 40}, {"loop": 3}, {"gif": "night.gif"}, {"gif": "of/the/night.gif"}])
def test_another_speed_or_name_changes_the_gif_and_nothing_else(
    task: CombineGif, url: str, place: str, tmp_path: Path, change: dict[str, object]
) -> None:
    before = versions(place)
    assert build(task.clone(**change)).scheduling_succeeded
    assert changed(before, versions(place)) == {change.get("gif", "clip.gif")}
    assert task.clone(**change).complete()
    local = CombineGif(url=url, workspace=str(tmp_path / "like"), **change)
    assert build(local).scheduling_succeeded
    assert storage.read_bytes(task.clone(**change).output().path) == storage.read_bytes(local.output().path)


def test_another_url_into_the_same_data_file_fails_and_changes_nothing(
    task: CombineGif, place: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    before = versions(place)
    other = server.put("/other.img", stream(FRAMES[:2]))
    assert not build(task.clone(url=other)).scheduling_succeeded
    assert versions(place) == before
    assert f"was fetched from {task.url} and not from {other}; choose another place" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_stream_that_changed_at_its_source_is_made_anew_when_all_was_removed(
    task: CombineGif, url: str, place: str, server: Server, tmp_path: Path
) -> None:
    server.put("/cam.img", stream(gif(seed=seed, duration=70) for seed in range(10, 13)))
    storage.remove_all(f"{place}/{name}" for name in ("clip.gif", "image-data.img", "manifest.json"))
    storage.remove_all(f"{place}/{name}" for name in names(place) if name.startswith("frames/"))
    assert build(task).scheduling_succeeded
    like_local(place, url, tmp_path)


def test_a_new_file_of_the_same_sizes_is_never_mixed_with_the_old_one(server: Server, place: str) -> None:
    first, second = ([encode(noise(seed=seed), "BMP") for seed in seeds] for seeds in (range(4), range(4, 8)))
    task = CombineGif(url=server.put("/cam.img", stream(first)), workspace=place)
    assert build(task).scheduling_succeeded
    server.put("/cam.img", stream(second))
    storage.remove(f"{place}/image-data.img")
    storage.remove(f"{place}/clip.gif")
    assert build(task.requires().requires().requires()).scheduling_succeeded
    assert build(task).scheduling_succeeded
    assert [storage.read_bytes(f"{place}/frames/frame_0{number}.bmp") for number in range(4)] == second
    assert pictures(storage.read_bytes(f"{place}/clip.gif")) == pixels(second)


def test_the_gif_is_enough_when_the_rest_was_removed_to_save_space(
    task: CombineGif, place: str, server: Server
) -> None:
    for name in names(place):
        if name != "clip.gif":
            storage.remove(f"{place}/{name}")
    assert build(task).scheduling_succeeded
    assert names(place) == ["clip.gif"]
    assert len(server.requests) == 1
    assert not task.clone(url=server.url("/other.img")).complete()


@pytest.mark.parametrize("lost", ["frames/frame_03.gif", "manifest.json", "frames/.manifest-digest"])
def test_what_is_missing_for_a_new_gif_is_fetched_again(
    task: CombineGif, place: str, server: Server, lost: str
) -> None:
    whole = contents(place)
    for name in ("image-data.img", "clip.gif", lost):
        storage.remove(f"{place}/{name}")
    assert build(task).scheduling_succeeded
    assert contents(place).keys() == whole.keys()
    assert contents(place)["clip.gif"] == whole["clip.gif"]
    assert len(server.requests) == 2


def test_the_gif_is_the_same_made_of_the_stream_or_of_the_frames(task: CombineGif, place: str, server: Server) -> None:
    whole = storage.read_bytes(f"{place}/clip.gif")
    storage.remove(f"{place}/image-data.img")
    storage.remove(f"{place}/clip.gif")
    assert build(task).scheduling_succeeded
    assert storage.read_bytes(f"{place}/clip.gif") == whole
    assert len(server.requests) == 1


def test_a_file_put_there_by_hand_counts(server: Server, place: str) -> None:
    storage.write_bytes(f"{place}/image-data.img", stream(FRAMES[:3]))
    assert build(CombineGif(url=server.url("/none.img"), workspace=place)).scheduling_succeeded
    assert pictures(storage.read_bytes(f"{place}/clip.gif")) == pixels(FRAMES[:3])
    assert server.requests == []


def test_another_delimiter_splits_anew(url: str, place: str) -> None:
    first = Split(url=url, workspace=place)
    assert build(first).scheduling_succeeded
    second = Split(url=url, workspace=place, delimiter="--")
    assert not second.complete()
    assert build(second).scheduling_succeeded
    assert second.complete()
    assert not first.complete()


def test_verify_makes_again_what_differs(task: CombineGif, place: str) -> None:
    before, whole = versions(place), contents(place)
    storage.write_bytes(f"{place}/frames/frame_03.gif", bytes(len(FRAMES[3])))
    assert task.complete()
    checked = task.clone(verify=True)
    assert not checked.complete()
    assert build(checked).scheduling_succeeded
    assert contents(place) == whole
    assert "frames/frame_03.gif" in changed(before, versions(place)) <= {"frames/frame_03.gif", "clip.gif"}
    assert checked.complete()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [lambda gif: gif[:-20], lambda gif: gif + b"more", lambda gif: gif[:-40] + bytes(4) + gif[-36:]]
)
def test_verify_makes_again_a_damaged_gif(task: CombineGif, place: str, damage: Callable[[bytes], bytes]) -> None:
    path = f"{place}/clip.gif"
    whole = storage.read_bytes(path)
    storage.write_bytes(path, damage(whole))
    assert build(task.clone(verify=True)).scheduling_succeeded
    assert storage.read_bytes(path) == whole


def test_a_frame_of_another_run_that_combining_finds_is_removed_and_written_anew(
    task: CombineGif, place: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    whole = contents(place)
    storage.remove(f"{place}/clip.gif")
    storage.remove(f"{place}/image-data.img")
    storage.write_bytes(f"{place}/frames/frame_02.gif", bytes(len(FRAMES[2])))
    with pytest.raises(FrameError, match=r"frames/frame_02\.gif is not what the manifest says; run again"):
        task.run()
    assert "clip.gif" not in names(place)
    assert build(task).scheduling_succeeded
    assert contents(place)["clip.gif"] == whole["clip.gif"]
    assert storage.read_bytes(f"{place}/frames/frame_02.gif") == FRAMES[2]
    assert len(server.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {"AWS_SECRET_ACCESS_KEY": "wrong"}]
)
def test_combining_for_a_place_that_cannot_be_written_to_ends_and_leaves_no_thread(
    s3: str, server: Server, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setattr(remote, "_answered", set())
    monkeypatch.setattr(upload, "UPLOAD", 1000)
    place = "memory://w"
    url = server.put("/cam.img", stream(gif((40, 40), seed=seed) for seed in range(200)))
    task = CombineGif(url=url, workspace=place, gif=f"{s3}/clip.gif")
    assert build(task.requires()).scheduling_succeeded
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StorageError, match=r"cannot write s3://.*clip\.gif") as raised:
        task.run()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")])
    assert raised.tb, "what it holds is not what ended them"


@pytest.mark.parametrize("store", ["memory", "local"])
def test_pictures_are_decoded_one_at_a_time_in_each_thread(
    server: Server, place: str, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded, a picture of some kilobytes may be as many megabytes."""
    asked: dict[str, int] = {}

    def starting(settings: DaskSettings, report_to: luigi.Task, check: object) -> DaskWorker:
        asked[report_to.task_family] = settings.at_once
        return DaskWorker(settings, report_to, None)

    monkeypatch.setattr(stage, "DaskWorker", starting)
    url = server.put("/cam.img", stream([encode(noise(seed=seed), "PNG") for seed in range(3)]))
    workspace = place if store == "memory" else str(tmp_path / "w")
    assert build(CombineGif(url=url, workspace=workspace)).scheduling_succeeded
    assert asked == {"WriteFrames": 16 if store == "memory" else 0, "CombineGif": 0}


MIXED = [
    encode(noise(seed=1), "PNG"),
    FRAMES[0],
    encode(noise(seed=2), "JPEG"),
    encode(noise((40, 30), seed=3), "WEBP", lossless=True),
    encode(noise(seed=4), "BMP"),
    encode(noise((1, 1), seed=5), "PNG"),
    FRAMES[1],
    encode(noise(seed=1), "PNG"),
]


def test_frames_of_mixed_formats_are_converted_once_and_make_what_they_make_locally(
    server: Server, place: str, tmp_path: Path
) -> None:
    url = server.put("/cam.img", stream(MIXED))
    task = CombineGif(url=url, workspace=place)
    assert build(task).scheduling_succeeded
    like_local(place, url, tmp_path)
    assert len([name for name in names(place) if name.startswith("converted/")]) == 5
    before = versions(place)
    luigi.configuration.get_config().set("dask", "scheduler", "tcp://127.0.0.1:9")  # nothing is left for Dask to do
    try:
        assert build(task.clone(delay=50)).scheduling_succeeded
    finally:
        luigi.configuration.get_config().set("dask", "scheduler", "threads")
    assert changed(before, versions(place)) == {"clip.gif"}


def test_the_longest_gif_that_a_picture_can_become_is_read_whole(server: Server, place: str, tmp_path: Path) -> None:
    chance = random.Random(6)
    picture = Image.frombytes("RGB", (300, 200), chance.randbytes(300 * 200 * 3))
    url = server.put("/cam.img", stream([encode(picture, "PNG"), encode(picture.resize((1, 3)), "PNG")]))
    assert build(CombineGif(url=url, workspace=place)).scheduling_succeeded
    like_local(place, url, tmp_path)


# Files of other places


def test_the_files_may_lie_in_other_places(url: str, s3: str, tmp_path: Path) -> None:
    made = tmp_path / "made.gif"
    task = CombineGif(url=url, workspace="memory://w", data_file=f"{s3}/cam.img", gif=str(made))
    assert build(task).scheduling_succeeded
    local = CombineGif(url=url, workspace=str(tmp_path / "w"), data_file="memory://elsewhere/c.img", gif=f"{s3}/c.gif")
    assert build(local).scheduling_succeeded
    assert made.read_bytes() == storage.read_bytes(f"{s3}/c.gif")
    assert names(s3) == [".cam.img.source.json", "c.gif", "cam.img"]
    assert names("memory://elsewhere") == [".c.img.source.json", "c.img"]
    assert set(names("memory://w")) == MADE - {"clip.gif", "image-data.img", ".image-data.img.source.json"}
    assert task.complete()
    assert local.complete()


def test_a_stream_in_the_store_may_be_the_data_file_itself(place: str, server: Server) -> None:
    url = f"{place}/image-data.img"
    storage.write_bytes(url, stream(FRAMES))
    assert build(CombineGif(url=url, workspace=place)).scheduling_succeeded
    assert set(names(place)) == MADE - {".image-data.img.source.json"}
    storage.remove(url)
    assert CombineGif(url=url, workspace=place).complete()


# Processes


@pytest.mark.slow
def test_four_forked_workers_make_the_same_twice(url: str, s3: str, tmp_path: Path) -> None:
    tasks = [CombineGif(url=url, workspace=f"{s3}/{name}") for name in "ab"]
    assert not storage.exists(f"{s3}/a")  # the store was in use before the fork
    for _ in range(2):
        assert luigi.build(tasks, local_scheduler=True, workers=4)
    for task in tasks:
        like_local(task.workspace, url, tmp_path / task.workspace[-1])


BUILD = """
import multiprocessing, sys
import luigi
from imagetl_luigi import CombineGif, storage
if __name__ == "__main__":
    method, url, place = sys.argv[1:]
    multiprocessing.set_start_method(method)
    storage.exists(place)
    tasks = [CombineGif(url=url, workspace=f"{place}/{name}") for name in "ab"]
    for _ in range(2):
        assert luigi.build(tasks, local_scheduler=True, workers=4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_may_be_started_in_any_way(url: str, s3: str, s3_server: S3, tmp_path: Path, method: str) -> None:
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    run = subprocess.run(
        [sys.executable, str(script), method, url, s3],
        cwd=tmp_path,
        env={**os.environ, "LUIGI_CONFIG_PATH": str(CONFIG)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    for name in "ab":
        like_local(f"{s3}/{name}", url, tmp_path / name)


@pytest.mark.slow
def test_the_plain_command_works_with_four_workers(url: str, s3: str, s3_server: S3, tmp_path: Path) -> None:
    main = ("CombineGif", "--local-scheduler", "--url", url, "--workspace", s3)
    run = command(*main, "--workers", "4", folder=tmp_path, **s3_server.environment)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert SECRET not in run.stderr
    assert list(tmp_path.iterdir()) == []
    like_local(s3, url, tmp_path)


KILLED = f"""
import itertools, os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import s3_requests
from luigi.cmdline import luigi_run
from imagetl_luigi import part_objects
part_objects.LENGTH = 5 << 20
left = itertools.count(int(sys.argv[1]), -1)
with s3_requests.before_each(lambda _: next(left) or os.kill(os.getpid(), signal.SIGKILL)):
    luigi_run(sys.argv[2:])
"""
"""The luigi command, killed when it is about to make a certain request."""


@pytest.mark.slow
def test_killed_at_any_request_and_run_again_it_ends_as_a_local_run(
    server: Server, s3: str, s3_server: S3, tmp_path: Path
) -> None:
    chance = random.Random(0)
    frames = [raw_gif(chance.randbytes(chance.randrange(40_000)), screen=(20, 20)) for _ in range(500)]
    url = server.put("/cam.img", stream(frames), etag='"1"')
    main = ["--module", "imagetl_luigi", "CombineGif", "--local-scheduler", "--url", url, "--workspace", s3]
    moments = [chance.randrange(*span) for span in ((5, 25), (25, 45), (60, 80), (90, 300))]
    for moment in moments:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *main],
            cwd=tmp_path,
            env={**os.environ, "LUIGI_CONFIG_PATH": str(CONFIG)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = command(*main[2:], folder=tmp_path, **s3_server.environment)
    assert run.returncode == 0, run.stderr
    like_local(s3, url, tmp_path)
    assert server.requests[-2].sent <= len(stream(frames))


# Memory

FRAME = 3 * MiB
LARGE = 300 * MiB


@pytest.mark.slow
def test_a_stream_larger_than_the_memory_in_use_goes_through(
    server: Server, s3: str, s3_server: S3, tmp_path: Path
) -> None:
    with (tmp_path / "cam.img").open("w+b") as file:
        for seed in range(LARGE // FRAME):
            file.write(raw_gif(random.Random(seed).randbytes(FRAME), screen=(1600, 1200)) + DELIMITER)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
            url = server.put("/cam.img", body, etag='"1"')  # type: ignore[arg-type]
            for stage in ("Download", "Split", "WriteFrames", "CombineGif"):
                peak = peak_memory(stage, "--url", url, "--workspace", s3, folder=tmp_path, **s3_server.environment)
                assert peak < 280 * MiB, stage
    assert storage.size(f"{s3}/clip.gif") > LARGE


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process between us and the command: Linux counts the memory of who starts a process as its own."""


def peak_memory(*arguments: str, folder: Path, **environment: str) -> int:
    """Bytes that the luigi command had in memory at the most."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, LUIGI, "--module", "imagetl_luigi", *arguments, "--local-scheduler"],
        cwd=folder,
        env={**os.environ, "LUIGI_CONFIG_PATH": str(CONFIG), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout) * 1024
