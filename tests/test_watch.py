"""WatchPage: the task that writes the page of a workspace. What the page does in a browser is in test_watch_page."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import luigi
import pytest
from pictures import encode, exif_of, gif, noise, with_exif
from PIL import Image
from s3 import S3
from server import Server
from waiting import until
from workflow import build, changed, command, started, stream, versions

from imagetl_luigi import CombineGif, NightlyGif, WatchPage, page, storage
from imagetl_luigi.clean_command import main as clean
from imagetl_luigi.frame_tasks import DrawRow
from imagetl_luigi.task_graph import Mapped

FRAMES = [gif((40, 30), seed=seed, duration=30 + 10 * seed) for seed in range(7)]
PAGE = {"index.html", "contact-sheet.jpg"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, in which Luigi does not wait before it tries again what failed."""
    config = luigi.configuration.get_config()
    wait = config.get("scheduler", "retry_delay", "900")
    config.set("scheduler", "retry_delay", "0")
    monkeypatch.chdir(tmp_path)
    Path("cam.img").write_bytes(stream(FRAMES))
    yield tmp_path
    config.set("scheduler", "retry_delay", wait)


def watch(**parameters: Any) -> WatchPage:
    return WatchPage(**{"url": "cam.img", "workspace": "w"} | parameters)


def made(task: luigi.Task) -> bool:
    return bool(build(task).scheduling_succeeded) and bool(task.complete())


def names(folder: str | Path = "w") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def data(folder: str | Path = "w") -> dict[str, Any]:
    """What the page gives its script."""
    text = (Path(folder) / "index.html").read_text()
    found: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])
    return found


def fact(name: str, folder: str = "w") -> str:
    """One of the facts of the page, as text."""
    text = (Path(folder) / "index.html").read_text()
    (found,) = re.findall(rf"<dt>{name}</dt><dd.*?>(.*?)</dd>", text, re.DOTALL)
    return " ".join(re.sub("<.*?>", "", found).split())


def test_it_makes_the_animation_and_writes_the_page_and_one_picture_beside_it() -> None:
    assert made(CombineGif(url="cam.img", workspace="w"))
    before = names()
    assert made(watch())
    assert names() - before == PAGE
    assert [path.name for path in Path("w").iterdir() if path.is_dir()] == ["frames"]
    with Image.open("w/contact-sheet.jpg") as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (3 * 96, 3 * 72))


def test_the_page_has_what_is_known_of_each_frame() -> None:
    Path("cam.img").write_bytes(stream([*FRAMES, FRAMES[2], FRAMES[2], encode(noise((20, 9)), "PNG")]))
    assert made(watch())
    found = data()
    assert (found["count"], found["width"], found["height"], found["loop"]) == (10, 40, 30, 0)
    assert found["name"] == [f"frame_{index:02}.{'png' if index == 9 else 'gif'}" for index in range(10)]
    assert found["bytes"] == [(Path("w/frames") / name).stat().st_size for name in found["name"]]
    assert found["delay"] == [30, 40, 50, 60, 70, 80, 90, 50, 50, 100]
    assert found["same"] == [None] * 7 + [2, 2, None]
    assert found["format"] == ["gif"] * 9 + ["png"]
    assert found["size"] == ["40 × 30"] * 9 + ["20 × 9"]
    assert found["broken"] == []
    for name, link in zip(found["name"], found["link"], strict=True):
        assert re.fullmatch(rf"\./frames/{name}\?[0-9a-f]{{8}}", link)


def test_sizes_and_thumbnails_are_of_frames_as_they_are_shown() -> None:
    shot = Image.new("RGB", (40, 30), (200, 0, 0))
    shot.paste((0, 0, 200), (20, 0, 40, 30))
    upright = with_exif(encode(shot, "JPEG", quality=100, subsampling=0), exif_of(6))
    Path("cam.img").write_bytes(stream([upright] * 3))
    assert made(watch())
    found = data()
    assert (found["width"], found["height"], found["size"]) == (30, 40, "30 × 40")
    assert fact("Canvas") == "30 × 40 pixels"
    with Image.open("w/contact-sheet.jpg") as sheet:
        assert sheet.size == (2 * 72, 2 * 96)
        for y, blue in ((20, False), (75, True)):
            red, _, more = sheet.convert("RGB").getpixel((36, y))
            assert (more > 150, red > 150) == (blue, not blue)


def test_the_page_says_where_it_came_from(server: Server) -> None:
    url = server.put("/a b.img", stream(FRAMES), etag='"1"').replace(" ", "%20")
    assert made(watch(url=f"{url}?token=secret", delay=40, loop=3))
    manifest = json.loads(Path("w/manifest.json").read_text())
    assert fact("Source") == url
    assert fact("SHA-256") == manifest["source"]["sha256"]
    assert fact("Fetched") == page.moment(manifest["source"]["fetched_at"])
    assert fact("Duration") == "0.28 s; 40 ms a frame, 3 times"
    assert fact("Frames").endswith("; 7 GIF")
    assert fact("Canvas") == "40 × 30 pixels"
    assert "secret" not in Path("w/index.html").read_text()


@pytest.mark.parametrize("gif", ["clip.gif", "sub folder/a#b.gif"])
def test_the_page_links_to_the_animation_in_its_workspace(gif: str) -> None:
    assert made(watch(gif=gif))
    (link,) = re.findall(r'<dt>Animation</dt><dd><a href="\./(.*?)\?', Path("w/index.html").read_text())
    assert unquote(link) == gif
    assert storage.size(f"w/{gif}") > 0


def test_of_a_file_put_there_by_hand_the_page_says_so() -> None:
    Path("w").mkdir()
    Path("w/image-data.img").write_bytes(stream(FRAMES))
    assert made(watch(url="https://example.org/never-asked.img"))
    assert "put there by hand" in fact("Fetched")


@pytest.mark.parametrize("where", ["w", "./w/", "{folder}/w"])
def test_run_again_nothing_is_done(where: str, folder: Path) -> None:
    assert made(watch())
    before = versions(Path("w"))
    assert made(watch(workspace=where.format(folder=folder)))
    assert changed(before, versions(Path("w"))) == set()


@pytest.mark.parametrize(
    "parameters", [{"delay": 200}, {"loop": 2}, {"gif": "other.gif"}, {"delimiter": r"\n\n\n\n\n"}], ids=str
)
def test_a_page_of_another_animation_is_none_of_this_one(parameters: dict[str, Any]) -> None:
    assert made(watch())
    before = Path("w/index.html").read_bytes()
    assert not watch(**parameters).complete()
    assert made(watch(**parameters))
    assert Path("w/index.html").read_bytes() != before
    assert not watch().complete()


@pytest.mark.parametrize(
    "gone",
    [
        ["index.html"],
        ["contact-sheet.jpg"],
        ["frames/frame_03.gif"],
        ["frames"],
        ["frames", "image-data.img"],
        ["clip.gif"],
        ["manifest.json"],
    ],
    ids=str,
)
def test_what_was_removed_and_the_page_needs_comes_back(gone: list[str]) -> None:
    assert made(watch())
    before = names()
    for name in gone:
        shutil.rmtree(f"w/{name}") if name == "frames" else Path(f"w/{name}").unlink()
    assert not watch().complete()
    assert made(watch())
    assert names() == before


def test_frames_that_are_fetched_again_and_are_others_by_now_make_another_animation_first() -> None:
    assert made(watch())
    assert clean(["--remove", "w"]) == 0
    assert names() == {"clip.gif", "manifest.json", ".lock"}
    Path("cam.img").write_bytes(stream(FRAMES[:4]))
    assert made(watch())
    assert data()["count"] == 4
    with Image.open("w/clip.gif") as animation:
        assert animation.n_frames == 4


def test_clean_lists_the_page_and_removes_it_with_the_frames(capsys: pytest.CaptureFixture[str]) -> None:
    assert made(watch())
    Path("w/.contact-sheet").mkdir()
    Path("w/.contact-sheet/0123456789abcdef-1-00000.png").write_bytes(b"left by a run that was killed")
    assert clean(["w"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  page +2 files", out, re.MULTILINE)
    assert "left alone" not in out
    Path("w/index.html").unlink()  # as if the run had been killed before it was written
    assert clean(["--remove", "--all", "w"]) == 0
    assert not Path("w").exists()


@pytest.mark.parametrize("how", ["folder", "link"])
def test_whatever_else_lies_where_rows_are_drawn_is_left_alone(how: str) -> None:
    assert made(CombineGif(url="cam.img", workspace="w"))
    place = Path("w/.contact-sheet")
    kept = place / "notes.txt"
    if how == "folder":
        place.mkdir()
    else:
        Path("photographs").mkdir()
        place.symlink_to("../photographs")
    kept.write_text("precious")
    assert made(watch())
    assert clean(["--remove", "--all", "w"]) == 0
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("name", sorted(PAGE))
def test_a_file_that_is_somebodys_own_is_left_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    Path(f"w/{name}").write_text("mine")
    assert not build(watch()).scheduling_succeeded
    assert Path(f"w/{name}").read_text() == "mine"
    assert len(PAGE & names()) == 1
    assert clean(["w"]) == 0
    assert f"    {name}, 4 bytes" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["index.html", "contact-sheet.jpg", ".contact-sheet/a.gif"])
def test_the_names_of_the_page_are_no_names_for_other_files(name: str) -> None:
    for parameter in ("gif", "data_file"):
        with pytest.raises(ValueError, match=re.escape(repr(name))):
            CombineGif(**{"url": "cam.img", "workspace": "w", parameter: name})


def test_a_gif_elsewhere_is_named_and_not_linked() -> None:
    assert made(watch(gif=str(Path("elsewhere/a&b.gif").resolve())))
    assert fact("Animation").startswith("a&amp;b.gif (it lies elsewhere), ")
    text = Path("w/index.html").read_text()
    assert "elsewhere/" not in text.replace("lies elsewhere", "")


def test_a_frame_that_cannot_be_decoded_is_named_and_fails_nothing() -> None:
    bad = bytearray(FRAMES[3])
    start = bad.index(b",\0\0\0\0") + 10  # nothing looks at the LZW codes of a picture to combine it
    bad[start + 2 : -2] = b"\xff" * len(bad[start + 2 : -2])
    bad[start + 1 :] = bytes([1, 0xFF, 0]) + b";"
    Path("cam.img").write_bytes(stream([*FRAMES[:3], bytes(bad), *FRAMES[4:]]))
    assert made(watch())
    assert data()["broken"] == [3]
    assert fact("Damaged") == "1 frame cannot be decoded, the first is frame 4"


def test_where_frames_share_a_tile_those_without_are_read_only_for_their_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetl_luigi.contact_sheet.MOST_TILES", 4)
    read: list[int] = []
    ahead = storage.read_ahead

    def counting(pieces: Any) -> Any:
        listed = list(pieces)
        read.append(len(listed))
        return ahead(listed)

    monkeypatch.setattr(storage, "read_ahead", counting)
    assert made(watch())
    assert data()["delay"] == [30 + 10 * seed for seed in range(7)]
    read.clear()
    assert made(watch(delay=40))
    assert sum(read) == 7 + 4  # combined, and drawn


def test_a_night_that_had_the_bytes_of_another_gets_their_frames_without_asking_the_source(server: Server) -> None:
    url = server.put("/a", stream(FRAMES), etag='"1"')
    nights = [NightlyGif(date=datetime.date(2026, 11, day), url=url, root="n") for day in (23, 24)]
    assert made(nights[0])
    assert made(nights[1])
    assert not Path("n/2026-11-24/frames").exists()
    server.put("/a", stream(FRAMES[:2]), etag='"2"')
    asked = len(server.requests)
    before = versions(Path("n/2026-11-23"))
    assert made(watch(url=url, workspace="n/2026-11-24"))
    assert len(server.requests) == asked
    assert data("n/2026-11-24")["count"] == 7
    assert nights[1].complete()
    assert fact("Unchanged since", "n/2026-11-24") == "2026-11-23"
    assert changed(before, versions(Path("n/2026-11-23"))) == set()


def test_it_is_drawn_with_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch().mapped() is None
    assert watch().yields() == []
    assert made(CombineGif(url="cam.img", workspace="w"))
    assert watch().mapped() == Mapped("DrawRow", 3, 0)
    assert made(watch())
    assert watch().mapped() == Mapped("DrawRow", 3, 3)
    shutil.rmtree("w/frames")
    assert [task.task_family for task in watch().yields()] == ["RestoreFrames"]


def test_rows_that_a_killed_run_has_drawn_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(CombineGif(url="cam.img", workspace="w"))
    drawn: list[str] = []
    run = DrawRow.run

    def failing(self: DrawRow) -> None:
        if self.path.endswith("2.png"):
            raise OSError("no more")
        run(self)
        drawn.append(self.path)

    monkeypatch.setattr(DrawRow, "run", failing)
    assert not build(watch()).scheduling_succeeded
    assert sorted(path[-5:] for path in drawn) == ["0.png", "1.png"]
    assert not PAGE & names()
    monkeypatch.setattr(DrawRow, "run", lambda self: drawn.append(self.path) or run(self))
    assert made(watch())
    assert len(drawn) == 3


@pytest.mark.parametrize("damage", [b"", b"half", encode(noise((288, 72)), "PNG")], ids=["empty", "cut", "another"])
def test_a_row_that_is_not_whole_is_drawn_again(damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(watch())
    right = Path("w/contact-sheet.jpg").read_bytes()
    manifest = watch().animation().manifest.read()
    assert manifest
    rows = watch()._rows(manifest)
    Path("w/.contact-sheet").mkdir()
    Path(rows[1].path).write_bytes(damage)
    Path("w/index.html").unlink()
    assert made(watch())
    assert Path("w/contact-sheet.jpg").read_bytes() == right


def test_rows_of_other_frames_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr("imagetl_luigi.watch_page.render", killed)
        assert not build(watch()).scheduling_succeeded
    assert list(Path("w/.contact-sheet").iterdir())
    Path("w/image-data.img").write_bytes(stream([gif((40, 30), seed=seed) for seed in range(20, 27)]))
    assert made(watch())
    assert not Path("w/.contact-sheet").exists()
    shutil.copytree("w", "fresh", ignore=shutil.ignore_patterns(*PAGE))
    assert made(watch(workspace="fresh"))
    assert Path("fresh/contact-sheet.jpg").read_bytes() == Path("w/contact-sheet.jpg").read_bytes()


def test_a_sheet_of_other_frames_is_none_of_this_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(watch())
    right = Path("w/contact-sheet.jpg").read_bytes()
    Path("other.img").write_bytes(stream([gif((40, 30), seed=seed) for seed in range(20, 27)]))
    assert made(watch(url="other.img", workspace="other"))
    shutil.copy("other/contact-sheet.jpg", "w/contact-sheet.jpg")
    assert not watch().complete()
    assert made(watch())
    assert Path("w/contact-sheet.jpg").read_bytes() == right


def test_the_sheet_comes_before_the_page_which_says_that_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write = storage.atomic_write

    def failing(path: str) -> Any:
        if path.endswith("index.html"):
            raise OSError("no more")
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "atomic_write", failing)
        assert not build(watch()).scheduling_succeeded
    assert PAGE & names() == {"contact-sheet.jpg"}
    assert made(watch())


def test_frames_that_were_damaged_on_the_disk_are_written_again_and_not_shown() -> None:
    assert made(CombineGif(url="cam.img", workspace="w"))
    frame = Path("w/frames/frame_03.gif")
    frame.write_bytes(b"\0" * frame.stat().st_size)
    build(watch())  # fails, and Luigi's retry finds the frame gone and has it written
    assert watch().complete()
    assert frame.read_bytes() == FRAMES[3]
    assert data()["broken"] == []


def test_where_only_a_frame_is_missing_neither_sheet_nor_page_is_made_again() -> None:
    assert made(watch())
    before = versions(Path("w"))
    Path("w/frames/frame_03.gif").unlink()
    assert watch().mapped() == Mapped("DrawRow", 3, 3)
    assert made(watch())
    assert changed(before, versions(Path("w"))) == {"frames/frame_03.gif"}


def test_a_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("imagetl_luigi.sheet_drawing.shrunk", greedy)
    assert not build(watch()).scheduling_succeeded
    assert not PAGE & names()


def test_a_page_of_another_source_or_of_an_older_design_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(watch())
    record = Path("w/.image-data.img.source.json")
    record.write_text(record.read_text().replace('"fetched_at": "2', '"fetched_at": "1'))
    Path("w/manifest.json").unlink()
    assert not watch().complete()
    assert made(watch())
    monkeypatch.setattr(page, "design", lambda name: "a later one")
    assert not watch().complete()


@pytest.mark.parametrize("place", ["n/2026-11-24/", "."])
def test_a_night_is_one_however_its_folder_is_named(
    place: str, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/a", stream(FRAMES), etag='"1"')
    for day in (23, 24):
        assert made(NightlyGif(date=datetime.date(2026, 11, day), url=url, root="n"))
    if place == ".":
        monkeypatch.chdir("n/2026-11-24")
    assert made(watch(url=url, workspace=place))
    assert (folder / "n/2026-11-24/index.html").exists()


def test_the_command_says_where_the_page_is_and_a_wrong_flag_is_refused(folder: Path) -> None:
    done = command("WatchPage", "--local-scheduler", "--url", "cam.img", "--workspace", "w", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "WatchPage: w/index.html, 7 frames" in done.stderr
    wrong = command("WatchPage", "--local-scheduler", "--url", "cam.img", "--delay", "15", folder=folder)
    assert wrong.returncode == 40
    assert "delay = 15 is not possible" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_killed_anywhere_and_run_again_the_page_is_whole(folder: Path) -> None:
    (folder / "cam.img").write_bytes(stream([gif((200, 150), seed=seed, colours=256) for seed in range(300)]))
    arguments = ("WatchPage", "--local-scheduler", "--url", "cam.img", "--workspace", "w")
    with started(*arguments, folder=folder) as running:
        until(lambda: any(Path("w/.contact-sheet").glob("*.png")), 60)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    assert not PAGE & names()
    with started(*arguments, folder=folder) as one, started(*arguments, "--dask-threads", "1", folder=folder) as other:
        assert [one.wait(), other.wait()] == [0, 0]  # at once
    assert data()["count"] == 300
    assert not Path("w/.contact-sheet").exists()


@pytest.mark.slow
def test_in_a_store_and_on_worker_processes_it_is_the_page_of_a_local_run(folder: Path, s3: str, s3_server: S3) -> None:
    assert made(watch(workspace="local"))
    arguments = ("WatchPage", "--local-scheduler", "--url", "cam.img", "--workspace", f"{s3}/w")
    cluster = ("--dask-scheduler", "cluster", "--dask-cluster-workers", "1")
    done = command(*arguments, *cluster, folder=folder, **s3_server.environment)
    assert done.returncode == 0, done.stderr
    listed = storage.sizes(f"{s3}/w")
    assert listed.keys() >= PAGE
    assert storage.read_bytes(f"{s3}/w/contact-sheet.jpg") == Path("local/contact-sheet.jpg").read_bytes()
    pages = [storage.read_bytes(f"{s3}/w/index.html"), Path("local/index.html").read_bytes()]
    assert (
        len(
            {
                re.sub(rb'(20\d\d-\d\d-\d\dT[^"]*|[\d]+ \w+ 20\d\d, \d\d:\d\d|content="[0-9a-f]{64}")', b"", one)
                for one in pages
            }
        )
        == 1
    )
    assert storage.sizes(f"{s3}/w/.contact-sheet") == {}
