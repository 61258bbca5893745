"""How a picture is to be turned before it is shown: the orientation tag of Exif, which cameras write.

Sources: TIFF 6.0, section 2 (header and directories); Exif 2.32 (CIPA DC-008), 4.6.2 (structure) and 4.6.4 (the tag).
Where files depart from them, it is read as Chromium 156 does, whose Skia reads it, so that page and animation agree.
Pillow and ffmpeg take more for a tag than that, such as those of other types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

UPRIGHT = 1
"""The orientation of a picture that is shown as it is stored. Those from 5 on lie on their side."""

ORIENTATIONS = range(1, 9)
"""All that there are: 3 is upside down, 6 and 8 are of a camera held upright; 2, 4, 5 and 7 are mirrored."""

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769  # tags
_SHORT, _LONG = 3, 4  # types

_Entry = tuple[int, int, int, bytes]  # tag, type, count, and the value if it fits into four bytes


def read_orientation(buffer: bytes | mmap, start: int, end: int) -> int:
    """The orientation that the TIFF structure buffer[start:end] of Exif gives; UPRIGHT if it gives none, or is damaged.

    The first tag that is right counts, in the first directory or in the Exif directory that it points to.
    """
    head = buffer[start : min(end, start + 8)]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return UPRIGHT
    for entry in _with_exif_ifd(buffer, order, start, end, _number(order + "I", head[4:])):
        match entry:
            case (tag, kind, 1, value) if (tag, kind) == (_ORIENTATION, _SHORT):
                orientation = _number(order + "H", value[:2])
                if orientation in ORIENTATIONS:
                    return orientation
    return UPRIGHT


def as_shown(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of a picture after it is turned."""
    return (height, width) if orientation > 4 else (width, height)


def _with_exif_ifd(buffer: bytes | mmap, order: str, start: int, end: int, offset: int) -> Iterator[_Entry]:
    """The entries of the first directory, with those of the Exif directory behind the first entry that points to it."""
    followed = False  # once: what is linked in a circle, or thousands of times, must not hold us up
    for entry in _entries(buffer, order, start + offset, end):
        yield entry
        tag, kind, count, value = entry
        if (tag, kind, count, followed) == (_EXIF_IFD, _LONG, 1, False):
            followed = True
            yield from _entries(buffer, order, start + _number(order + "I", value), end)


def _entries(buffer: bytes | mmap, order: str, position: int, end: int) -> Iterator[_Entry]:
    """The entries of a directory, as far as they are there."""
    count = buffer[position : min(end, position + 2)]
    if len(count) == 2:
        table = buffer[position + 2 : min(end, position + 2 + 12 * _number(order + "H", count))]
        yield from struct.iter_unpack(order + "HHI4s", table[: len(table) // 12 * 12])


def _number(format: str, data: bytes) -> int:
    (number,) = struct.unpack(format, data)
    return int(number)
