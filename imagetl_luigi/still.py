"""One still picture of any format that imageio reads, turned into a GIF of one picture.

GIF frames never come here: importing this module imports imageio and numpy.
"""

from __future__ import annotations

import io

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagetl_luigi.errors import FrameError


def still_to_gif(data: bytes, name: str) -> bytes:
    """Decode the picture `data` (of an animation, the first) and quantise it to a GIF of at most 256 colours.

    A picture of no more colours than that stays as it is. Pixels of 16 bits are scaled to 8 by a
    fixed factor, so that brightness stays comparable from frame to frame. Pixels that are at least
    half transparent become transparent, the others opaque. Orientation tags are not applied.

    Raises:
        FrameError: imageio cannot decode it; the message names the frame `name`.
    """
    try:
        pixels = _decode(data)
    except Exception as error:  # decoders raise what they like on damaged data
        raise FrameError(f"{name} cannot be decoded: {error}; fetch the stream again or repair it") from error
    clear = pixels[..., 3] < 128
    # Pillow, and not imageio's own GIF writer, which drops transparency
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3])).quantize(
        255 if clear.any() else 256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    options = {}
    if clear.any():
        picture.paste(255, mask=Image.fromarray(clear))
        options["transparency"] = 255
    out = io.BytesIO()
    picture.save(out, "GIF", optimize=False, **options)
    return out.getvalue()


def _decode(data: bytes) -> NDArray[np.uint8]:
    """The picture as an array of shape (height, width, 4), red, green, blue and alpha from 0 to 255."""
    pixels = np.asarray(iio.imread(data, index=0))
    if pixels.dtype != np.uint16:
        return np.asarray(iio.imread(data, index=0, mode="RGBA"))
    pixels = (pixels // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.shape[-1] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    return pixels
