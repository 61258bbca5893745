from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import as_shown, encode, exif_of, gif, noise, with_exif
from PIL import Image

from imagetl_luigi.errors import FrameError
from imagetl_luigi.formats import parse_gif
from imagetl_luigi.gif import Recipe, combine
from imagetl_luigi.still import still_to_gif

Pixels = NDArray[np.uint8]


def shown(data: bytes) -> Pixels:
    """Red, green, blue and alpha of each pixel; nothing but zeros where it is clear."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.array(picture.convert("RGBA"))
    pixels[pixels[..., 3] == 0] = 0
    return pixels


def converted(data: bytes) -> Pixels:
    result = still_to_gif(data, "frame_0")
    assert parse_gif(result, 0).end == len(result)
    return shown(result)


def smooth(size: tuple[int, int] = (96, 64)) -> Pixels:
    """More colours than a GIF may have, as in a photograph."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    waves = np.stack([x, y, (np.sin(9 * x * y) + 1) / 2], axis=-1)
    return np.asarray(255 * waves, np.uint8)


def psnr(one: Pixels, other: Pixels) -> float:
    error = np.mean((one[..., :3].astype(float) - other[..., :3]) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def with_clear_corner(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.paste((9, 8, 7, 0), (0, 0, 3, 3))
    return picture


def png_of_16_bits(picture: Image.Image, transparent: int | None = None) -> bytes:
    """By hand, for neither Pillow nor imageio writes colours of 16 bits (PNG, sections 5 and 11)."""
    kind = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[picture.mode]
    rows = np.asarray(picture, ">u2").reshape(picture.height, -1) * 256 + 0xC9
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", *picture.size, 16, kind, 0, 0, 0)),
        (b"tRNS", b"" if transparent is None else struct.pack(">H", transparent)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
        if data or name == b"IEND"
    )


RGB = noise().convert("RGB")
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize(
    "picture",
    [RGB, with_clear_corner(RGB), RGB.convert("L"), noise(), noise(colours=256), RGB.convert("1"), noise((1, 1))],
    ids=["RGB", "RGBA", "L", "P", "P of 256", "1", "1 pixel"],
)
def test_a_picture_of_few_colours_stays_as_it_is(picture: Image.Image, format: str) -> None:
    data = encode(picture, format, **LOSSLESS[format])
    assert np.array_equal(converted(data), shown(data))


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (with_clear_corner(RGB).convert("LA"), {}),
        (noise(), {"transparency": 3}),
        (noise(), {"transparency": bytes([0, 255] * 8)}),
        (RGB, {"transparency": RGB.getpixel((0, 0))}),
        (RGB.convert("L"), {"transparency": RGB.convert("L").getpixel((0, 0))}),
    ],
    ids=["LA", "an index", "alpha in the palette", "a colour", "a grey"],
)
def test_every_kind_of_transparency_is_kept(picture: Image.Image, options: dict[str, Any]) -> None:
    data = encode(picture, "PNG", **options)
    assert 0 < np.count_nonzero(shown(data)[..., 3]) < 12 * 8
    assert np.array_equal(converted(data), shown(data))


@given(colours=st.integers(1, 256), seed=st.integers(0, 999), clear=st.booleans())
@settings(max_examples=40, deadline=None)
def test_colours_are_exact_up_to_256_with_the_clear_one(colours: int, seed: int, clear: bool) -> None:
    chance = np.random.default_rng(seed)
    palette = chance.integers(0, 256, (colours, 4), np.uint8)
    palette[:, 3] = 255
    if clear:
        palette[0] = 0
    pixels = palette[chance.integers(0, colours, (40, 40))]
    data = encode(Image.fromarray(pixels), "PNG")
    assert np.array_equal(converted(data), shown(data))


def test_colours_of_clear_pixels_do_not_count() -> None:
    pixels = np.asarray(noise((40, 40), colours=255).convert("RGBA")).copy()
    pixels[:20] = np.random.default_rng(0).integers(0, 256, (20, 40, 4), np.uint8)
    pixels[:20, :, 3] = 0
    data = encode(Image.fromarray(pixels), "PNG")
    assert np.array_equal(converted(data), shown(data))


def test_only_clear_pixels_of_a_picture_of_many_colours_are_clear() -> None:
    data = encode(with_clear_corner(Image.fromarray(smooth())), "PNG")
    assert np.array_equal(converted(data)[..., 3], shown(data)[..., 3])


def test_a_picture_that_is_wholly_clear_stays_so() -> None:
    assert not converted(encode(Image.new("RGBA", (5, 4)), "PNG")).any()


@pytest.mark.parametrize(("alpha", "opaque"), [(0, False), (127, False), (128, True), (255, True)])
def test_what_is_half_transparent_becomes_clear_or_opaque(alpha: int, opaque: bool) -> None:
    data = encode(Image.new("RGBA", (5, 4), (1, 2, 3, alpha)), "PNG")
    assert np.all(converted(data) == ((1, 2, 3, 255) if opaque else (0, 0, 0, 0)))


def test_16_bit_grey_is_scaled_by_a_fixed_factor() -> None:
    levels = np.arange(0, 256, dtype=np.uint16).reshape(16, 16)
    assert np.array_equal(converted(iio.imwrite("<bytes>", levels << 8, extension=".png"))[..., 0], levels)
    dark = converted(iio.imwrite("<bytes>", levels, extension=".png"))
    assert dark[..., :3].max() == 0  # and not stretched to what is brightest here


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_16_bits_are_shown_as_their_upper_8(mode: str) -> None:
    picture = with_clear_corner(RGB).convert(mode)
    assert np.array_equal(converted(png_of_16_bits(picture)), shown(encode(picture, "PNG")))


def test_a_transparent_grey_of_16_bits_is_clear() -> None:
    picture = Image.frombytes("L", (2, 1), b"\x07\x09")
    assert converted(png_of_16_bits(picture, transparent=0x07C9))[0].tolist() == [[0, 0, 0, 0], [9, 9, 9, 255]]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_shown_as_pillow_shows_it(mode: str) -> None:
    out = io.BytesIO()
    Image.fromarray(smooth()).convert(mode).save(out, "JPEG", quality=95)
    assert psnr(converted(out.getvalue()), shown(out.getvalue())) > 30


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(format: str) -> None:
    pictures = [noise(seed=seed).convert("RGB") for seed in range(3)]
    data = encode(pictures[0], format, save_all=True, append_images=pictures[1:], **LOSSLESS[format])
    assert np.array_equal(converted(data)[..., :3], np.asarray(pictures[0]))


@pytest.mark.parametrize(
    "data",
    [
        encode(RGB, "PNG"),
        encode(with_clear_corner(RGB), "PNG"),
        png_of_16_bits(RGB.convert("L")),
        png_of_16_bits(with_clear_corner(RGB)),
        encode(RGB, "BMP"),
    ],
    ids=["RGB", "RGBA", "16 bits, grey", "16 bits, RGBA", "BMP"],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_by_the_orientation(data: bytes, orientation: int) -> None:
    result = still_to_gif(data, "frame_0", orientation)
    assert np.array_equal(shown(result), as_shown(converted(data), orientation))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_what_the_file_says_of_it_does_not_count(format: str) -> None:
    data = encode(RGB, format, exif=exif_of(6))
    assert converted(data).shape == (8, 12, 4)


DAMAGED = [b"", b"M", b"XX" + exif_of(6), b"II*\0\xff\xff\xff\xff", exif_of(6)[:-9], b"II*\0\x08\0\0\0" + b"\xff" * 60]


@pytest.mark.parametrize("exif", DAMAGED, ids=["empty", "a byte", "header", "directory", "cut off", "garbage"])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_whose_exif_is_damaged_is_one_like_any_other(format: str, exif: bytes) -> None:
    data = with_exif(encode(RGB, format), exif)
    assert np.array_equal(converted(data), converted(encode(RGB, format)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["smooth", "grainy"])
def test_quality_is_no_worse_than_imageios(kind: str, seed: int) -> None:
    grain = np.random.default_rng(seed).integers(-20, 21, (64, 96, 3)) * (kind == "grainy")
    pixels = np.asarray(np.clip(np.roll(smooth(), 20 * seed, axis=1) + grain, 0, 255), np.uint8)
    plain = shown(iio.imwrite("<bytes>", pixels, extension=".gif"))
    assert psnr(converted(encode(Image.fromarray(pixels), "PNG")), pixels) >= psnr(plain, pixels)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0, 20, 0.5])
def test_damaged_data_is_an_error_that_names_the_frame(format: str, kept: float) -> None:
    data = encode(Image.fromarray(smooth()), format)
    damaged = data[: int(kept * len(data)) if kept < 1 else int(kept)]
    with pytest.raises(FrameError, match=r"^frame_07\.png cannot be decoded: "):
        still_to_gif(damaged, "frame_07.png")


def test_pictures_of_other_formats_join_gifs_in_one_animation() -> None:
    sources = [gif((12, 8), 0), encode(with_clear_corner(RGB), "PNG"), encode(noise((5, 4)), "BMP"), gif((12, 8), 1)]
    frames = [data if data.startswith(b"GIF") else still_to_gif(data, "") for data in sources]
    out = io.BytesIO()
    recipe = Recipe(source="", delimiter="", delay=None, loop=0, stream="", frames="")
    assert [*combine(frames, out, screen=(12, 8), opaque=False, recipe=recipe)] == [1, 2, 3, 4]
    with Image.open(out) as animation:
        for index, source in enumerate(sources):
            animation.seek(index)
            expected = shown(source)
            canvas = np.asarray(animation.convert("RGBA"))[: expected.shape[0], : expected.shape[1]]
            assert np.array_equal(canvas[expected[..., 3] > 0], expected[expected[..., 3] > 0])
