"""Pictures to test with, drawn by Pillow or put together byte by byte."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(size: tuple[int, int] = (12, 8), seed: int = 0, colours: int = 16) -> Image.Image:
    """A paletted picture of random pixels and random colours."""
    chance = random.Random(seed)
    picture = Image.new("P", size)
    picture.putpalette(chance.randbytes(3 * colours))
    picture.putdata([chance.randrange(colours) for _ in range(size[0] * size[1])])
    return picture


def encode(picture: Image.Image, format: str, **options: Any) -> bytes:
    """The picture as a file of that format."""
    if format == "JPEG":
        picture = picture.convert("RGB")
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def near(one: tuple[int, ...], other: tuple[int, ...], by: int = 2) -> bool:
    """Whether two colours are the same but for what a JPEG or a screen makes of them."""
    return max(abs(left - right) for left, right in zip(one, other, strict=True)) <= by


def gif(size: tuple[int, int] = (12, 8), seed: int = 0, colours: int = 16, **options: Any) -> bytes:
    """A GIF of one picture of random pixels."""
    return encode(noise(size, seed, colours), "GIF", **options)


def exif_of(orientation: int, order: str = "<", *, kind: int = 3, count: int = 1) -> bytes:
    """Exif that holds the orientation and nothing else, as a TIFF structure (TIFF 6.0, section 2)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHIHHI", 1, 0x112, kind, count, orientation, 0, 0)


def with_exif(picture: bytes, exif: bytes) -> bytes:
    """A JPEG or PNG with Exif in it, where cameras and programs put it; its pixels stay as they are."""
    if picture.startswith(b"\xff\xd8"):
        return picture[:2] + struct.pack(">BBH6s", 0xFF, 0xE1, len(exif) + 8, b"Exif\0\0") + exif + picture[2:]
    chunk = struct.pack(">I4s", len(exif), b"eXIf") + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    at = picture.index(b"IDAT") - 4
    return picture[:at] + chunk + picture[at:]


def as_shown(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows of pixels as they are shown, by where the stored first row and first column are then (Exif, Orientation)."""
    on_its_side = np.swapaxes(stored, 0, 1)
    return {
        1: stored,  # top, left
        2: stored[:, ::-1],  # top, right
        3: stored[::-1, ::-1],  # bottom, right
        4: stored[::-1],  # bottom, left
        5: on_its_side,  # left, top
        6: on_its_side[:, ::-1],  # right, top
        7: on_its_side[::-1, ::-1],  # right, bottom
        8: on_its_side[::-1],  # left, bottom
    }[orientation]


def raw_gif(
    data: bytes,
    *,
    screen: tuple[int, int] = (4, 4),
    box: tuple[int, int, int, int] | None = None,
    palette: bytes = b"\0\0\0\xff\xff\xff",
    local: bool = False,
    code_size: int = 2,
    before: bytes = b"",
    packed: int = 0,
) -> bytes:
    """A GIF around any LZW data, with any blocks `before` the picture."""
    bits = (len(palette) // 3).bit_length() - 2
    table = 0x80 | bits if palette else 0
    left, top, width, height = box or (0, 0, *screen)
    return b"".join(
        [
            b"GIF89a",
            struct.pack("<HHBBB", *screen, 0 if local else table, 0, 0),
            b"" if local else palette,
            before,
            b",",
            struct.pack("<HHHHB", left, top, width, height, (table if local else 0) | packed),
            palette if local else b"",
            bytes([code_size]),
            *(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255)),
            b"\0;",
        ]
    )


def every_kind(seed: int = 0) -> dict[str, bytes]:
    """A picture of 12 × 8 pixels in each format and in the variants that are laid out differently."""
    paletted = noise(seed=seed)
    colour = paletted.convert("RGB")
    clear = paletted.convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    thumbnail = encode(colour.resize((4, 4)), "JPEG")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0\n\n\n\n" + thumbnail
    return {
        "gif 87a": encode(paletted, "GIF"),
        "gif 89a": encode(paletted, "GIF", transparency=3, comment=b"\n\n\n\n", duration=100),
        "gif of several pictures": encode(paletted, "GIF", save_all=True, append_images=[noise(seed=seed + 1)]),
        "png": encode(paletted, "PNG"),
        "png with alpha": encode(clear, "PNG"),
        "jpeg baseline": encode(colour, "JPEG", quality=75),
        "jpeg progressive": encode(colour, "JPEG", progressive=True),
        "jpeg of quality 95": encode(colour, "JPEG", quality=95),
        "jpeg with restart markers": encode(colour, "JPEG", restart_marker_blocks=1, subsampling=0),
        "jpeg with a thumbnail": encode(colour, "JPEG", exif=exif),
        "jpeg of several images": encode(colour, "MPO", save_all=True, append_images=[colour, colour]),
        "webp lossy": encode(colour, "WEBP"),
        "webp lossless": encode(colour, "WEBP", lossless=True),
        "webp extended": encode(clear, "WEBP"),
        "bmp of 8 bits": encode(paletted, "BMP"),
        "bmp of 24 bits": encode(colour, "BMP"),
        "bmp of 32 bits": encode(clear, "BMP"),
    }
