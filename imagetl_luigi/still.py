"""One still picture of any format that imageio reads with Pillow, turned into a GIF of one picture.

GIF frames never come here: importing this module imports imageio and numpy.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import imageio.v3 as iio
import numpy as np
from imageio.plugins.pillow import PillowPlugin
from numpy.typing import NDArray
from PIL import Image

from imagetl_luigi.errors import FrameError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.turning import turned

Image.MAX_IMAGE_PIXELS = None  # Split has held them to [limits] frame_pixels, which may be more than Pillow's own

_CLEAR = 255  # colour index of clear pixels
_HALF = 128  # alpha from which on a pixel is painted


class _Reader(PillowPlugin):
    """imageio's reader with Pillow, which would give up a picture whose Exif is damaged; nobody needs it here."""

    def metadata(self, index: int | None = None, exclude_applied: bool = True) -> dict[str, Any]:
        """What Pillow says of the picture that it is at."""
        picture: Any = self._image
        return {**picture.info, "mode": picture.mode}


def still_to_gif(data: bytes, name: str, orientation: int = UPRIGHT) -> bytes:
    """Decode the picture `data` (of an animation, the first) and quantise it to a GIF of at most 256 colours.

    A picture of no more colours than that stays as it is. Pixels of 16 bits are scaled to 8 by a
    fixed factor, so that brightness stays comparable from frame to frame. Pixels that are at least
    half transparent become transparent, the others opaque. It is turned last, when a pixel is one byte.

    Args:
        orientation: how it is stored, from `exif`; what the file itself says of it is not looked at.

    Raises:
        FrameError: imageio cannot decode it; the message names the frame `name`.
    """
    try:
        pixels = decode(data)
    except Exception as error:  # decoders raise what they like on damaged data
        reason = error.__cause__ or error  # imageio's own says no more than that Pillow failed
        raise FrameError(
            f"{name} cannot be decoded: {reason}; remove the data file, so that it is fetched again, or repair it"
        ) from error
    clear = pixels[..., 3] < _HALF
    # Pillow, and not imageio's own GIF writer, which drops transparency
    painted = Image.fromarray(pixels[~clear][np.newaxis, :, :3]).quantize(
        _CLEAR if clear.any() else 256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    indexes = np.full(clear.shape, _CLEAR, np.uint8)
    indexes[~clear] = np.asarray(painted)[0]
    picture = turned(Image.fromarray(indexes), orientation)
    picture.putpalette(painted.getpalette() or [])
    out = io.BytesIO()
    picture.save(out, "GIF", optimize=False, **({"transparency": _CLEAR} if clear.any() else {}))
    return out.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """The picture as it is stored, as an array of shape (height, width, 4): red, green, blue and alpha from 0 to 255.

    What cannot be decoded raises what the decoder likes.
    """
    # without a plugin imageio would offer damaged data to every decoder that is installed
    with contextlib.closing(iio.imopen(data, "r", plugin=_Reader)) as file:
        about = file.metadata()
        if about["mode"] != "I;16":  # of 16 bits is only grey; of colours Pillow gives the upper 8
            return np.asarray(file.read(index=0, mode="RGBA"))
        pixels = np.asarray(file.read(index=0))
    grey = (pixels >> 8).astype(np.uint8)
    alpha = np.full(pixels.shape, 255, np.uint8)
    alpha[pixels == about.get("transparency")] = 0
    return np.stack([grey, grey, grey, alpha], axis=-1)
