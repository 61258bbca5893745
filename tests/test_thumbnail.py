"""thumbnail: a frame in small."""

from __future__ import annotations

import io

import numpy as np
import pytest
from nights import RED, plain
from pictures import encode
from PIL import Image

from imagetl_luigi.errors import FrameError
from imagetl_luigi.thumbnail import thumbnail


def small(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(thumbnail(data, "n/2026-11-01", 4_000_000)))
    assert picture.format == "JPEG" and picture.mode == "RGB"
    return picture


def near(colour: object, expected: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(colour, expected)).max() <= 4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 500), (320, 160)), ((500, 1000), (160, 320)), ((30, 20), (30, 20)), ((4000, 1), (320, 1))],
)
@pytest.mark.parametrize("format", ["GIF", "PNG", "JPEG", "WEBP", "BMP"])
def test_it_is_no_larger_than_320_pixels_and_has_the_colour(
    size: tuple[int, int], expected: tuple[int, int], format: str
) -> None:
    picture = small(plain(RED, size, format))
    assert picture.size == expected
    assert near(picture.getpixel((expected[0] // 2, 0)), RED)


def test_what_is_transparent_is_mid_grey_also_behind_half_of_it() -> None:
    picture = Image.new("RGBA", (40, 10), (255, 0, 0, 0))
    picture.paste((255, 255, 255, 128), (20, 0, 40, 10))
    drawn = small(encode(picture, "PNG"))
    assert near(drawn.getpixel((5, 5)), (128, 128, 128))
    assert near(drawn.getpixel((35, 5)), (192, 192, 192))


def test_grey_of_16_bits_is_not_white() -> None:
    picture = Image.fromarray(np.full((10, 10), 0x5000, np.uint16))
    assert near(small(encode(picture, "PNG")).getpixel((5, 5)), (0x50, 0x50, 0x50))


@pytest.mark.parametrize("data", [b"", b"GIF89a", plain(RED)[:30], b"no picture"])
def test_what_cannot_be_decoded_is_an_error_that_names_it(data: bytes) -> None:
    with pytest.raises(FrameError, match=r"^the newest picture of n/2026-11-01 cannot be decoded: "):
        thumbnail(data, "n/2026-11-01", 4_000_000)


def test_no_picture_is_decoded_that_has_more_pixels_than_it_may() -> None:
    with pytest.raises(FrameError, match=r"it has 400 × 300 pixels; \[limits\] frame_pixels allows 119,999"):
        thumbnail(plain(RED, (400, 300)), "n/2026-11-01", 119_999)
    assert thumbnail(plain(RED, (400, 300)), "n/2026-11-01", 120_000)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_by_the_orientation(orientation: int) -> None:
    data = thumbnail(plain(RED, (1000, 500)), "n/2026-11-01", 4_000_000, orientation)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == ((160, 320) if orientation > 4 else (320, 160))
