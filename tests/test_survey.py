"""survey: what lies below a root, and how it is."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nights import BLUE, GREEN, RED, day, make_night, make_stream

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError
from imagetl_luigi.survey import Entry, State, is_workspace, survey


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of two nights, to be copied and spoilt."""
    place = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        make_night("n", 1, [RED])
        make_night("n", 2, [GREEN])
    return place / "n"


def only(root: str) -> Entry:
    (entry,) = survey(root)
    return entry


def edit(manifest: Path, **values: Any) -> None:
    """Change lines in the head of a manifest."""
    lines = manifest.read_text().splitlines(keepends=True)
    for index, line in enumerate(lines):
        key = line.partition(":")[0].strip('"')
        if key in values:
            lines[index] = f"{json.dumps(key)}: {json.dumps(values[key])},\n"
    manifest.write_text("".join(lines))


def test_nights_come_newest_first_with_what_their_manifests_say() -> None:
    make_night("n", 1, [RED, BLUE])
    make_night("n", 3, [GREEN])
    make_night("n", 4, [GREEN])
    last, changed, first = survey("n")
    assert [entry.date for entry in (last, changed, first)] == [day(4), day(3), day(1)]
    assert first.name == "2026-11-01" and first.folder == ("2026-11-01",) and first.night
    assert (first.frames, first.width, first.height) == (2, 16, 12)
    assert first.bytes == Path("n/2026-11-01/image-data.img").stat().st_size
    assert (first.gif, first.gif_bytes) == ("clip.gif", Path("n/2026-11-01/clip.gif").stat().st_size)
    assert [entry.state for entry in (last, changed, first)] == [State.UNCHANGED, State.COMPLETE, State.COMPLETE]
    assert last.same_as == day(3) and last.digest == changed.digest != first.digest
    assert not first.page


def test_streams_come_by_the_time_they_were_fetched(two_nights: Path) -> None:
    for name, fetched in [("b", "2026-11-02T23:30:00-02:00"), ("a", "2026-11-02T05:00:00Z"), ("c", None)]:
        shutil.copytree(two_nights / "2026-11-01", f"d/{name}")
        edit(Path(f"d/{name}/manifest.json"), source={**source(f"d/{name}"), "fetched_at": fetched})
    assert [(entry.name, entry.date) for entry in survey("d")] == [("b", day(3)), ("a", day(2)), ("c", None)]


def source(workspace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(workspace, "manifest.json").read_text())["source"]
    return found


def without_manifest(night: Path) -> None:
    (night / "manifest.json").unlink()


def downloading(night: Path) -> None:
    shutil.rmtree(night)
    night.mkdir()
    (night / "image-data.img.part").write_bytes(b"GIF")


def arrived(night: Path) -> None:
    (night / "manifest.json").unlink()
    (night / "clip.gif").unlink()


def failed(night: Path) -> None:
    shutil.rmtree(night)
    night.mkdir()
    (night / ".lock").touch()


def other_animation(night: Path) -> None:
    make_stream("other", [BLUE])
    shutil.copy("other/clip.gif", night)


def foreign_animation(night: Path) -> None:
    (night / "clip.gif").write_bytes(b"GIF89a")


def renamed(night: Path) -> None:
    (night / "clip.gif").rename(night / "slow.GIF")
    foreign_animation(night)


def device(night: Path) -> None:
    (night / "manifest.json").unlink()
    (night / "manifest.json").symlink_to("/proc/self/mem")  # whose first byte cannot be read


SPOILT: dict[str, tuple[Callable[[Path], object], State]] = {
    "only the GIF is left": (without_manifest, State.COMPLETE),
    "frames and data file are gone": (lambda night: shutil.rmtree(night / "frames"), State.COMPLETE),
    "another name": (renamed, State.COMPLETE),
    "no GIF": (lambda night: (night / "clip.gif").unlink(), State.NO_ANIMATION),
    "a foreign GIF": (foreign_animation, State.NO_ANIMATION),
    "another GIF": (other_animation, State.OTHER_ANIMATION),
    "downloading": (downloading, State.DOWNLOADING),
    "downloaded": (arrived, State.NOT_SPLIT),
    "failed": (failed, State.NOTHING),
    "no JSON": (lambda night: (night / "manifest.json").write_text("{"), State.DAMAGED),
    "a negative count": (lambda night: edit(night / "manifest.json", count=-1), State.DAMAGED),
    "a count beyond all": (lambda night: edit(night / "manifest.json", count=10**400), State.DAMAGED),
    "a manifest that cannot be read": (device, State.UNREADABLE),
    "same as something else": (lambda night: edit(night / "manifest.json", same_as="../x"), State.COMPLETE),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_workspace_has_a_state_however_it_is(case: str, two_nights: Path) -> None:
    spoil, state = SPOILT[case]
    shutil.copytree(two_nights, "n")
    spoil(Path("n/2026-11-01"))
    newest, entry = survey("n")
    assert newest.state is State.COMPLETE
    assert (entry.date, entry.state) == (day(1), state)


@pytest.mark.parametrize("case", ["no JSON", "only the GIF is left"])
def test_where_the_manifest_is_lost_the_gif_tells_of_the_frames(case: str, two_nights: Path) -> None:
    shutil.copytree(two_nights, "n")
    before = survey("n")[1]
    SPOILT[case][0](Path("n/2026-11-01"))
    entry = survey("n")[1]
    assert (entry.gif, entry.digest) == ("clip.gif", before.digest)
    assert entry.frames is None and not entry.manifest


@pytest.mark.parametrize("fetched", ["yesterday", "0001-01-01T00:00:00+23:00"])
def test_a_time_that_is_none_gives_no_date(fetched: str, two_nights: Path) -> None:
    shutil.copytree(two_nights / "2026-11-01", "d/a")
    edit(Path("d/a/manifest.json"), source={**source("d/a"), "fetched_at": fetched})
    assert only("d").date is None and only("d").state is State.COMPLETE


def test_what_is_no_workspace_is_left_out(two_nights: Path) -> None:
    shutil.copytree(two_nights / "2026-11-01", "n/2026-11-01")
    for name in ("logs", "_gallery", ".hidden", "2026-11-02", "luigid", "2026-13-45", "archive/2020-01-01"):
        Path("n", name).mkdir(parents=True)
        Path("n", name, "file.txt").write_text("x")
    Path("n/index.html").write_text("x")
    assert only("n").date == day(1)
    assert not survey("nowhere")


def test_a_folder_that_cannot_be_listed_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2026-11-01", "harbour", "lost+found"):
        Path("n", name).mkdir(parents=True)
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path != "n":
            raise PermissionError(13, "Permission denied", path)  # root, who runs CI, is refused nothing
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [(entry.name, entry.state) for entry in survey("n")] == [
        ("2026-11-01", State.UNREADABLE),
        ("harbour", State.UNREADABLE),
    ]


def test_a_camera_is_its_newest_night_with_pictures_and_the_state_of_the_newest() -> None:
    make_night("c/harbour", 1, [RED])
    make_night("c/harbour", 2, [RED, GREEN])
    Path("c/harbour/2026-11-03").mkdir()
    Path("c/harbour/2026-11-03/image-data.img.part").touch()
    Path("c/harbour/index.html").write_text(f'<meta name="imagetl_luigi" content="{"0" * 64}">')
    make_stream("c/stream", [BLUE])
    camera = next(entry for entry in survey("c") if entry.nights)
    assert (camera.name, camera.nights, camera.folder) == ("harbour", 3, ("harbour", "2026-11-02"))
    assert (camera.date, camera.state, camera.frames) == (day(3), State.DOWNLOADING, 2)
    assert camera.page and not camera.night
    assert len(survey("c")) == 2


@pytest.mark.parametrize("what", ["nothing", "somebody else's", "a folder"])
def test_a_camera_has_no_page_but_one_of_ours(what: str) -> None:
    make_night("c/harbour", 1, [RED])
    if what == "a folder":
        Path("c/harbour/index.html").mkdir()
    elif what != "nothing":
        Path("c/harbour/index.html").write_text("<title>mine</title>")
    (camera,) = survey("c")
    assert camera.gallery and not camera.page and camera.state is State.COMPLETE


def test_a_root_that_is_a_workspace_is_known() -> None:
    make_stream("w", [RED])
    assert is_workspace("w") and not is_workspace(".")


def test_a_store_is_looked_at_as_a_folder_is_but_for_names_that_mean_something_to_it(folder: Path) -> None:
    root = f"memory:/{folder}/n"
    make_night(root, 1, [RED])
    make_night(root, 2, [RED])
    storage.write_bytes(f"{root}/2026-11-03/image-data.img.part/000", b"x")
    storage.write_bytes(f"{root}/what?/manifest.json", b"{}")
    storage.write_bytes(f"{root}/logs/log", b"x")
    found = [(entry.date, entry.state) for entry in survey(root)]
    assert found == [(day(3), State.DOWNLOADING), (day(2), State.UNCHANGED), (day(1), State.COMPLETE)]


def test_a_store_that_does_not_answer_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"memory:/{folder}/n"
    make_night(root, 1, [RED])

    def away(path: str, offset: int, length: int) -> bytes:
        raise StorageError(f"cannot read {path}: the store is away")

    monkeypatch.setattr(storage, "read_range", away)
    with pytest.raises(StorageError, match="away"):
        survey(root)


def test_dates_of_any_century_are_fine(two_nights: Path) -> None:
    for name in ("0001-01-01", "9999-12-31"):
        shutil.copytree(two_nights / "2026-11-01", f"m/{name}")
    assert [entry.date for entry in survey("m")] == [datetime.date.max, datetime.date.min]
