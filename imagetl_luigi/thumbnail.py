"""A small picture of a frame, for a page of many.

Importing this module imports Pillow, imageio and numpy.
"""

from __future__ import annotations

import io

from PIL import Image

from imagetl_luigi.errors import FrameError
from imagetl_luigi.still import decode

SIDE = 320
"""Pixels of its longer side at the most; a smaller frame keeps its size."""

_GREY = (128, 128, 128)
_QUALITY = 80


def thumbnail(data: bytes, name: str) -> bytes:
    """A JPEG of the picture `data`, on a mid grey where it is transparent.

    Raises:
        FrameError: it cannot be decoded; the message names it by `name`.
    """
    try:
        picture = Image.fromarray(decode(data))
    except Exception as error:  # decoders raise what they like on damaged data
        raise FrameError(f"the newest picture of {name} cannot be decoded: {error.__cause__ or error}") from error
    picture.thumbnail((SIDE, SIDE))
    small = Image.new("RGB", picture.size, _GREY)
    small.paste(picture, mask=picture.getchannel("A"))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
