"""contact_sheet, sheet_drawing: all frames in one small picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import as_shown, encode, every_kind, exif_of, gif, noise, with_exif
from PIL import Image

from imagetl_luigi.contact_sheet import LONGEST_SIDE, MOST_TILES, Layout
from imagetl_luigi.sheet_drawing import Findings, draw_row, join_rows
from imagetl_luigi.shrinking import shrunk

MARK = "5a" * 32
SIZES = st.integers(1, 70_000)


@given(st.integers(1, 200_000), SIZES, SIZES)
def test_each_frame_is_in_exactly_one_row_and_the_sheet_is_one_that_browsers_show(
    frames: int, width: int, height: int
) -> None:
    layout = Layout.of(frames, width, height)
    assert max(layout.width, layout.height) == LONGEST_SIDE
    assert layout.columns * layout.width <= 16_384
    assert layout.rows * layout.height <= 16_384
    assert -(-frames // layout.every) <= MOST_TILES
    rows = [layout.row(number, 1) for number in range(layout.rows)]
    assert [len(row) > 0 for row in rows] == [True] * layout.rows
    assert sum(map(len, rows)) == frames
    assert [row.start for row in rows[1:]] == [row.stop for row in rows[:-1]]
    assert len({layout.row(number, layout.every).start for number in range(layout.rows)}) == layout.rows


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    return encode(Image.new("RGB", size, colour).quantize(4), "GIF", **options)


def colours(count: int) -> list[tuple[int, int, int]]:
    return [(index * 9 % 256, index * 5 % 256, 255 - index * 7 % 256) for index in range(count)]


def drawn(frames: list[bytes], layout: Layout, step: int) -> tuple[Image.Image, Findings]:
    rows = (draw_row([(frames[at], 1) for at in layout.row(row, step)], layout, step) for row in range(layout.rows))
    sheet, found = join_rows(rows, layout, step, MARK)
    return Image.open(io.BytesIO(sheet)), found


def seen(sheet: Image.Image, layout: Layout, tile: int) -> tuple[int, ...]:
    y, x = divmod(tile, layout.columns)
    return sheet.convert("RGB").getpixel(((x * 2 + 1) * layout.width // 2, (y * 2 + 1) * layout.height // 2))


def near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(colour, other, strict=True))


@pytest.mark.parametrize("count", [1, 2, 27, 50])
def test_each_tile_shows_its_frame(count: int) -> None:
    layout = Layout.of(count, 40, 30)
    sheet, found = drawn([plain(colour) for colour in colours(count)], layout, 1)
    assert sheet.size == (layout.columns * 96, layout.rows * 72)
    assert [near(seen(sheet, layout, at), colour) for at, colour in enumerate(colours(count))] == [True] * count
    assert found == Findings(delays=[100] * count, broken=[])


@pytest.mark.parametrize("step", [1, 3])
def test_where_frames_share_a_tile_it_shows_the_first_of_them(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetl_luigi.contact_sheet.MOST_TILES", 10)
    layout = Layout.of(28, 40, 30)
    assert layout.every == 3
    sheet, found = drawn([plain(colour) for colour in colours(28)], layout, step)
    assert [near(seen(sheet, layout, at), colours(28)[at * 3]) for at in range(10)] == [True] * 10
    assert len(found.delays) == (28 if step == 1 else 10)


def test_each_frame_says_how_long_it_is_shown() -> None:
    frames = [plain((9, 9, 9), duration=duration) for duration in (40, 0, 250)] + [
        encode(Image.new("L", (40, 30)), "PNG")
    ]
    assert drawn(frames, Layout.of(4, 40, 30), 1)[1].delays == [40, 100, 250, 100]


@pytest.mark.parametrize("step", [1, 2])
def test_a_frame_that_cannot_be_decoded_leaves_its_tile_empty_and_is_named(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagetl_luigi.contact_sheet.MOST_TILES", 12 // step)
    frames = [plain((250, 10, 10)) for _ in range(12)]
    frames[4] = frames[8] = b"nothing that anybody knows"
    layout = Layout.of(12, 40, 30)
    sheet, found = drawn(frames, layout, step)
    assert found.broken == [4, 8]
    assert near(seen(sheet, layout, 4 // step), (128, 128, 128))
    assert near(seen(sheet, layout, 5 // step + step - 1), (250, 10, 10))


def test_frames_of_other_formats_and_sizes_have_their_scale_and_clear_pixels_are_grey() -> None:
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    small = Image.new("RGB", (20, 15), (10, 200, 10))
    layout = Layout.of(2, 40, 30)
    sheet, _ = drawn([encode(clear, "PNG"), encode(small, "JPEG", quality=95)], layout, 1)
    assert near(seen(sheet, layout, 0), (128, 128, 128))
    x, y = 96 % (layout.columns * 96), (96 // (layout.columns * 96)) * 72
    assert near(sheet.getpixel((x + 24, y + 18)), (10, 200, 10))
    assert near(sheet.getpixel((x + 72, y + 54)), (128, 128, 128))


def test_a_frame_of_one_pixel_has_a_tile() -> None:
    layout = Layout.of(3, 1000, 1)
    sheet, found = drawn([gif((1000, 1)), gif((1, 1)), gif((1000, 1))], layout, 1)
    assert (layout.width, layout.height, found.broken) == (96, 1, [])
    assert sheet.height == layout.rows


@pytest.mark.parametrize("name", every_kind())
def test_a_picture_of_every_kind_is_made_small(name: str) -> None:
    small = shrunk(every_kind()[name], 0.5, 96)
    assert (small.mode, small.size) == ("RGB", (6, 4))
    assert shrunk(every_kind()[name], 10, 6).size == (6, 4)


@pytest.mark.parametrize("level", [0, 1000, 30_000, 65_535])
def test_brightness_of_16_bits_is_kept(level: int) -> None:
    grey = encode(Image.new("I;16", (12, 8), level), "PNG")
    assert shrunk(grey, 1, 96).getpixel((3, 3)) == (level >> 8,) * 3


def test_a_clear_pixel_is_grey_to_the_degree_that_it_is_clear() -> None:
    half = encode(Image.new("RGBA", (12, 8), (255, 0, 0, 128)), "PNG")
    assert near(shrunk(half, 1, 96).getpixel((3, 3)), (192, 64, 64))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture_of_a_known_format_is_refused(data: bytes) -> None:
    with pytest.raises(Exception, match="it is no picture of a known format"):
        shrunk(data, 1, 96)


@pytest.mark.parametrize(
    "data",
    [
        encode(noise().convert("RGB"), "PNG"),
        encode(noise().convert("RGB"), "JPEG", quality=95),
        encode(noise((768, 512)).convert("RGB"), "JPEG"),
        encode(Image.new("I;16", (12, 8), 30_000), "PNG"),
        encode(Image.new("RGBA", (12, 8), (255, 0, 0, 128)), "PNG"),
    ],
    ids=["PNG", "JPEG", "JPEG of which an eighth is decoded", "16 bits", "half clear"],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_by_the_orientation_and_not_by_what_the_file_says(data: bytes, orientation: int) -> None:
    upright = np.asarray(shrunk(with_exif(data, exif_of(6)), 1, 96))
    small = shrunk(data, 1, 96, orientation=orientation)
    assert np.array_equal(np.asarray(small), as_shown(upright, orientation))


def test_a_frame_that_lies_on_its_side_fits_into_its_tile() -> None:
    wide = Image.new("RGB", (30, 40), (250, 10, 10))
    wide.paste((10, 10, 250), (0, 20, 30, 40))
    layout = Layout.of(1, 40, 30)
    row = Image.open(io.BytesIO(draw_row([(encode(wide, "PNG"), 8)], layout, 1)))
    assert row.size == (96, 72)
    assert [near(row.getpixel(at), (250, 10, 10)) for at in ((2, 2), (45, 69))] == [True] * 2
    assert [near(row.getpixel(at), (10, 10, 250)) for at in ((50, 2), (93, 69))] == [True] * 2


@pytest.mark.parametrize("exif", [b"", b"M", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0" + b"\xff" * 60])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_frame_whose_exif_is_damaged_is_one_like_any_other(format: str, exif: bytes) -> None:
    data = encode(noise().convert("RGB"), format)
    assert shrunk(with_exif(data, exif), 1, 96).tobytes() == shrunk(data, 1, 96).tobytes()
