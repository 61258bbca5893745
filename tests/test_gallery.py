"""Gallery: the page of many workspaces, made and kept up to date by Luigi."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest
from nights import BLUE, GREEN, RED, YELLOW, day, make_night, make_stream, plain
from pictures import exif_of, raw_gif, with_exif
from PIL import Image
from workflow import build, changed, command, contents, versions

from imagetl_luigi import Gallery, clean_command, gallery, nights, storage
from imagetl_luigi.errors import ParameterError, StorageError
from imagetl_luigi.page import read_mark
from imagetl_luigi.settings import Limits
from imagetl_luigi.task_graph import task_graph


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Warnings and errors since it was last asked."""

    def taken() -> str:
        found = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        caplog.clear()
        return "\n".join(found)

    return taken


def make(root: str = "n") -> bool:
    task = Gallery(root=root)
    return bool(build(task).scheduling_succeeded) and task.complete()


def pictures(root: str = "n") -> dict[str, bytes]:
    folder = f"{root}/_gallery"
    return {name: storage.read_bytes(f"{folder}/{name}") for name in storage.sizes(folder) if name.endswith(".jpg")}


def colours(root: str = "n") -> list[tuple[int, ...]]:
    """Those of the pictures, rounded as JPEG changes them a little."""
    found = []
    for data in pictures(root).values():
        with Image.open(io.BytesIO(data)) as picture:
            colour = picture.getpixel((picture.width // 2, picture.height // 2))
        assert isinstance(colour, tuple)
        found.append(tuple(round(part / 10) * 10 for part in colour))
    return sorted(found)


def page(root: str = "n") -> str:
    return storage.read_bytes(f"{root}/index.html").decode()


def test_it_leaves_a_page_and_a_picture_of_each_newest_frame_and_nothing_else_in_the_root() -> None:
    make_night("n", 1, [BLUE, RED])
    make_night("n", 2, [RED, GREEN])
    before = contents(Path("n"))
    assert make()
    assert colours() == sorted([RED, GREEN])
    new = contents(Path("n")).keys() - before.keys() - {".lock"}
    assert new == {"index.html", *(f"_gallery/{name}" for name in pictures())}
    assert "2 nights from 1 November 2026 to 2 November 2026 · 4 frames · " in page()
    assert page().index("2 November 2026</a></h3>") < page().index("1 November 2026</a></h3>")


def test_a_picture_that_is_to_be_turned_is_small_and_upright() -> None:
    make_stream("n/cam", [with_exif(plain(RED, (400, 200), "JPEG"), exif_of(8))])
    assert make()
    (data,) = pictures().values()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (160, 320)
    assert "200 × 400" in page()


def test_run_again_it_does_nothing_and_a_new_night_adds_one_picture() -> None:
    make_night("n", 1, [RED])
    assert not Gallery(root="n").complete()
    assert make()
    before = versions(Path("n"))
    assert make()
    assert not changed(before, versions(Path("n")))
    make_night("n", 2, [GREEN])
    before = versions(Path("n"))
    assert not Gallery(root="n").complete()
    assert make()
    assert colours() == sorted([RED, GREEN])
    assert len(changed(before, versions(Path("n"))) - {".lock"}) == 2


def test_nights_with_the_same_frames_share_a_picture() -> None:
    for number in range(1, 4):
        make_night("n", number, [BLUE])
    assert make()
    assert colours() == [BLUE]
    assert page().count("<img ") == 3
    assert "unchanged since 1 November 2026" in page()


def test_what_is_not_shown_any_more_is_removed_but_no_file_of_others() -> None:
    make_night("n", 1, [RED])
    gone = make_night("n", 2, [GREEN])
    assert make()
    foreign = {"mine.jpg", "0123456789abcdef.jpg.bak", "0123456789ABCDEF.jpg"}
    for name in (*foreign, "0123456789abcdef.jpg"):
        Path("n/_gallery", name).touch()
    shutil.rmtree(gone)
    assert make()
    assert storage.sizes("n/_gallery").keys() - foreign == pictures().keys() - foreign
    assert foreign < storage.sizes("n/_gallery").keys()
    for name in foreign:
        Path("n/_gallery", name).unlink()
    assert colours() == [RED]


@pytest.mark.parametrize("lost", ["picture", "page", "a page of something else"])
def test_what_was_removed_or_replaced_is_made_again(lost: str) -> None:
    make_night("n", 1, [RED])
    assert make()
    first = page()
    if lost == "picture":
        shutil.rmtree("n/_gallery")
    elif lost == "page":
        os.remove("n/index.html")
    else:
        mark = read_mark("n/index.html")
        assert mark
        Path("n/index.html").write_text(first.replace(mark, "0" * 64))
    assert not Gallery(root="n").complete()
    assert make()
    assert (page(), colours()) == (first, [RED])


def test_a_page_of_somebody_else_stays(said: Callable[[], str]) -> None:
    make_night("n", 1, [RED])
    Path("n/index.html").write_text("<!doctype html><title>mine</title>")
    said()
    assert not make()
    assert "n/index.html is there, and imagetl_luigi has not made it; move it away, or choose another place" in said()
    assert page() == "<!doctype html><title>mine</title>" and not pictures()


def test_a_picture_that_cannot_be_decoded_is_a_warning_and_not_tried_again(said: Callable[[], str]) -> None:
    make_night("n", 1, [RED])
    damaged = Path(make_night("n", 2, [raw_gif(b"\xff\xff\xff")]))
    assert make()
    assert f"Gallery: no picture of {damaged.absolute()}: FrameError: the newest picture of " in said()
    assert colours() == [RED] and page().count("no picture") == 1
    before = versions(Path("n"))
    assert make()
    assert not changed(before, versions(Path("n"))) and not said()


def test_a_store_that_goes_away_leaves_the_page_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    root = f"memory:/{folder}/n"
    make_night(root, 1, [RED])
    assert make(root)
    before = page(root)
    make_night(root, 2, [GREEN])

    def away(place: str, gif: str, most: int) -> bytes:
        raise StorageError(f"cannot read {place}: the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(gallery, "newest_picture", away)
        assert not make(root)
    assert "2026-11-02: the store is away" in said() and page(root) == before
    assert make(root)
    assert colours(root) == sorted([RED, GREEN])


def test_frames_that_were_cleaned_up_leave_the_picture_of_the_gif() -> None:
    for number, colour in ((1, BLUE), (2, YELLOW)):
        night = make_night("n", number, [RED, colour])
        assert clean_command.main([night, "--remove"]) == 0
        assert not Path(night, "frames").exists()
    assert make()
    assert colours() == sorted([BLUE, YELLOW])


def test_a_workspace_that_is_no_more_than_begun_is_on_the_page_too() -> None:
    make_night("n", 1, [RED])
    Path("n/2026-11-02").mkdir()
    Path("n/2026-11-02/image-data.img.part").touch()
    assert make()
    assert "download not finished" in page() and "1 not complete" in page()


def test_each_camera_has_a_page_of_its_own() -> None:
    make_night("c/harbour", 1, [RED])
    make_night("c/harbour", 2, [GREEN])
    make_night("c/summit", 1, [BLUE])
    make_stream("c/stream", [YELLOW])
    assert make("c")
    assert colours("c") == sorted([GREEN, BLUE, YELLOW])
    assert [colours(f"c/{name}") for name in ("harbour", "summit")] == [sorted([RED, GREEN]), [BLUE]]
    assert not Path("c/stream/_gallery").exists()
    assert "./harbour/index.html" in page("c") and "2 nights" in page("c")
    assert "2 cameras with 3 nights · 1 stream with 1 frame" in page("c")
    os.remove("c/harbour/2026-11-01/clip.gif")  # no page but that camera's shows it
    assert not Gallery(root="c").complete()
    before = versions(Path("c"))
    assert make("c")
    assert changed(before, versions(Path("c"))) >= {"harbour/index.html"}
    assert "no animation" in page("c/harbour") and "no animation" not in page("c")


@pytest.fixture(params=["somebody else's page", "a folder that cannot be written to"])
def obstacle(request: pytest.FixtureRequest) -> Path:
    """What keeps the camera "harbour", one of three, from having a page."""
    for name, colour in (("harbour", RED), ("port", GREEN), ("summit", BLUE)):
        make_night(f"c/{name}", 1, [colour])
    if request.param == "somebody else's page":
        path = Path("c/harbour/index.html")
        path.write_text("<title>mine</title>")
    else:
        path = Path("c/harbour/_gallery")
        path.touch()
    return path


def test_a_camera_whose_page_cannot_be_made_stops_no_other_and_is_named(
    obstacle: Path, said: Callable[[], str]
) -> None:
    before = contents(Path("c/harbour"))
    said()
    assert not make("c")
    assert "PageError: 1 of 4 pages could not be made: harbour: " in said()
    assert contents(Path("c/harbour")).keys() - {".lock"} == before.keys() - {".lock"}
    for name, colour in (("port", GREEN), ("summit", BLUE)):
        assert colours(f"c/{name}") == [colour]
        assert f'href="./{name}/index.html"' in page("c")
    assert "./harbour/index.html" not in page("c") and 'href="./harbour/2026-11-01/clip.gif"' in page("c")
    assert "3 cameras with 3 nights" in page("c") and colours("c") == sorted([RED, GREEN, BLUE])


def test_when_the_reason_is_gone_that_page_is_made_and_nothing_else_is_done(
    obstacle: Path, said: Callable[[], str]
) -> None:
    assert not make("c")
    before = versions(Path("c"))
    assert not make("c")
    assert not changed(before, versions(Path("c")))
    obstacle.unlink()
    before = versions(Path("c"))
    assert make("c")
    new = {"harbour/index.html", "index.html", *(f"harbour/_gallery/{name}" for name in pictures("c/harbour"))}
    assert changed(before, versions(Path("c"))) - {"harbour/.lock"} == new
    assert colours("c/harbour") == [RED] and 'href="./harbour/index.html"' in page("c")


def test_the_page_of_a_camera_that_can_be_made_no_more_is_linked_to_as_it_is() -> None:
    make_night("c/harbour", 1, [RED])
    assert make("c")
    shutil.rmtree("c/harbour/_gallery")
    Path("c/harbour/_gallery").touch()
    make_night("c/harbour", 2, [GREEN])
    assert not make("c")
    assert 'href="./harbour/index.html"' in page("c") and "2 nights" in page("c")


def test_the_page_of_the_root_can_fail_and_those_of_the_cameras_be_made(said: Callable[[], str]) -> None:
    make_night("c/harbour", 1, [RED])
    Path("c/index.html").touch()
    said()
    assert not make("c")
    assert "PageError: 1 of 2 pages could not be made: c: PageError: c/index.html is there, and " in said()
    assert colours("c/harbour") == [RED]
    assert read_mark("c/harbour/index.html")


def test_its_outputs_are_all_pages() -> None:
    make_night("c/harbour", 1, [RED])
    make_stream("c/stream", [BLUE])
    outputs = Gallery(root="c").output()
    assert [target.path for target in outputs] == ["c/index.html", "c/harbour/index.html"]
    assert not any(target.exists() for target in outputs)
    assert make("c")
    assert all(target.exists() for target in outputs)


def test_the_page_in_the_root_disturbs_neither_its_nights_nor_scripts_clean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    night = make_night("n", 1, [RED])
    assert make()
    assert nights.listed("n") == [day(1)]
    make_night("n", 2, [RED])
    assert Path("n/2026-11-02/clip.gif").samefile("n/2026-11-01/clip.gif")
    assert clean_command.main(["n", "--remove", "--all"]) != 0
    assert "no workspace" in capsys.readouterr().err
    assert clean_command.main([night]) == 0
    assert "_gallery" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("nowhere", "root = 'nowhere' is no folder"),
        ("empty", "root = 'empty' holds no workspace"),
        ("n/2026-11-01", "root = 'n/2026-11-01' is a workspace itself, and none of many"),
    ],
)
def test_a_root_without_workspaces_is_one_error_and_leaves_nothing(
    root: str, reason: str, folder: Path, said: Callable[[], str]
) -> None:
    make_night("n", 1, [RED])
    Path("empty/logs").mkdir(parents=True)
    before = contents(folder)
    said()
    assert not make(root)
    assert said().splitlines()[1:] == [
        f"ParameterError: {reason}. Allowed: the folder that holds the workspaces, as NightlyGif or CombineGifs "
        "have it for --root, or data"
    ]
    assert contents(folder) == before


@pytest.mark.parametrize("root", ["", "s3://key:secret@host/x", "nope://bucket/n", "s3://bucket/a?b"])
def test_a_root_that_cannot_be_is_refused_before_anything_runs(root: str) -> None:
    with pytest.raises(ParameterError, match=r"root = |nope://") as caught:
        Gallery(root=root)
    assert "secret" not in str(caught.value)


def test_its_pages_and_pictures_are_counted_where_the_workflow_is_drawn() -> None:
    make_night("c/harbour", 1, [RED])
    make_night("c/harbour", 2, [GREEN])
    make_stream("c/stream", [BLUE])
    for complete in (0, 4):
        made, drawn = task_graph(Gallery(root="c"))
        assert (made.family, made.done) == ("Gallery", bool(complete))
        assert made.outputs == ["c/index.html", "c/harbour/index.html"]
        assert (drawn.family, drawn.count, drawn.complete) == ("DrawThumbnail", 4, complete)
        assert make("c")


def test_in_a_store_it_leaves_the_same_as_in_a_folder(s3: str, folder: Path) -> None:
    for root in ("n", f"{s3}/n"):
        make_night(root, 1, [BLUE, RED])
        make_night(root, 2, [BLUE, RED])
        make_night(root, 3, [GREEN])
        assert clean_command.main([f"{root}/2026-11-03", "--remove"]) == 0
        assert make(root)
    assert pictures(f"{s3}/n") == pictures("n")
    assert page(f"{s3}/n").count("<img ") == 3
    storage.remove_all([f"{s3}/n/2026-11-03/{name}" for name in storage.sizes(f"{s3}/n/2026-11-03")])
    assert not Gallery(root=f"{s3}/n").complete()
    assert make(f"{s3}/n")
    assert colours(f"{s3}/n") == [RED]


@pytest.mark.slow
def test_by_the_command_and_on_a_cluster(folder: Path) -> None:
    for number in range(1, 4):
        make_night("n", number, [(number, 40, 80)])
    arguments = ["Gallery", "--local-scheduler", "--root", "n"]
    run = command(*arguments, "--dask-scheduler", "cluster", "--dask-cluster-workers", "1", folder=folder)
    assert run.returncode == 0, run.stderr
    assert "Gallery: n/index.html, 3 nights from 1 November 2026 to 3 November 2026" in run.stderr
    assert len(pictures()) == 3 and page().count("<img ") == 3
    assert set(os.listdir("n/_gallery")) == pictures().keys()
    refused = command("Gallery", "--local-scheduler", "--root", "nowhere", folder=folder)
    assert refused.returncode == 30
    assert "ParameterError: root = 'nowhere' is no folder." in refused.stderr
    assert "Traceback" not in run.stderr + refused.stderr


@pytest.mark.parametrize("place", ["n", "n/harbour"])
def test_a_night_that_comes_while_the_page_is_made_is_for_the_next_run(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_night(place, 1, [RED])
    render = gallery.gallery_page.render

    def meanwhile(root: str, *arguments: Any) -> bytes:
        made = render(root, *arguments)
        if root == place:  # and before the page of the root is made, if it is another
            make_night(place, 2, [GREEN])
        return made

    with monkeypatch.context() as patch:
        patch.setattr(gallery.gallery_page, "render", meanwhile)
        assert build(Gallery(root="n")).scheduling_succeeded
    assert "2 November 2026</a></h3>" not in page(place)
    assert not Gallery(root="n").complete()
    assert make()
    assert "2 November 2026</a></h3>" in page(place)


def test_pages_are_made_two_levels_deep_whatever_links_there_are() -> None:
    make_night("r/harbour", 1, [RED])
    make_night("r/harbour", 2, [RED])
    make_night("r/harbour/inner", 1, [RED])
    for link in ("r/a", "r/b", "r/harbour/c", "r/harbour/d"):
        os.symlink(".", link)
    assert make("r")
    assert sorted(str(path) for path in Path("r").rglob("index.html")) == ["r/harbour/index.html", "r/index.html"]
    assert "inner" in page("r/harbour")


def test_what_is_reached_by_a_link_is_shown_and_not_written_to() -> None:
    make_night("other", 1, [RED])
    Path("n").mkdir()
    os.symlink("../other", "n/linked")
    before = contents(Path("other"))
    assert make()
    assert contents(Path("other")) == before
    assert './linked/2026-11-01/clip.gif"' in page()


def test_small_pictures_are_put_into_no_other_place(said: Callable[[], str]) -> None:
    make_night("n", 1, [RED])
    Path("out").mkdir()
    Path("out/0123456789abcdef.jpg").write_text("precious")
    os.symlink("../out", "n/_gallery")
    assert not make()
    assert "n/_gallery is a link; remove it, or choose another root" in said()
    assert contents(Path("out")).keys() == {"0123456789abcdef.jpg"}


def test_no_workspace_is_left_out() -> None:
    make_stream("d/_cam", [RED])
    make_stream("d/summit", [GREEN])
    make_night("d/summit", 1, [BLUE])
    make_night("d/rarely", 1, [YELLOW])
    for number in range(2, 12):
        Path(f"d/rarely/{day(number)}").mkdir()
    Path("d/locked").mkdir(0o000)
    assert make("d")
    assert colours("d") == sorted([RED, GREEN, BLUE, YELLOW])
    shown = page("d")
    assert "_cam</a></h3>" in shown
    assert './summit/clip.gif"' in shown and './summit/2026-11-01/clip.gif"' in shown
    assert not Path("d/summit/index.html").exists()


def test_a_small_picture_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    make_night("n", 1, [RED])

    def refused(path: str, data: bytes) -> None:
        raise StorageError(f"cannot write {path}")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", refused)
        assert not make()
    assert not Path("n/index.html").exists()
    assert make()


def test_what_comes_from_elsewhere_is_held_to_the_limits(said: Callable[[], str]) -> None:
    make_night("n", 1, [plain(RED, (64, 64))])
    make_night("n", 2, [plain(GREEN, (16, 12))])
    config = luigi.configuration.get_config()
    config.set("limits", "frame_pixels", "1000")
    try:
        assert make()
    finally:
        config.set("limits", "frame_pixels", str(Limits.frame_pixels))
    assert "it has 64 × 64 pixels; [limits] frame_pixels allows 1,000" in said()
    assert colours() == [GREEN]
