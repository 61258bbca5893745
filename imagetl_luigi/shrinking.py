"""One frame in small, for a page of many."""

from __future__ import annotations

import io

from PIL import Image

from imagetl_luigi.formats import EXTENSIONS

GREY = (128, 128, 128)
"""What shows where a frame is clear."""

Image.MAX_IMAGE_PIXELS = None  # Split has held them to [limits] frame_pixels, which may be more than Pillow's own

_FORMATS = tuple(format for format in EXTENSIONS if format != "unknown")


def shrunk(data: bytes, scale: float, longest: int) -> Image.Image:
    """The picture `data` (of an animation, the first) as RGB on grey, with each side `scale` times as long or shorter.

    Args:
        longest: pixels that a side has at the most.

    Raises:
        Exception: it cannot be decoded, or is of another format than those that the workflow knows.
    """
    picture: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    factor = min(scale, longest / max(picture.size))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    if picture.mode == "I;16":  # brightness of 16 bits; Pillow would take all above 255 for white
        return picture.convert("I").resize(size, Image.Resampling.BOX).point(lambda level: level / 256).convert("RGB")
    picture.draft("RGB", size)  # of a JPEG no more is decoded than that
    return _on_grey(picture).resize(size, Image.Resampling.BOX)


def _on_grey(picture: Image.Image) -> Image.Image:
    """Opaque pixels, which are averaged three times as fast as clear ones."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    painted = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    ground = Image.new("RGB", painted.size, GREY)
    ground.paste(painted, mask=painted.getchannel("A"))
    return ground
