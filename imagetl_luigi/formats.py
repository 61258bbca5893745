"""The structure of the image formats: where a picture that begins at a byte ends.

Pictures are walked from block to block as their formats lay them out; nothing is decoded.
Positions are indexes into the buffer given, which may hold other things before and after the
picture and may break off inside it.

Sources: GIF89a (CompuServe 1990), PNG (W3C, 3rd edition, section 5), JPEG (ITU-T T.81, annex B;
CIPA DC-007 for pictures of several images, CIPA DC-008 for their Exif), WebP (RFC 9649), BMP (Microsoft,
BITMAPFILEHEADER).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

from imagetl_luigi.exif import UPRIGHT, as_shown, read_orientation

Buffer = bytes | mmap
"""What is walked: bytes in memory, or a file mapped into it."""

LONGEST_SIGNATURE = 30
"""Bytes that `sniff` must see to be sure."""

EXTENSIONS = {"gif": "gif", "png": "png", "jpeg": "jpg", "webp": "webp", "bmp": "bmp", "unknown": "bin"}
"""File name extension of each format."""

TURNABLE = frozenset({"jpeg", "png"})
"""Formats whose pictures may say that they are to be turned before they are shown. Browsers do not turn a WebP."""

START = rb"GIF8[79]a|\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF(?s:.{4})WEBP|BM(?s:.{12})[\x28\x34\x38\x40\x6c\x7c]\0\0\0"
"""Regular expression for what a known picture may begin with; `sniff` tells whether it does."""


class Malformed(Exception):
    """The bytes do not go on as the format demands."""


class PastEnd(Exception):
    """The picture goes on past the buffer, at least to `needed`."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class Picture(NamedTuple):
    """A whole picture in a buffer. Width and height are pixels of it as it is shown.

    Opaque is one that paints every pixel; the orientation is how it is stored (`exif`).
    """

    end: int
    width: int
    height: int
    opaque: bool
    orientation: int = UPRIGHT


class Gif(NamedTuple):
    """A GIF file in a buffer, with its first picture taken apart. Ranges are (start, end)."""

    end: int
    screen: tuple[int, int]
    """Width and height of the logical screen."""
    box: tuple[int, int, int, int]
    """Left, top, width and height of the picture."""
    interlaced: bool
    palette: tuple[int, int]
    """The colours in force for the picture: its local table, else the global one, else an empty range."""
    code_size: int
    """Minimum LZW code size, in bits."""
    data: tuple[int, int]
    """Code size byte, sub-blocks and terminator: what can be copied verbatim."""
    delay: int
    """Hundredths of a second; 0 where none is given."""
    transparent: int | None
    """Colour index that is not painted."""

    @property
    def opaque(self) -> bool:
        """Whether the picture paints every pixel of its screen."""
        return self.transparent is None and self.box == (0, 0, *self.screen)


def sniff(buffer: Buffer, start: int) -> str | None:
    """The format whose signature stands at `start`, or None. Wants LONGEST_SIGNATURE bytes to be sure."""
    match buffer[start : start + 3]:
        case b"GIF" if buffer[start + 3 : start + 6] in (b"87a", b"89a"):
            return "gif"
        case b"\x89PN" if buffer[start : start + 8] == b"\x89PNG\r\n\x1a\n":
            return "png"
        case b"\xff\xd8\xff":
            return "jpeg"
        case b"RIF" if buffer[start + 3 : start + 4] == b"F" and buffer[start + 8 : start + 12] == b"WEBP":
            return "webp"
        case head if head.startswith(b"BM") and _plausible_bmp(buffer, start):
            return "bmp"
    return None


def walk(name: str, buffer: Buffer, start: int) -> Picture:
    """Walk the picture of format `name` at `start`.

    Raises:
        PastEnd: the buffer breaks off inside it.
        Malformed: it is not laid out as its format demands.
    """
    return _WALKERS[name](buffer, start)


def parse_gif(buffer: Buffer, start: int) -> Gif:
    """Take a GIF apart: blocks as in GIF89a sections 17 to 27; no LZW code is looked at.

    Raises:
        PastEnd: the buffer breaks off inside it.
        Malformed: an unknown block, or no picture.
    """
    _reach(buffer, start + 13)
    width, height, packed = struct.unpack_from("<HHB", buffer, start + 6)
    position = start + 13
    table = (position, position)
    if packed & 0x80:
        table = (position, position + (6 << (packed & 7)))
        position = table[1]
    delay, transparent, picture = 0, None, None
    while True:
        _reach(buffer, position + 1)
        kind = buffer[position]
        if kind == 0x2C:
            image = _gif_image(buffer, position, table)
            if picture is None:
                picture = (*image, delay, transparent)
            position = image[-1][1]
        elif kind == 0x21:
            if picture is None and buffer[position + 1 : position + 3] == b"\xf9\x04":
                _reach(buffer, position + 8)
                flags, delay, index = struct.unpack_from("<BHB", buffer, position + 3)
                transparent = index if flags & 1 else None
            position = _gif_sub_blocks(buffer, position + 2)
        elif kind == 0x3B and picture is not None:
            return Gif(position + 1, (width, height), *picture)
        else:
            raise Malformed


def _gif_image(
    buffer: Buffer, position: int, table: tuple[int, int]
) -> tuple[tuple[int, int, int, int], bool, tuple[int, int], int, tuple[int, int]]:
    _reach(buffer, position + 11)
    left, top, width, height, packed = struct.unpack_from("<HHHHB", buffer, position + 1)
    position += 10
    if packed & 0x80:
        table = (position, position + (6 << (packed & 7)))
        position = table[1]
        _reach(buffer, position + 1)
    code_size = buffer[position]
    if not 1 <= code_size <= 11:
        raise Malformed
    end = _gif_sub_blocks(buffer, position + 1)
    return (left, top, width, height), bool(packed & 0x40), table, code_size, (position, end)


def _gif_sub_blocks(buffer: Buffer, position: int) -> int:
    """The end of a chain of data sub-blocks (GIF89a section 15), whose block terminator is included.

    Encoders fill all sub-blocks but the last with 255 bytes, so the size bytes stand 256 apart:
    one slice with that stride holds 1,024 of them, ten times faster than going one by one.
    """
    while True:
        _reach(buffer, position + 1)
        count = buffer[position]
        if count == 255:
            strides = buffer[position : position + 262144 : 256]
            position += 256 * (len(strides) - len(strides.lstrip(b"\xff")))
        else:
            position += count + 1
            if count == 0:
                return position


def _walk_gif(buffer: Buffer, start: int) -> Picture:
    gif = parse_gif(buffer, start)
    if 0 in gif.box[2:]:
        raise Malformed
    return Picture(gif.end, *gif.screen, gif.opaque)


_LONGEST_EXIF = 4 * 1024 * 1024  # bytes of a chunk that Chromium reads
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk, with its checksum: a delimiter in place of that is how a picture cut by a few bytes ends."""


def _walk_png(buffer: Buffer, start: int) -> Picture:
    _reach(buffer, start + 24)
    kind, width, height = struct.unpack_from(">4sII", buffer, start + 12)
    if kind != b"IHDR":
        raise Malformed
    position, orientation = start + 8, None
    while kind != b"IEND":
        _reach(buffer, position + 8)
        length, kind = struct.unpack_from(">I4s", buffer, position)
        if length > 0x7FFFFFFF or not kind.isalpha():
            raise Malformed
        if orientation is None and kind == b"eXIf":
            orientation = _png_orientation(buffer, position, length)
        elif kind == b"IDAT":  # behind the first one browsers do not look for it
            orientation = orientation or UPRIGHT
        position += 12 + length
    _reach(buffer, position)
    if buffer[position - 12 : position] != _PNG_END:
        raise Malformed
    orientation = orientation or UPRIGHT
    return Picture(position, *as_shown(width, height, orientation), False, orientation)


def _png_orientation(buffer: Buffer, position: int, length: int) -> int | None:
    """That of an eXIf chunk; None of one that browsers pass over: too long, or other than its checksum says."""
    end = position + 8 + length
    if length > _LONGEST_EXIF or zlib.crc32(buffer[position + 4 : end]).to_bytes(4, "big") != buffer[end : end + 4]:
        return None
    return read_orientation(buffer, position + 8, end)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""A marker after entropy-coded data: no stuffed byte, no restart marker, no fill byte (T.81, B.1.1)."""


@dataclass
class _JpegHeader:
    """What the segments before the first scan of an image have said so far."""

    size: tuple[int, int] | None = None
    orientation: int | None = None
    several: bool = False


def _walk_jpeg(buffer: Buffer, start: int) -> Picture:
    picture, several = _jpeg_image(buffer, start)
    end = picture.end
    while several and buffer[end : end + 3] == b"\xff\xd8\xff":  # the next image of the same file
        (end, *_), several = _jpeg_image(buffer, end)
    return picture._replace(end=end)


def _jpeg_image(buffer: Buffer, start: int) -> tuple[Picture, bool]:
    """One image, and whether it says that its file holds several."""
    position, header = start + 2, _JpegHeader()
    while True:
        _reach(buffer, position + 2)
        lead, marker = buffer[position], buffer[position + 1]
        if lead != 0xFF or marker in (0x00, 0xD8):  # an image begins once
            raise Malformed
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xD9:
            position += 2
            break
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            position += 2
        else:
            position = _jpeg_segment(buffer, position, header)
    if header.size is None:
        raise Malformed
    orientation = header.orientation or UPRIGHT
    return Picture(position, *as_shown(*header.size, orientation), False, orientation), header.several


def _jpeg_segment(buffer: Buffer, position: int, header: _JpegHeader) -> int:
    """Go over one marker segment, and over the entropy-coded data if it is a scan; return its end."""
    marker = buffer[position + 1]
    _reach(buffer, position + 4)
    (length,) = struct.unpack_from(">H", buffer, position + 2)
    if length < 2:
        raise Malformed
    data = position + 4
    end: int = position + 2 + length
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header (B.2.2)
        _reach(buffer, data + 5)
        height, width = struct.unpack_from(">HH", buffer, data + 1)
        header.size = header.size or (width, height)
    elif marker == 0xE1 and header.orientation is None and buffer[data : data + 5] == b"Exif\0" and end > data + 6:
        header.orientation = read_orientation(buffer, data + 6, end)  # behind a fill byte
    elif marker == 0xE2 and buffer[data : data + 4] == b"MPF\0":
        header.several = True
    elif marker == 0xDA:
        header.orientation = header.orientation or UPRIGHT  # browsers do not look for it any more
        found = _JPEG_MARKER.search(buffer, end)
        if not found:
            raise PastEnd(len(buffer) + 1)
        end = found.start()
    return end


def _walk_webp(buffer: Buffer, start: int) -> Picture:
    _reach(buffer, start + 16)
    (length,) = struct.unpack_from("<I", buffer, start + 4)
    end = start + 8 + length + (length & 1)
    kind = buffer[start + 12 : start + 16]
    _reach(buffer, start + (25 if kind == b"VP8L" else 30))  # a lossless one may be 26 bytes long
    if kind == b"VP8X":
        width = int.from_bytes(buffer[start + 24 : start + 27], "little") + 1
        height = int.from_bytes(buffer[start + 27 : start + 30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(buffer[start + 21 : start + 25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", buffer, start + 26))
    else:
        raise Malformed
    _reach(buffer, end)
    return Picture(end, width, height, False)


def _plausible_bmp(buffer: Buffer, start: int) -> bool:
    """Whether the headers make sense; "BM" alone is too common to be a signature."""
    if len(buffer) < start + 30:
        return False
    pixels, header, width, height, planes, depth = struct.unpack_from("<IIiiHH", buffer, start + 10)
    return (
        header in (40, 52, 56, 64, 108, 124)
        and planes == 1
        and depth in (1, 4, 8, 16, 24, 32)
        and 14 + header <= pixels
        and width > 0
        and height != 0
    )


def _walk_bmp(buffer: Buffer, start: int) -> Picture:
    _reach(buffer, start + 34)
    length, pixels = struct.unpack_from("<I4xI", buffer, start + 2)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", buffer, start + 18)
    if compression in (0, 3):  # plain rows, each filled up to 4 bytes; some writers give no length
        length = max(length, pixels + (width * depth + 31) // 32 * 4 * abs(height))
    if length < pixels:
        raise Malformed
    _reach(buffer, start + length)
    return Picture(start + length, width, abs(height), False)


def _reach(buffer: Buffer, end: int) -> None:
    if end > len(buffer):
        raise PastEnd(end)


_WALKERS: dict[str, Callable[[Buffer, int], Picture]] = {
    "gif": _walk_gif,
    "png": _walk_png,
    "jpeg": _walk_jpeg,
    "webp": _walk_webp,
    "bmp": _walk_bmp,
}
