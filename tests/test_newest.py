"""newest: the last frame of a workspace, wherever it still is."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from nights import BLUE, GREEN, RED, make_night, make_stream, plain
from pictures import encode, gif, noise
from PIL import Image, ImageSequence

from imagetl_luigi.errors import FrameError
from imagetl_luigi.newest import last_picture, newest_picture

FRAMES = [gif(seed=1), gif(seed=2, colours=64), gif(seed=3, transparency=2)]
MOST = 1_000_000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return seen(picture)


def seen(picture: Image.Image) -> bytes:
    """Each pixel; nothing but zeros where it is clear."""
    painted = picture.convert("RGBA")
    return Image.composite(painted, Image.new("RGBA", painted.size), painted.getchannel("A")).tobytes()


@pytest.mark.parametrize("gone", [[], ["frames"], ["image-data.img"]], ids=["nothing", "frames", "data file"])
def test_the_last_frame_comes_byte_for_byte_as_long_as_it_is_anywhere(gone: list[str]) -> None:
    make_stream("w", FRAMES)
    for name in gone:
        shutil.rmtree(f"w/{name}") if name == "frames" else os.remove(f"w/{name}")
    assert newest_picture("w", "", MOST) == (FRAMES[-1], 1)


def test_a_night_that_took_over_another_has_that_ones_frame() -> None:
    make_night("n", 1, FRAMES)
    night = make_night("n", 2, FRAMES)
    assert not Path(night, "frames").exists()
    assert newest_picture(night, "", MOST) == (FRAMES[-1], 1)
    shutil.rmtree("n/2026-11-01")
    assert pixels(newest_picture(night, "clip.gif", MOST)[0]) == pixels(FRAMES[-1])


@pytest.mark.parametrize("cut", [-40, 0], ids=["a line less", "nothing in it"])
def test_a_manifest_that_breaks_off_leaves_the_gif(cut: int) -> None:
    make_stream("w", FRAMES)
    os.truncate("w/manifest.json", os.path.getsize("w/manifest.json") + cut if cut else 0)
    assert pixels(newest_picture("w", "clip.gif", MOST)[0]) == pixels(FRAMES[-1])


def test_a_frame_file_with_something_else_in_it_is_not_taken() -> None:
    make_stream("w", FRAMES)
    os.remove("w/image-data.img")
    path = Path("w/frames/frame_02.gif")
    path.write_bytes(bytes(path.stat().st_size))
    assert pixels(newest_picture("w", "clip.gif", MOST)[0]) == pixels(FRAMES[-1])
    with pytest.raises(FrameError, match=r"^w has no picture: .*; run its workflow again$"):
        newest_picture("w", "", MOST)


@pytest.mark.parametrize(
    "frames",
    [
        [plain(colour) for colour in (RED, GREEN, BLUE)],
        FRAMES,
        [gif(seed=1, transparency=2), gif((5, 4), seed=2)],
        [gif((300, 200), seed=5, colours=200), encode(noise((300, 200), seed=4), "PNG")],
    ],
    ids=["opaque, one table", "clear in the last", "a small one", "converted, of many sub-blocks"],
)
def test_the_last_picture_of_an_animation_is_what_it_shows_last(frames: list[bytes]) -> None:
    make_stream("w", frames)
    animation = Path("w/clip.gif").read_bytes()
    last = last_picture(io.BytesIO(animation), "w/clip.gif", MOST)
    with Image.open(io.BytesIO(animation)) as played:
        shown = [seen(frame) for frame in ImageSequence.Iterator(played)]
    assert pixels(last) == shown[-1]
    with Image.open(io.BytesIO(last)) as one:
        assert getattr(one, "n_frames", 1) == 1


@pytest.mark.parametrize("kept", [0, 3, 12, 20, 200, -1])
def test_an_animation_that_breaks_off_is_an_error_that_names_it(kept: int) -> None:
    make_stream("w", FRAMES)
    data = Path("w/clip.gif").read_bytes()
    for damaged in (data[:kept], b"JUNK" + data[4:], data[:-1] + b"?"):
        with pytest.raises(FrameError, match=r"^w/clip\.gif is not a whole GIF; remove it and run again$"):
            last_picture(io.BytesIO(damaged), "w/clip.gif", MOST)


def test_no_more_is_read_than_a_frame_may_have() -> None:
    make_stream("w", FRAMES)
    with pytest.raises(FrameError, match=r"^the newest picture of w has [\d,]+ bytes; \[limits\] frame_bytes allows"):
        newest_picture("w", "clip.gif", 100)
    with pytest.raises(FrameError, match=r"^a picture of w/clip.gif is too large; \[limits\] frame_bytes allows 20$"):
        last_picture(io.BytesIO(Path("w/clip.gif").read_bytes()), "w/clip.gif", 20)
