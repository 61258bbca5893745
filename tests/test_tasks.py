"""tasks: the workflow, run in this process under Luigi's local scheduler."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import luigi
import pytest
from pictures import encode, gif, noise
from PIL import Image
from server import Server, cut, status
from workflow import build, changed, contents, stream, versions

from imagetl_luigi import CombineGif, Split, WriteFrame, WriteFrames
from imagetl_luigi.frame_tasks import ConvertFrame

FRAMES = [gif(seed=seed, duration=70) for seed in range(5)]
EVERYTHING = {
    ".lock",
    ".image-data.img.source.json",
    "image-data.img",
    "manifest.json",
    "frames/.manifest-digest",
    *(f"frames/frame_0{number}.gif" for number in range(5)),
    "clip.gif",
}


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Retries without a pause."""
    config = luigi.configuration.get_config()
    config.set("download", "retry_wait", "0")
    config.set("scheduler", "retry_delay", "0")
    yield
    config.set("download", "retry_wait", "10")
    config.set("scheduler", "retry_delay", "1")


@pytest.fixture
def url(server: Server) -> str:
    return server.put("/cam.img", stream(FRAMES))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "w"


@pytest.fixture
def task(url: str, workspace: Path) -> CombineGif:
    """The whole workflow, done once."""
    task = CombineGif(url=url, workspace=str(workspace))
    assert build(task).scheduling_succeeded
    return task


def frames_of(path: Path) -> list[bytes]:
    """Every picture of an animation, as RGB."""
    with Image.open(path) as animation:
        pictures = []
        for number in range(animation.n_frames):
            animation.seek(number)
            pictures.append(animation.convert("RGB").tobytes())
        return pictures


def pixels(frames: list[bytes]) -> list[bytes]:
    return [Image.open(io.BytesIO(frame)).convert("RGB").tobytes() for frame in frames]


def test_a_run_leaves_one_workspace(task: CombineGif, workspace: Path) -> None:
    assert contents(workspace).keys() == EVERYTHING
    assert [(workspace / f"frames/frame_0{number}.gif").read_bytes() for number in range(5)] == FRAMES
    assert frames_of(workspace / "clip.gif") == pixels(FRAMES)


def test_the_manifest_says_where_everything_came_from(task: CombineGif, url: str, workspace: Path) -> None:
    manifest = json.loads((workspace / "manifest.json").read_text())
    data = stream(FRAMES)
    assert manifest["source"]["url"] == url
    assert manifest["source"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert manifest["source"]["length"] == len(data)
    assert [data[frame["offset"] :][: frame["length"]] for frame in manifest["frames"]] == FRAMES
    assert [frame["name"] for frame in manifest["frames"]] == [f"frame_0{number}.gif" for number in range(5)]


def test_run_again_it_makes_no_request_and_touches_no_file(task: CombineGif, server: Server, workspace: Path) -> None:
    before = versions(workspace)
    assert build(task).scheduling_succeeded
    assert versions(workspace) == before
    assert len(server.requests) == 1


def test_exactly_what_was_deleted_comes_back(task: CombineGif, server: Server, workspace: Path) -> None:
    before, whole = versions(workspace), contents(workspace)
    deleted = {"frames/frame_00.gif", "frames/frame_02.gif", "frames/frame_04.gif", "clip.gif"}
    for name in deleted:
        (workspace / name).unlink()
    assert build(task).scheduling_succeeded
    assert contents(workspace) == whole
    assert changed(before, versions(workspace)) == deleted
    assert len(server.requests) == 1


@pytest.mark.parametrize("change", [{"delay": 40}, {"delay": 0}, {"loop": 1}, {"loop": 3}])
def test_another_speed_changes_the_gif_and_nothing_else(
    task: CombineGif, workspace: Path, change: dict[str, int]
) -> None:
    before = versions(workspace)
    assert build(task.clone(**change)).scheduling_succeeded
    assert changed(before, versions(workspace)) == {"clip.gif"}
    assert frames_of(workspace / "clip.gif") == pixels(FRAMES)
    assert task.clone(**change).complete()
    assert not task.complete()


def test_another_name_leaves_the_first_gif(task: CombineGif, workspace: Path) -> None:
    before = versions(workspace)
    assert build(task.clone(gif="night.gif")).scheduling_succeeded
    assert changed(before, versions(workspace)) == {"night.gif"}


def test_another_url_into_the_same_data_file_fails_and_changes_nothing(
    task: CombineGif, server: Server, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = versions(workspace)
    other = server.put("/other.img", stream(FRAMES[:2]))
    assert not build(task.clone(url=other)).scheduling_succeeded
    assert versions(workspace) == before
    assert f"was fetched from {task.url} and not from {other}; choose another place" in caplog.text
    assert "Traceback" not in caplog.text


def test_another_url_after_the_data_file_is_gone_makes_everything_new(
    task: CombineGif, server: Server, workspace: Path
) -> None:
    (workspace / "image-data.img").unlink()
    others = [gif(seed=seed) for seed in range(10, 15)]
    assert build(task.clone(url=server.put("/other.img", stream(others)))).scheduling_succeeded
    assert frames_of(workspace / "clip.gif") == pixels(others)


def test_a_new_file_of_the_same_sizes_is_never_mixed_with_the_old_one(server: Server, workspace: Path) -> None:
    first, second = ([encode(noise(seed=seed), "BMP") for seed in seeds] for seeds in (range(4), range(4, 8)))
    task = CombineGif(url=server.put("/cam.img", stream(first)), workspace=str(workspace))
    assert build(task).scheduling_succeeded
    server.put("/cam.img", stream(second))
    (workspace / "image-data.img").unlink()
    assert build(task.requires().requires().requires()).scheduling_succeeded
    assert build(task).scheduling_succeeded
    assert frames_of(workspace / "clip.gif") == pixels(second)
    assert [(workspace / f"frames/frame_0{number}.bmp").read_bytes() for number in range(4)] == second


def test_the_gif_is_enough_when_the_rest_was_removed_to_save_space(
    task: CombineGif, server: Server, workspace: Path
) -> None:
    shutil.rmtree(workspace / "frames")
    for name in ("image-data.img", ".image-data.img.source.json", "manifest.json"):
        (workspace / name).unlink()
    assert build(task).scheduling_succeeded
    assert contents(workspace).keys() == {"clip.gif", ".lock"}
    assert len(server.requests) == 1
    assert not task.clone(url=server.url("/other.img")).complete()


@pytest.mark.parametrize("lost", ["frames/frame_03.gif", "manifest.json"])
def test_what_is_missing_for_a_new_gif_is_fetched_again(
    task: CombineGif, server: Server, workspace: Path, lost: str
) -> None:
    for name in ("image-data.img", "clip.gif", lost):
        (workspace / name).unlink()
    assert build(task).scheduling_succeeded
    assert contents(workspace).keys() == EVERYTHING
    assert len(server.requests) == 2


def test_frames_are_enough_for_a_new_gif(task: CombineGif, server: Server, workspace: Path) -> None:
    (workspace / "image-data.img").unlink()
    (workspace / "clip.gif").unlink()
    assert build(task).scheduling_succeeded
    assert len(server.requests) == 1


def test_a_file_put_there_by_hand_counts(server: Server, workspace: Path) -> None:
    workspace.mkdir()
    (workspace / "image-data.img").write_bytes(stream(FRAMES[:3]))
    assert build(CombineGif(url=server.url("/none.img"), workspace=str(workspace))).scheduling_succeeded
    assert frames_of(workspace / "clip.gif") == pixels(FRAMES[:3])
    assert server.requests == []


def test_another_delimiter_splits_anew(url: str, workspace: Path) -> None:
    first = Split(url=url, workspace=str(workspace))
    assert build(first).scheduling_succeeded
    second = Split(url=url, workspace=str(workspace), delimiter="--")
    assert not second.complete()
    assert build(second).scheduling_succeeded
    assert second.complete()
    assert not first.complete()


def test_verify_makes_again_what_differs(task: CombineGif, workspace: Path) -> None:
    before, whole = versions(workspace), contents(workspace)
    damaged = workspace / "frames/frame_03.gif"
    damaged.write_bytes(bytes(len(FRAMES[3])))
    assert task.complete()
    checked = task.clone(verify=True)
    assert not checked.complete()
    assert build(checked).scheduling_succeeded
    assert contents(workspace) == whole
    assert changed(before, versions(workspace)) == {"frames/frame_03.gif", "clip.gif"}
    assert checked.complete()


def test_verify_tells_when_the_data_file_itself_has_changed(
    task: CombineGif, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_file = workspace / "image-data.img"
    times = data_file.stat().st_atime_ns, data_file.stat().st_mtime_ns
    data = bytearray(data_file.read_bytes())
    data[100] ^= 1
    data_file.write_bytes(data)
    os.utime(data_file, ns=times)
    (workspace / "frames/frame_00.gif").unlink()
    assert not build(task.clone(verify=True)).scheduling_succeeded
    assert "frame_00.gif is not what the manifest says" in caplog.text


def test_verify_sees_a_gif_that_was_made_of_a_damaged_frame(task: CombineGif, workspace: Path) -> None:
    whole = (workspace / "clip.gif").read_bytes()
    frame = workspace / "frames/frame_03.gif"
    frame.write_bytes(FRAMES[3][:-4] + bytes(2) + FRAMES[3][-2:])
    (workspace / "clip.gif").unlink()
    build(task)
    assert (workspace / "clip.gif").read_bytes() != whole
    frame.write_bytes(FRAMES[3])
    assert build(task.clone(verify=True)).scheduling_succeeded
    assert (workspace / "clip.gif").read_bytes() == whole


@pytest.mark.parametrize("damage", [lambda gif: gif[:-20], lambda gif: gif + b"more"])
def test_verify_makes_again_a_gif_of_another_length(
    task: CombineGif, workspace: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = workspace / "clip.gif"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert build(task.clone(verify=True)).scheduling_succeeded
    assert path.read_bytes() == whole


def test_a_file_put_in_the_place_of_a_fetched_one_is_not_taken_for_it(task: CombineGif, workspace: Path) -> None:
    others = [gif(seed=seed) for seed in range(20, 25)]
    (workspace / "image-data.img").write_bytes(stream(others))
    (workspace / "manifest.json").unlink()
    assert build(task).scheduling_succeeded
    assert frames_of(workspace / "clip.gif") == pixels(others)


def test_a_data_file_that_was_kept_does_not_make_the_gif_again(task: CombineGif, workspace: Path) -> None:
    shutil.rmtree(workspace / "frames")
    (workspace / "manifest.json").unlink()
    assert task.complete()


def test_a_path_means_the_file_in_the_folder_it_is_given_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cam.img").write_bytes(stream([FRAMES[number]]))
    monkeypatch.chdir(tmp_path / "a")
    assert build(CombineGif(url="cam.img", workspace=tmp_path / "w")).scheduling_succeeded
    assert CombineGif(url="./cam.img", workspace=tmp_path / "w").complete()
    assert CombineGif(url=(tmp_path / "a/cam.img").as_uri(), workspace=tmp_path / "w").complete()
    monkeypatch.chdir(tmp_path / "b")
    assert not CombineGif(url="cam.img", workspace=tmp_path / "w").complete()


def test_an_unreadable_manifest_is_said_in_one_line(
    task: CombineGif, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(workspace / "frames")
    (workspace / "frames").write_text("in the way")
    (workspace / "clip.gif").unlink()
    assert not build(task).scheduling_succeeded
    assert "StorageError: cannot list" in caplog.text
    assert "Traceback" not in caplog.text


def test_foreign_files_among_the_frames_are_left_alone(task: CombineGif, workspace: Path) -> None:
    (workspace / "frames/frame_99.gif").write_bytes(FRAMES[0])
    (workspace / "frames/notes.txt").write_text("mine")
    (workspace / "clip.gif").unlink()
    assert build(task).scheduling_succeeded
    assert frames_of(workspace / "clip.gif") == pixels(FRAMES)
    assert (workspace / "frames/frame_99.gif").exists()
    assert (workspace / "frames/notes.txt").read_text() == "mine"


def test_a_frame_that_cannot_be_written_fails_alone_with_its_own_error(
    url: str, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace / "frames/frame_02.gif").mkdir(parents=True)
    result = build(CombineGif(url=url, workspace=str(workspace)))
    assert not result.scheduling_succeeded
    assert "1 failed:\n    - 1 WriteFrame(" in result.summary_text
    assert f"cannot write {workspace}/frames/frame_02.gif: Is a directory" in caplog.text
    assert (workspace / "frames/frame_04.gif").read_bytes() == FRAMES[4]
    assert "Traceback" not in caplog.text
    assert not (workspace / "clip.gif").exists()


def test_a_frame_that_was_blocked_is_written_by_the_next_run(url: str, workspace: Path) -> None:
    (workspace / "frames/frame_02.gif").mkdir(parents=True)
    task = CombineGif(url=url, workspace=str(workspace))
    build(task)
    (workspace / "frames/frame_02.gif").rmdir()
    before = versions(workspace)
    assert build(task).scheduling_succeeded
    assert changed(before, versions(workspace)) == {"frames/frame_02.gif", "clip.gif"}


def test_a_truncated_frame_is_named_and_nothing_is_made_of_the_rest(
    server: Server, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.put("/cam.img", stream([FRAMES[0], FRAMES[1][:-9], FRAMES[2]]))
    assert not build(CombineGif(url=url, workspace=str(workspace))).scheduling_succeeded
    assert f"SplitError: frame 1 at offset {len(FRAMES[0]) + 4}" in caplog.text
    assert "Traceback" not in caplog.text
    assert contents(workspace).keys() == {"image-data.img", ".image-data.img.source.json", ".lock"}


def test_a_body_cut_off_twice_and_then_whole_is_fetched_within_one_run(
    server: Server, url: str, workspace: Path
) -> None:
    server.once(cut(100))
    server.once(cut(100))
    assert build(CombineGif(url=url, workspace=str(workspace))).scheduling_succeeded
    assert len(server.requests) == 3


def test_a_dead_source_is_tried_three_times_and_not_nine(server: Server, url: str, workspace: Path) -> None:
    server.always(status(503))
    assert not build(CombineGif(url=url, workspace=str(workspace))).scheduling_succeeded
    assert len(server.requests) == 3


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP"])
def test_frames_of_other_formats_are_kept_as_they_are_and_join_the_gif(
    server: Server, workspace: Path, format: str
) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    frames = [encode(noise(seed=seed), format, **options) for seed in range(3)] + [FRAMES[0]]
    task = CombineGif(url=server.put("/cam.img", stream(frames)), workspace=str(workspace))
    assert build(task).scheduling_succeeded
    assert sorted(path.read_bytes() for path in (workspace / "frames").glob("frame_*")) == sorted(frames)
    assert frames_of(workspace / "clip.gif") == pixels(frames)
    before = versions(workspace)
    luigi.configuration.get_config().set("dask", "scheduler", "tcp://127.0.0.1:9")  # nothing is left for Dask to do
    try:
        assert build(task.clone(delay=50)).scheduling_succeeded
    finally:
        luigi.configuration.get_config().set("dask", "scheduler", "threads")
    assert changed(before, versions(workspace)) == {"clip.gif"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"no picture at all", "frame 1 at offset 142 is of no known format"),
        (encode(noise(), "PNG").replace(b"IDAT", b"IdAT"), "1 frames cannot be converted, the first: .*frame_01.png"),
    ],
)
def test_a_frame_that_cannot_be_shown_is_named(
    server: Server, workspace: Path, bad: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.put("/cam.img", stream([FRAMES[0], bad]))
    assert not build(CombineGif(url=url, workspace=str(workspace))).scheduling_succeeded
    assert message.replace("142", f"{len(FRAMES[0]) + 4}").partition(".*")[0] in caplog.text
    assert not (workspace / "clip.gif").exists()
    assert (workspace / "frames/frame_00.gif").exists()


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 4}])
def test_it_runs_in_forked_workers_too(url: str, workspace: Path, options: dict[str, int]) -> None:
    assert build(CombineGif(url=url, workspace=str(workspace)), **options).scheduling_succeeded
    assert contents(workspace).keys() == EVERYTHING


def test_two_gifs_of_one_stream_share_everything_else(url: str, workspace: Path, server: Server) -> None:
    tasks = [CombineGif(url=url, workspace=str(workspace), gif=f"{delay}.gif", delay=delay) for delay in (50, 100)]
    assert luigi.build(tasks, local_scheduler=True, workers=2)
    assert contents(workspace).keys() == EVERYTHING - {"clip.gif"} | {"50.gif", "100.gif"}
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_cluster_makes_the_same(url: str, workspace: Path, task: CombineGif, tmp_path: Path) -> None:
    config = luigi.configuration.get_config()
    config.set("dask", "scheduler", "cluster")
    config.set("dask", "dashboard", "127.0.0.1:0")
    config.set("dask", "cluster_workers", "2")
    try:
        assert build(CombineGif(url=url, workspace=str(tmp_path / "c"))).scheduling_succeeded
    finally:
        for name, value in {"scheduler": "threads", "dashboard": "127.0.0.1:8787", "cluster_workers": "4"}.items():
            config.set("dask", name, value)
    record = ".image-data.img.source.json"
    made, same = contents(tmp_path / "c"), contents(workspace)
    assert {name: made[name] for name in made.keys() - {record, "manifest.json"}} == {
        name: same[name] for name in same.keys() - {record, "manifest.json"}
    }


def test_one_frame_can_be_written_by_itself(task: CombineGif, workspace: Path, tmp_path: Path) -> None:
    frame = WriteFrame(
        data_file=str(workspace / "image-data.img"), offset=0, length=len(FRAMES[0]), path=str(tmp_path / "one.gif")
    )
    assert not frame.complete()
    assert build(frame).scheduling_succeeded
    assert (tmp_path / "one.gif").read_bytes() == FRAMES[0]


def test_a_task_of_a_frame_equals_the_one_that_luigi_builds_from_its_text() -> None:
    frame = WriteFrame.uncached(data_file="a", offset=3, length=4, path="b")
    assert frame == WriteFrame.from_str_params(frame.to_str_params())
    assert frame is not WriteFrame.uncached(data_file="a", offset=3, length=4, path="b")


def test_events_of_each_frame_reach_their_handlers(url: str, workspace: Path) -> None:
    written: list[str] = []
    handler = WriteFrame.event_handler(luigi.Event.SUCCESS)(lambda frame: written.append(frame.path))
    try:
        assert build(WriteFrames(url=url, workspace=str(workspace))).scheduling_succeeded
    finally:
        WriteFrame.remove_event_handler(luigi.Event.SUCCESS, handler)
    assert sorted(written) == [f"{workspace}/frames/frame_0{number}.gif" for number in range(5)]


def test_the_same_content_is_converted_once(server: Server, workspace: Path) -> None:
    converted: list[str] = []
    handler = ConvertFrame.event_handler(luigi.Event.SUCCESS)(lambda frame: converted.append(frame.path))
    url = server.put("/cam.img", stream([encode(noise(), "PNG")] * 4))
    try:
        assert build(CombineGif(url=url, workspace=str(workspace))).scheduling_succeeded
    finally:
        ConvertFrame.remove_event_handler(luigi.Event.SUCCESS, handler)
    assert len(converted) == 1
    assert len(frames_of(workspace / "clip.gif")) == 4


def test_the_real_stream_goes_through_whole(real_stream: Path, workspace: Path) -> None:
    assert build(CombineGif(url=str(real_stream), workspace=str(workspace))).scheduling_succeeded
    frames = [path.read_bytes() for path in sorted((workspace / "frames").glob("frame_*.gif"))]
    assert len(frames) == 27
    assert stream(frames) == real_stream.read_bytes()
    assert frames_of(workspace / "clip.gif") == pixels(frames)
