"""A small picture of a frame, for a page of many."""

from __future__ import annotations

import io

from imagetl_luigi.errors import FrameError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.shrinking import shrunk

SIDE = 320
"""Pixels of its longer side at the most; a smaller frame keeps its size."""

_QUALITY = 80


def thumbnail(data: bytes, name: str, most: int, orientation: int = UPRIGHT) -> bytes:
    """A JPEG of the picture `data`, on a mid grey where it is transparent.

    Args:
        most: pixels that it may have.
        orientation: how it is stored (`exif`).

    Raises:
        FrameError: it cannot be decoded; the message names it by `name`.
    """
    try:
        picture = shrunk(data, 1, SIDE, orientation, most)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged data
        raise FrameError(f"the newest picture of {name} cannot be decoded: {error}") from error
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
