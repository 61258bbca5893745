"""turning: pictures that are to be turned are shown upright, from the stream to the animation."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import as_shown, encode, exif_of, gif, noise, with_exif
from PIL import Image
from workflow import build, changed, stream, versions

from imagetl_luigi import CombineGif
from imagetl_luigi.clean_command import main as clean
from imagetl_luigi.exif import ORIENTATIONS
from imagetl_luigi.gif import Recipe, find_recipe
from imagetl_luigi.manifest import read_manifest
from imagetl_luigi.newest import newest_picture
from imagetl_luigi.turning import turned


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pixels(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(picture.convert("RGB"))


def photograph(seed: int, size: tuple[int, int] = (32, 16)) -> Image.Image:
    """A picture whose quarters are of four colours, each its own from picture to picture."""
    drawn = Image.new("RGB", size)
    for at, shade in enumerate([(230, 20, 30), (20, 200, 40), (30, 20, 240), (240, 230, 20)]):
        left, top = size[0] // 2 * (at % 2), size[1] // 2 * (at // 2)
        drawn.paste(tuple(max(0, part - 12 * seed) for part in shade), (left, top, size[0], size[1]))
    return drawn


def jpeg(seed: int, orientation: int | None = 6) -> bytes:
    data = encode(photograph(seed), "JPEG", quality=100, subsampling=0)
    return data if orientation is None else with_exif(data, exif_of(orientation))


def make(frames: list[bytes] | None = None, **parameters: object) -> CombineGif:
    if frames is not None:
        Path("cam.img").write_bytes(stream(frames))
    task = CombineGif(**{"url": "cam.img", "workspace": "w"} | parameters)
    assert build(task).scheduling_succeeded and task.complete()
    return task


def shown(path: str = "w/clip.gif") -> tuple[tuple[int, int], list[np.ndarray]]:
    """The logical screen of an animation, and each of its pictures."""
    with Image.open(path) as animation:
        found = []
        for number in range(animation.n_frames):
            animation.seek(number)
            found.append(pixels(animation))
        return animation.size, found


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max()) <= 8


def recipe(workspace: str) -> Recipe:
    found = find_recipe(f"{workspace}/clip.gif")
    assert found
    return found


def as_older_versions_did(monkeypatch: pytest.MonkeyPatch, frames: list[bytes], **parameters: object) -> None:
    """Make a workspace like the versions that looked at no orientation: the rest of it has not changed since."""
    with monkeypatch.context() as older:
        older.setattr("imagetl_luigi.formats.read_orientation", lambda *_: 1)
        older.setattr("imagetl_luigi.manifest.SCHEMA", 1)
        make(frames, **parameters)
    assert '"schema": 1' in Path("w/manifest.json").read_text()
    assert '"orientation"' not in Path("w/manifest.json").read_text()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_is_turned_by_its_orientation(orientation: int, mode: str) -> None:
    stored = noise().convert(mode)
    assert np.array_equal(np.asarray(turned(stored, orientation)), as_shown(np.asarray(stored), orientation))


def test_an_upright_picture_is_not_copied() -> None:
    stored = noise()
    assert turned(stored, 1) is stored


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_stream_of_photographs_gives_an_upright_gif_and_their_files_stay_as_they_came(orientation: int) -> None:
    frames = [jpeg(seed, orientation) for seed in range(3)]
    make(frames)
    assert [path.read_bytes() for path in sorted(Path("w/frames").glob("frame_*.jpg"))] == frames
    size, found = shown()
    assert size == ((16, 32) if orientation > 4 else (32, 16))
    expected = [as_shown(pixels(photograph(seed)), orientation) for seed in range(3)]
    assert [near(one, other) for one, other in zip(found, expected, strict=True)] == [True] * 3
    manifest = read_manifest("w/manifest.json")
    assert manifest and (manifest.width, manifest.height) == size


def test_frames_of_every_orientation_and_of_none_share_one_canvas() -> None:
    frames = [gif((32, 16)), jpeg(0, None), *(jpeg(0, orientation) for orientation in ORIENTATIONS)]
    make(frames)
    size, found = shown()
    assert size == (32, 32)
    for orientation, picture in zip((1, *ORIENTATIONS), found[1:], strict=True):
        expected = as_shown(pixels(photograph(0)), orientation)
        assert near(picture[: expected.shape[0], : expected.shape[1]], expected)


def test_the_newest_picture_comes_with_its_orientation_and_from_the_gif_upright() -> None:
    make([jpeg(0), jpeg(1, 8)])
    assert newest_picture("w", "clip.gif", 9999) == (jpeg(1, 8), 8)
    shutil.rmtree("w/frames")
    os.remove("w/image-data.img")
    data, orientation = newest_picture("w", "clip.gif", 9999)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.size, orientation) == ((16, 32), 1)


# -- workspaces of older versions, which turned nothing --


def test_an_older_workspace_becomes_upright_in_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [jpeg(0), jpeg(1, 8), jpeg(2, 3), jpeg(3, None)]
    as_older_versions_did(monkeypatch, frames)
    assert shown()[0] == (32, 16)
    make()
    size, found = shown()
    assert size == (32, 32)
    for seed, orientation in enumerate((6, 8, 3, 1)):
        expected = as_shown(pixels(photograph(seed)), orientation)
        assert near(found[seed][: expected.shape[0], : expected.shape[1]], expected)
    assert len(list(Path("w/converted").iterdir())) == 7  # three anew, of other names; the fourth is as it was
    before = versions(Path("w"))
    make()
    assert changed(before, versions(Path("w"))) == set()


def test_of_an_older_workspace_without_its_data_file_all_stays_unturned(monkeypatch: pytest.MonkeyPatch) -> None:
    as_older_versions_did(monkeypatch, [jpeg(seed) for seed in range(4)])
    os.remove("w/image-data.img")
    before = versions(Path("w"))
    make()
    assert changed(before, versions(Path("w"))) == set()
    for path in list(Path("w/converted").iterdir())[:2]:
        path.unlink()
    make(delay=50)
    size, found = shown()
    assert size == (32, 16)
    assert [near(one, pixels(photograph(seed))) for seed, one in enumerate(found)] == [True] * 4


@pytest.mark.parametrize(
    "frames",
    [
        [gif(seed=seed) for seed in range(3)],
        [encode(noise(seed=seed), "BMP") for seed in range(3)],
        [encode(noise(seed=seed), "WEBP", lossless=True) for seed in range(3)],
    ],
    ids=["GIF", "BMP", "WebP"],
)
def test_an_older_workspace_of_formats_that_are_never_turned_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, frames: list[bytes]
) -> None:
    as_older_versions_did(monkeypatch, frames)
    before = versions(Path("w"))
    make()
    assert changed(before, versions(Path("w"))) == set()


def test_of_an_older_workspace_of_upright_pictures_the_gif_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    as_older_versions_did(monkeypatch, [encode(noise(), "PNG"), jpeg(0, None), jpeg(1, 1), gif()])
    before, animation = versions(Path("w")), Path("w/clip.gif").read_bytes()
    make()
    assert changed(before, versions(Path("w"))) == {"manifest.json", "clip.gif"}
    assert Path("w/clip.gif").read_bytes() == animation


def test_what_marks_a_stream_with_nothing_to_turn_is_what_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [gif(), encode(noise(), "PNG"), jpeg(0, None)]
    as_older_versions_did(monkeypatch, frames)
    make(frames, workspace="v")
    assert recipe("v") == recipe("w")


def test_what_older_versions_converted_is_removed_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    as_older_versions_did(monkeypatch, [jpeg(0), jpeg(1)])
    make()
    assert len(list(Path("w/converted").iterdir())) == 4
    assert clean(["--remove", "w"]) == 0
    assert not Path("w/converted").exists()
