"""One frame in small, for a page of many."""

from __future__ import annotations

import io
from math import inf

from PIL import Image, UnidentifiedImageError

from imagetl_luigi.errors import FrameError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.formats import EXTENSIONS
from imagetl_luigi.turning import turned

GREY = (128, 128, 128)
"""What shows where a frame is clear."""

Image.MAX_IMAGE_PIXELS = None  # [limits] frame_pixels is what holds, here and in Split, and may be more than Pillow's

_FORMATS = tuple(format for format in EXTENSIONS if format != "unknown")


def shrunk(data: bytes, scale: float, longest: int, orientation: int = UPRIGHT, most: float = inf) -> Image.Image:
    """The picture `data` (of an animation, the first) as RGB on grey, with each side `scale` times as long or shorter.

    It is turned when it is small, which costs nothing.

    Args:
        longest: pixels that a side has at the most.
        orientation: how it is stored (`exif`).
        most: pixels that the picture may have, if it comes from elsewhere than Split, which has looked.

    Raises:
        Exception: it cannot be decoded, or is of another format than those that the workflow knows.
    """
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise FrameError("it is no picture of a known format, or breaks off") from None
    if picture.width * picture.height > most:
        raise FrameError(f"it has {picture.width:,} × {picture.height:,} pixels; [limits] frame_pixels allows {most:,}")
    factor = min(scale, longest / max(picture.size))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    if picture.mode == "I;16":  # brightness of 16 bits; Pillow would take all above 255 for white
        grey = picture.convert("I").resize(size, Image.Resampling.BOX).point(lambda level: level / 256)
        return turned(grey.convert("RGB"), orientation)
    picture.draft("RGB", size)  # of a JPEG no more is decoded than that
    return turned(_on_grey(picture).resize(size, Image.Resampling.BOX), orientation)


def _on_grey(picture: Image.Image) -> Image.Image:
    """Opaque pixels, which are averaged three times as fast as clear ones."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    painted = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    ground = Image.new("RGB", painted.size, GREY)
    ground.paste(painted, mask=painted.getchannel("A"))
    return ground
